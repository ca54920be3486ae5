"""The code agents there are: those built in and those of config.yaml, which can be used, and which is the default."""

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import SecretStr

from mcp_server.agents.base import EXTRA, Agent, Availability, Capabilities
from mcp_server.agents.opencode_rules import PASSWORD
from mcp_server.agents.task import AgentSettings, Provider
from mcp_server.config import Agent as Configured
from mcp_server.config import Agents
from mcp_server.config_agents import BUILT_IN
from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.yaml_model import nearest

AVAILABLE_S = 3.0  # a provider's own look takes two at most
HOW_TO = f"{EXTRA} and set ANTHROPIC_API_KEY, or install Claude Code or OpenCode"

_PLACES: Mapping[Provider, tuple[str, str]] = {
    "claude": ("claude", "ClaudeAgent"),
    "anthropic": ("anthropic_api", "AnthropicAgent"),
    "ollama": ("anthropic_api", "OllamaAgent"),
    "acp": ("acp", "AcpAgent"),
    "opencode": ("opencode", "OpenCodeAgent"),
    "patch": ("patch_agent", "PatchAgent"),
}
PATCH = "patch:"
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)

Resolve = Callable[[str | SecretStr], str]
"""What replaces references to secrets; raises EnvironmentMissing."""


def make(settings: AgentSettings) -> Agent:
    """The provider of an agent. Its SDK is imported only once it runs."""
    module, name = _PLACES[settings.provider]
    provider = getattr(importlib.import_module(f"mcp_server.agents.{module}"), name)
    return cast(Callable[[AgentSettings], Agent], provider)(settings)


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent as it is listed. `default`: taken where none is named."""

    name: str
    provider: Provider
    availability: Availability
    capabilities: Capabilities
    default: bool


class Registry:
    """Agents by name. `environment` is the one in which programs are looked for and keys are seen, a worker's.

    Making it costs nothing; BadInput: `agents.default` names none.
    """

    def __init__(
        self, agents: Agents, environment: Mapping[str, str], maker: Callable[[AgentSettings], Agent] = make
    ) -> None:
        self._configured, self._environment, self._make = agents, environment, maker
        named = sorted(set(agents.named) - set(BUILT_IN))
        self._settings = {name: _settings(name, agents.named.get(name)) for name in (*BUILT_IN, *named)}
        if agents.default is not None and agents.default not in self._settings:
            near = nearest(agents.default, list(self._settings))
            raise BadInput("agents.default", f"no agent '{agents.default[:60]}'{near}")

    @property
    def names(self) -> Sequence[str]:
        """In the order in which a default is looked for."""
        return list(self._settings)

    async def get(self, name: str | None = None) -> Agent:
        """The named agent, whether it can be used or not; unnamed: the default, else the first that can be used.

        BadInput: no such agent. EnvironmentMissing: none is named, and none can be used.
        """
        return self._make(self.settings(name or await self._default()))

    async def usable(self, name: str | None = None) -> Agent:
        """Like `get`, but EnvironmentMissing where it cannot be used: what is missing, and what brings it."""
        agent = await self.get(name)
        found = await self._look(agent)
        if not found.available:
            raise EnvironmentMissing(f"the agent {agent.name} cannot be used: {found.text}")
        return agent

    def settings(self, name: str) -> AgentSettings:
        """What a job is told of an agent; `patch:PATH` is one that applies diffs. BadInput: no such agent."""
        if name.startswith(PATCH):
            diffs = Path(name.removeprefix(PATCH)).expanduser().absolute()
            return AgentSettings(name=f"{PATCH}{diffs}", provider="patch", patch=str(diffs))
        if name not in self._settings:
            raise BadInput("agent", f"no agent '{name[:60]}'{nearest(name, list(self._settings))}")
        return self._settings[name]

    def environment(self, name: str, resolve: Resolve) -> Mapping[str, str]:
        """What an agent is given beside the environment of every job: what it wants, and what config.yaml adds.

        Keys of other agents are not in it. EnvironmentMissing: a secret that is referred to is not set.
        """
        settings = self.settings(name)
        given = {key: self._environment[key] for key in self._make(settings).wants if key in self._environment}
        if (configured := self._configured.named.get(name)) is None:
            return given
        if configured.password is not None:
            given[PASSWORD] = resolve(configured.password)
        return given | {key: resolve(value) for key, value in configured.env.items()}

    def masked(self, name: str) -> tuple[str, ...]:
        """The variables of `environment` whose values no log shows: keys by their names, and what is a reference."""
        configured = self._configured.named.get(name)
        added: Mapping[str, str] = configured.env if configured else {}
        names = {*self._make(self.settings(name)).wants, *added, PASSWORD}
        return tuple(sorted(one for one in names if _SECRET.search(one) or "${" in added.get(one, "")))

    async def listing(self) -> Sequence[AgentView]:
        """All of them, looked at at once."""
        agents = [self._make(settings) for settings in self._settings.values()]
        found = await asyncio.gather(*map(self._look, agents))
        default = self._configured.default
        if default is None:
            default = next((agent.name for agent, look in zip(agents, found, strict=True) if look.available), None)
        return [
            AgentView(agent.name, self._settings[agent.name].provider, look, agent.capabilities, agent.name == default)
            for agent, look in zip(agents, found, strict=True)
        ]

    async def _default(self) -> str:
        if self._configured.default is not None:
            return self._configured.default
        for view in await self.listing():
            if view.default:
                return view.name
        raise EnvironmentMissing(f"no code agent can be used here: {HOW_TO}; `build-orchestrator agents` says more")

    async def _look(self, agent: Agent) -> Availability:
        """What an agent itself says, in time; one that fails is not there."""
        configured = self._configured.named.get(agent.name)
        environment = {**self._environment, **(configured.env if configured else {})}
        try:
            async with asyncio.timeout(AVAILABLE_S):
                return await agent.availability(environment)
        except TimeoutError:
            return Availability(False, f"gave no answer within {AVAILABLE_S:g} s")
        except Exception as error:
            return Availability(False, f"cannot be looked at: {type(error).__name__}")


def _settings(name: str, configured: Configured | None) -> AgentSettings:
    provider, acp = BUILT_IN.get(name, ("acp", ()))
    if configured is None:
        return AgentSettings(name=name, provider=provider, acp=acp)
    if configured.acp:
        provider, acp = "acp", configured.acp
    elif configured.url and provider == "acp":
        provider, acp = "opencode", ()
    return AgentSettings(
        name=name,
        provider=provider,
        acp=acp,
        url=configured.url,
        username=configured.username,
        model=configured.model,
        timeout_s=configured.timeout,
        max_turns=configured.max_turns,
        max_tokens=configured.max_tokens,
        max_cost_usd=configured.max_cost_usd,
    )
