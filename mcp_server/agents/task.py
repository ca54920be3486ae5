"""What a job of an agent is told: which agent with which settings, and the task. No secret is in it.

Secrets reach an agent by its environment, which the job is given by whoever starts it.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from mcp_server.agents.base import MAX_PROMPT_BYTES, AgentRequest
from mcp_server.errors import BadInput
from mcp_server.model import Model

MAX_TASK_BYTES = 4 * MAX_PROMPT_BYTES  # a prompt whose letters are all escaped has at most three times its bytes

Provider = Literal["claude", "anthropic", "ollama", "acp", "opencode", "patch"]


class AgentSettings(Model):
    """An agent by its name, and what config.yaml says of it. `url` None: where its provider is by itself.

    `acp` is the command of one that speaks the Agent Client Protocol, `patch` the diffs of one that applies some.
    Budgets are those of a task that names none.
    """

    name: str
    provider: Provider
    acp: tuple[str, ...] = ()
    url: str | None = None
    username: str | None = None
    patch: str | None = None
    model: str | None = None
    timeout_s: float | None = None
    max_turns: int | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None

    def completed(self, request: AgentRequest) -> AgentRequest:
        """The request with this agent's model and budgets where it names none itself; its timeout is its own."""
        names = ("model", "max_turns", "max_tokens", "max_cost_usd")
        mine = {name: getattr(self, name) for name in names if getattr(request, name) is None}
        return request.model_copy(update=mine)


class AgentTask(Model):
    """The content of TASK.json. `masked` names environment variables whose values are not to be in the log."""

    agent: AgentSettings
    request: AgentRequest
    masked: tuple[str, ...] = ()


def read_task(path: Path) -> AgentTask:
    """The task in a file. BadInput: what is wrong with it, in one sentence."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TASK_BYTES + 1)
    except OSError as error:
        raise BadInput("task", f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_TASK_BYTES:
        raise BadInput("task", f"{path} has more than {MAX_TASK_BYTES:,} bytes")
    try:
        task = AgentTask.model_validate_json(content)
    except ValidationError as error:
        # Neither the input nor its URL: a prompt may hold anything.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise BadInput("task", f"{path} is no task of an agent: {place}: {first['msg'][:200]}") from None
    task.request.checked()
    return task
