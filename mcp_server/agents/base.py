"""The port of a code agent: one task in one folder, updates while it works, a result that says what it cost.

A task runs as a detached job (`python -m mcp_server.agents.run`), so that it outlives a worker, and so that its end
takes every process it started along. What it did to the folder is read from Git, never from what it says.
"""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from mcp_server.errors import BadInput
from mcp_server.model import Model

MAX_PROMPT_BYTES = 256 * 1024
MAX_TIMEOUT_S = 24 * 3600.0
MAX_UPDATE_BYTES = 2000  # of one update's text; an agent that prints endlessly is cut, not followed
EXTRA = f"{shlex.quote(sys.executable)} -m pip install 'build-orchestrator[agents]'"
"""What brings the SDKs, to where they are looked for: no other pip would."""
CANCEL_S = 5.0  # an agent that was told to stop has so long before it is killed


class AgentRequest(Model):
    """One task. `folder` is absolute and the only place where files may change; `commands` are those it may run.

    `closed` are folders below it in which nothing may be changed but by those commands: what builds make.
    `session` continues an earlier one where the agent can. Budgets that an agent cannot keep itself are kept for it by
    whoever reads its updates; None means none.
    """

    prompt: str
    folder: str
    commands: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    session: str | None = None
    model: str | None = None
    timeout_s: float = 1800.0
    max_turns: int | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None

    def checked(self) -> "AgentRequest":
        """Itself. BadInput: no prompt or one over 256 kB, a timeout outside 1 s to 24 h, a relative folder."""
        if not self.prompt.strip():
            raise BadInput("prompt", "is empty: say what the agent is to do")
        if (size := len(self.prompt.encode("utf-8", "surrogatepass"))) > MAX_PROMPT_BYTES:
            raise BadInput("prompt", f"has {size:,} bytes: an agent is given at most {MAX_PROMPT_BYTES:,}")
        if not 1 <= self.timeout_s <= MAX_TIMEOUT_S:
            raise BadInput("timeout", f"{self.timeout_s:g} s is not between 1 s and 24 h")
        if not self.folder.startswith("/"):
            raise BadInput("folder", f"{self.folder[:200]!r} is no absolute path")
        return self


class Usage(Model):
    """What was used so far, summed over the whole task. `cost_usd` None: the agent does not tell."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class Update(Model):
    """Something the agent said or did. `denied` is a request that the policy refused; `session` names its session."""

    kind: Literal["text", "tool", "denied", "session", "usage", "note"]
    text: str = ""
    usage: Usage | None = None


class AgentResult(Model):
    """How a task ended, which says nothing about whether it was done.

    `end`: the agent thinks it is done. `limit`: a budget was used up, `text` says which. `error`: `text` says why.
    """

    stopped: Literal["end", "limit", "cancelled", "refused", "error"]
    text: str = ""
    session: str | None = None
    usage: Usage = Field(default_factory=Usage)
    denied: int = 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an agent can: continue a session, tell its cost, keep a number of turns and an amount of money by itself."""

    resume: bool = False
    cost: bool = False
    turns: bool = False
    money: bool = False


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an agent can be used here: its version, or what is missing and the command that brings it."""

    available: bool
    text: str


Tell = Callable[[Update], None]


class Agent(Protocol):
    """One provider. `wants` names the environment variables that it is given beside those of every job."""

    name: str
    wants: tuple[str, ...]
    capabilities: Capabilities

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        """Looks at programs and settings only, within two seconds; asks no model."""
        ...

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        """One prompt to its end. Cancelling the task tells the agent to stop first and leaves no process behind.

        Never raises for what the agent or its server did: that is a result with `error`.
        """
        ...
