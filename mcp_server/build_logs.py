"""Logs of stages, wherever they are: a slice of one, or all of it as it grows.

May import: elsewhere, errors, hosts, logs, model, references. Never: engine, a front.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

from mcp_server import elsewhere, references
from mcp_server.errors import Elsewhere, NotFound
from mcp_server.hosts.gap import is_hole
from mcp_server.logs import LogSlice, Wish

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


async def log(orchestrator: "Orchestrator", reference: int | str, stage: str | None, **wish: Unpack[Wish]) -> LogSlice:
    """A slice. NotFound: there is none."""
    view = await orchestrator.get(reference)
    row = references.stage_with_log(view.build, view.stages, stage)
    try:
        return await elsewhere.slice_of(orchestrator, view, row, wish)
    except Elsewhere:
        raise
    except NotFound:
        if not row.status.is_open:
            raise
        return LogSlice(row.stage, "", note="nothing printed yet")  # its row is there, its job starts just now


async def follow(
    orchestrator: "Orchestrator", reference: int | str, stage: str | None, write: Callable[[bytes], None]
) -> None:
    """Write a log from its first byte until its job is over. NotFound: there is none."""
    view = await orchestrator.get(reference)
    row = references.stage_with_log(view.build, view.stages, stage)
    assert row.job_id is not None
    told = False
    async for piece in (await elsewhere.host_of(orchestrator, view, row)).follow(row.job_id):
        if not is_hole(piece):
            write(piece)
        elif not told:
            write(b"\n[build-orchestrator: the middle of this log was not kept]\n")
            told = True
