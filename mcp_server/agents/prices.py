"""What an answer of a hosted model costs, where its maker's list price is known here.

Prices are US dollars a million tokens, from https://platform.claude.com/docs/en/about-claude/pricing as of
2026-10-24; a model that is not listed has no price rather than a guessed one.
"""

from dataclasses import dataclass

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one answer. `cached` were read from the cache, `stored` written to it (kept five minutes)."""

    fresh: int = 0
    stored: int = 0
    cached: int = 0
    output: int = 0

    @property
    def input(self) -> int:
        """All that the model read."""
        return self.fresh + self.stored + self.cached


@dataclass(frozen=True, slots=True)
class Price:
    """Input, input that is stored, input read from the store, output."""

    fresh: float
    stored: float
    cached: float
    output: float

    def of(self, tokens: Tokens) -> float:
        """US dollars."""
        return (
            tokens.fresh * self.fresh
            + tokens.stored * self.stored
            + tokens.cached * self.cached
            + tokens.output * self.output
        ) / _MILLION


_OPUS_5 = Price(5, 6.25, 0.50, 25)
_PRICES = {
    "claude-fable-5-1": Price(10, 12.50, 0.25, 50),
    "claude-fable-5": Price(10, 12.50, 1, 50),
    "claude-opus-5-5": Price(4, 5, 0.20, 20),
    "claude-opus-5": _OPUS_5,
    "claude-opus-4-8": _OPUS_5,
    "claude-opus-4-7": _OPUS_5,
    "claude-opus-4-6": _OPUS_5,
    "claude-opus-4-5": _OPUS_5,
    "claude-sonnet-5-5": Price(2, 2.50, 0.10, 10),
    "claude-sonnet-5": Price(2, 2.50, 0.20, 10),
    "claude-sonnet-4-6": Price(3, 3.75, 0.30, 15),
    "claude-sonnet-4-5": Price(3, 3.75, 0.30, 15),
    "claude-haiku-4-5": Price(1, 1.25, 0.10, 5),
}
DEAREST = Price(10, 12.50, 1, 50)
"""Of those above. A limit on money is kept by it where a model's own price is not known: too early, never too late."""

_LONG_PROMPT = 100_000  # tokens; Haiku 5.5 has a second price for every token of a request beyond it
_HAIKU_5_5 = Price(0.10, 0.125, 0.01, 0.50), Price(0.50, 0.625, 0.05, 2.50)


def price_of(model: str, tokens: Tokens) -> Price | None:
    """The price of one answer of that size. A date behind the name (`-20250929`) is the same model."""
    name = model.rsplit("-", 1)[0] if len(model.rsplit("-", 1)[-1]) == 8 and model[-8:].isdigit() else model
    if name == "claude-haiku-5-5":
        return _HAIKU_5_5[tokens.input > _LONG_PROMPT]
    return _PRICES.get(name)
