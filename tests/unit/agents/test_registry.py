"""Which code agents there are, which one is taken, and what each is given."""

import asyncio
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from mcp_server.agents.base import AgentRequest, Availability, Capabilities
from mcp_server.agents.opencode_rules import PASSWORD
from mcp_server.agents.registry import Registry, make
from mcp_server.agents.task import AgentSettings
from mcp_server.config import Agent, Agents
from mcp_server.errors import BadInput, EnvironmentMissing
from tests.support.scripted_agent import ScriptedAgent


class Fake(ScriptedAgent):
    """Is there if the environment says so; wants its own key."""

    capabilities = Capabilities(resume=True)

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__(settings)
        self.wants = (f"{settings.name.upper()}_KEY",)

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        match environment.get(self.name, ""):
            case "hangs":
                await asyncio.Event().wait()
            case "fails":
                raise RuntimeError("no")
            case said:
                return Availability(bool(said), said or f"install {self.name}")
        raise AssertionError


def agents(default: str | None = None, **named: Agent) -> Agents:
    return Agents.model_validate({"default": default, **{name: agent.model_dump() for name, agent in named.items()}})


def registry(configured: Agents | None = None, **environment: str) -> Registry:
    return Registry(configured or Agents(), environment, Fake)


async def test_built_in_agents_are_there_without_configuration() -> None:
    """Issue."""
    assert registry().names == ["claude", "opencode", "anthropic", "ollama"]
    assert registry().settings("opencode").acp == ("opencode", "acp")


async def test_first_that_can_be_used_is_the_default() -> None:
    """Ours. In the order of the names that are built in, then those of the configuration by their names."""
    more = agents(zeta=Agent(acp=("z",)), alpha=Agent(acp=("a",)))

    assert (await registry(more, ollama="1", anthropic="1", alpha="1").get()).name == "anthropic"
    assert (await registry(more, zeta="1", alpha="1").get()).name == "alpha"


async def test_configured_default_is_taken_even_where_it_is_missing() -> None:
    """Ours. Another one than was asked for would be a surprise that costs money."""
    found = registry(agents("ollama"), claude="1")

    assert (await found.get()).name == "ollama"
    with pytest.raises(EnvironmentMissing, match="the agent ollama cannot be used: install ollama"):
        await found.usable()


async def test_no_agent_at_all_says_how_to_get_one() -> None:
    """Issue."""
    with pytest.raises(EnvironmentMissing, match=r"no code agent can be used here: .* -m pip install .*\[agents\]"):
        await registry().get()


async def test_unknown_agent_is_told_with_the_nearest() -> None:
    """Ours. Also where the configuration was changed beside its check."""
    with pytest.raises(BadInput, match="agent: no agent 'cluade'; did you mean 'claude'"):
        await registry().get("cluade")
    with pytest.raises(BadInput, match=r"agents\.default: no agent 'olama'; did you mean 'ollama'"):
        registry(agents("olama"))


async def test_configuration_overrides_and_adds() -> None:
    """Issue. A command makes it an agent of the protocol, a url an OpenCode server; of others it is their API's."""
    found = registry(
        agents(
            claude=Agent(acp=("claude-agent-acp",)),
            opencode=Agent(url="http://h:1", username="me", model="a/b"),
            ollama=Agent(url="http://o:1"),
            far=Agent(url="http://f:1", max_turns=3, max_tokens=4, max_cost_usd=5, timeout=60),
        )
    )

    assert [found.settings(name).provider for name in found.names] == [
        "acp",
        "opencode",
        "anthropic",
        "ollama",
        "opencode",
    ]
    assert (found.settings("opencode").username, found.settings("opencode").model) == ("me", "a/b")
    far = found.settings("far")
    request = AgentRequest(prompt="p", folder="/", max_turns=9)
    assert (far.completed(request).max_turns, far.completed(request).max_tokens, far.timeout_s) == (9, 4, 60)


async def test_agent_is_given_its_own_key_and_nothing_else() -> None:
    """Issue. References are resolved by whoever starts it."""
    configured = agents(far=Agent(url="http://f", password=SecretStr("${secret:P}"), env={"A": "${env:B}", "C": "d"}))
    found = registry(configured, FAR_KEY="mine", CLAUDE_KEY="another's", BUILD_ORCHESTRATOR_TOKEN="ours")

    given = found.environment(
        "far", lambda text: f"<{text.get_secret_value() if isinstance(text, SecretStr) else text}>"
    )

    assert given == {"FAR_KEY": "mine", PASSWORD: "<${secret:P}>", "A": "<${env:B}>", "C": "<d>"}
    assert set(found.masked("far")) == {"FAR_KEY", PASSWORD, "A"}


async def test_listing_tells_all_and_marks_the_default() -> None:
    """Ours. One that hangs or fails is not there, and keeps nobody waiting."""
    async with asyncio.timeout(5):
        views = await registry(claude="hangs", opencode="fails", anthropic="2.11").listing()

    assert [(view.name, view.availability.available, view.default) for view in views] == [
        ("claude", False, False),
        ("opencode", False, False),
        ("anthropic", True, True),
        ("ollama", False, False),
    ]
    assert views[0].availability.text == "gave no answer within 3 s"
    assert views[1].availability.text == "cannot be looked at: RuntimeError"
    assert views[2].provider == "anthropic" and views[2].capabilities.resume


@pytest.mark.parametrize("provider", ["acp", "opencode"])
async def test_provider_is_made_of_its_settings(provider: str) -> None:
    """Ours."""
    settings = AgentSettings.model_validate({"name": "x", "provider": provider, "acp": ("x",), "url": "http://x"})

    assert make(settings).name == "x"
