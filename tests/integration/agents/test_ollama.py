"""The `ollama` agent, and what is said where no model can be asked: no key, nobody there."""

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from mcp_server.agents.anthropic_api import AnthropicAgent, OllamaAgent
from mcp_server.agents.base import AgentRequest
from tests.integration.agents.test_anthropic_api import CHECK, FIX, KEY, Given, Heard, ask
from tests.support.scripted_model import Say, ScriptedModel

pytestmark = pytest.mark.usefixtures("sdk")


async def test_nobody_there_is_said(project: Path) -> None:
    """Ours."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with ScriptedModel([Say("ok")]) as model:
            result = await ask(model, project, agent=AnthropicAgent(Given("anthropic", url=url), retries=0))

    assert result.stopped == "error"
    assert "cannot be reached" in result.text


async def test_without_a_key_it_says_how_to_get_one(project: Path) -> None:
    """Ours."""
    agent = AnthropicAgent(Given("anthropic"))
    request = AgentRequest(prompt="x", folder=str(project))

    assert "set ANTHROPIC_API_KEY" in (await agent.availability({})).text
    assert (await agent.availability({"ANTHROPIC_API_KEY": KEY})).available
    assert (await agent.run(request, {}, Heard().append)).text.startswith("there is no key: set ANTHROPIC_API_KEY")


async def test_ollama_is_found_and_used(project: Path) -> None:
    """Facts. OLLAMA_HOST without scheme, the first model it has, a dummy bearer key, no price, no cache marks."""
    gets = {"/api/version": {"version": "0.40.1"}, "/api/tags": {"models": [{"name": "qwen3-coder:30b"}]}}
    with ScriptedModel(FIX, gets=gets) as model:
        environment = {"PATH": os.environ["PATH"], "OLLAMA_HOST": model.url.removeprefix("http://")}
        agent = OllamaAgent(Given("ollama"))
        availability = await agent.availability(environment)
        request = AgentRequest(prompt="mend it", folder=str(project), commands=(CHECK,), max_cost_usd=0.0001)
        async with asyncio.timeout(20):
            result = await agent.run(request, environment, Heard().append)

    assert (availability.available, availability.text) == (True, f"Ollama 0.40.1 at {model.url}")
    assert (result.stopped, result.usage.cost_usd) == ("end", None)
    assert "a + b" in (project / "calc.py").read_text()
    assert {body["model"] for body in model.requests} == {"qwen3-coder:30b"}
    assert model.headers[0]["authorization"] == "Bearer ollama"
    assert "cache_control" not in str(model.requests)


async def test_ollama_that_is_silent_is_given_up_soon() -> None:
    """Ours. A host that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        found = await OllamaAgent(Given("ollama")).availability({"OLLAMA_HOST": f"127.0.0.1:{silent.getsockname()[1]}"})

    assert time.monotonic() - begun < 4
    assert not found.available
    assert "ollama serve" in found.text
