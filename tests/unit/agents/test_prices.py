"""What an answer costs, where a price is known."""

import pytest

from mcp_server.agents.anthropic_api import ollama_url
from mcp_server.agents.prices import _PRICES, DEAREST, Tokens, price_of


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("claude-opus-5-5", 4 + 5 + 0.20 + 20),
        ("claude-sonnet-4-5-20250929", 3 + 3.75 + 0.30 + 15),
        ("claude-haiku-5-5", 0.50 + 0.625 + 0.05 + 2.50),
    ],
)
def test_a_million_of_each(model: str, dollars: float) -> None:
    """Ours. A date behind the name is the same model."""
    tokens = Tokens(1_000_000, 1_000_000, 1_000_000, 1_000_000)
    price = price_of(model, tokens)

    assert price is not None
    assert price.of(tokens) == pytest.approx(dollars)


def test_short_prompt_is_cheaper_where_the_list_says_so() -> None:
    """Ours. Haiku 5.5: what counts is the whole input of one request."""
    short, long = (
        price_of("claude-haiku-5-5", Tokens(fresh=100_000)),
        price_of("claude-haiku-5-5", Tokens(50_000, 0, 50_001)),
    )

    assert (short and short.fresh, long and long.fresh) == (0.10, 0.50)


@pytest.mark.parametrize("model", ["qwen3-coder", "claude-opus-9", "claude", ""])
def test_unlisted_model_has_no_price(model: str) -> None:
    """Ours."""
    assert price_of(model, Tokens(1)) is None


def test_dearest_is_dearest() -> None:
    """Ours. A limit kept by it is never too late."""
    for price in _PRICES.values():
        assert price.fresh <= DEAREST.fresh
        assert price.stored <= DEAREST.stored
        assert price.cached <= DEAREST.cached
        assert price.output <= DEAREST.output


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:11434"),
        ("192.168.0.9", "http://192.168.0.9:11434"),
        ("box:1234", "http://box:1234"),
        (":1234", "http://localhost:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::1]", "http://[::1]:11434"),
        ("http://box:1234/", "http://box:1234"),
        ("http://box:1234/v1", "http://box:1234"),
        ("https://ollama.com", "https://ollama.com"),
    ],
)
def test_ollama_host_as_an_address(host: str, url: str) -> None:
    """Facts. OLLAMA_HOST in all its forms; the SDK adds /v1 itself."""
    assert ollama_url(host) == url
