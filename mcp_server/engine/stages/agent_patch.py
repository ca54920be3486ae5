"""`agent.patch`: the agent that applies a given diff, between two rounds."""

import sys

from mcp_server.engine.stages.base import Observer, Prepared, StageContext, result_of
from mcp_server.hosts.base import Exit
from mcp_server.idf.environment import job_environment
from mcp_server.model import Progress, Verdict


class _Tail:
    """Keeps the last lines that the agent printed."""

    progress: Progress | None = None
    decided = False

    def __init__(self) -> None:
        self.text = b""

    def feed(self, data: bytes) -> None:
        self.text = (self.text + data)[-2000:]


class AgentPatch:
    """Params: `patch` (a diff's file), `project` (the folder it is applied to)."""

    live = False

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        return Prepared(
            argv=[
                sys.executable,
                "-P",
                "-m",
                "mcp_server.agents.patch",
                context.params["patch"],
                context.params["project"],
            ],
            cwd=str(context.params["project"]),
            env=job_environment({}, context.environment, ()),
        )

    def observe(self, context: StageContext) -> Observer:
        return _Tail()

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, _Tail)
        text = observer.text.decode("utf-8", "replace").strip()
        return result_of(end).model_copy(update={"summary": text[-600:] or result_of(end).summary})
