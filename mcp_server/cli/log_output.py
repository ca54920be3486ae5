"""Logs on their way to stdout: slices as text, a followed one as bytes."""

import asyncio
import dataclasses
import math
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp_server.cli import screen
from mcp_server.cli.words import typed
from mcp_server.errors import Elsewhere, NotFound

if TYPE_CHECKING:
    from mcp_server.logs import LogSlice
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import BuildView

# On a terminal colours pass; what moves the cursor, renames the window or answers into the keyboard does not.
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-OQ-WYZ\\`-~])?"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2(?:\x80[\xa8-\xae]|\x81[\xa6-\xa9])"
)
_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")
_OPEN = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)|\xc2|\xe2[\x80\x81]?)\Z")
AGAIN_S = 0.2
_LONGEST = 4096  # bytes of a sequence that the next piece may complete


class TerminalFilter:
    """Takes a log in pieces that may be cut anywhere, and gives what is safe to show. `coloured` False: no colours."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        found = _OPEN.search(data, max(0, len(data) - _LONGEST))
        cut = found.start() if found else len(data)
        self._rest = data[cut:]
        # One pass: what is left over of two broken sequences cannot make a whole one.
        return _SEQUENCE.sub(self._kept, data[:cut])

    def _kept(self, found: re.Match[bytes]) -> bytes:
        return found[0] if self._coloured and _COLOUR.fullmatch(found[0]) else b""


async def follow(orchestrator: "Orchestrator", build: str, stage: str | None) -> int:
    """Write a stage's log until its job is over, having waited for its beginning."""
    target = sys.stdout.buffer
    show = screen.out()
    filtering = TerminalFilter(coloured=not show.console.no_color) if show.console.is_terminal else None

    def write(piece: bytes) -> None:
        target.write(filtering.feed(piece) if filtering else piece)
        target.flush()

    await from_its_beginning(orchestrator, build, stage, write)
    return 0


async def from_its_beginning(
    orchestrator: "Orchestrator", build: str, stage: str | None, write: Callable[[bytes], None]
) -> None:
    """Give `write` a stage's log until its job is over, having waited for its beginning. NotFound: none will come."""
    while True:
        await begun(orchestrator, build, stage)
        try:
            await orchestrator.follow_log(build, stage, write)
        except Elsewhere:
            raise
        except NotFound:
            if not (await orchestrator.get(build)).build.status.is_open:
                raise
            await orchestrator.wait(build, AGAIN_S)  # its row is written before its job is started
        else:
            return


async def begun(orchestrator: "Orchestrator", build: str, stage: str | None) -> None:
    """Return once a job of the stage exists, or none can come any more."""
    ready = asyncio.Event()

    async def look(view: "BuildView") -> None:
        if not view.build.status.is_open or any(row.job_id and stage in (None, row.stage) for row in view.stages):
            ready.set()
        elif stage is not None and stage not in {
            spec.name for spec in (*view.build.plan.stages, view.build.plan.fix) if spec
        }:
            ready.set()  # follow_log says which stages there are

    waiting = asyncio.create_task(orchestrator.wait(build, math.inf, look))
    begun = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({waiting, begun}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()  # there may be no such build
    finally:
        for task in (waiting, begun):
            task.cancel()
        await asyncio.wait({waiting, begun})


def print_slice(build: str, piece: "LogSlice", *, json: bool) -> None:
    """A slice on stdout; what is to be said about it on stderr."""
    if json:
        screen.print_json(dataclasses.asdict(piece))
        return
    out, err = screen.out(), screen.err()
    if piece.text:
        out.say(piece.text)
    elif not piece.note:
        err.say(f"the log of stage {piece.stage} is empty here")
    if piece.note:
        err.say(piece.note)
    if piece.next_offset is not None:
        err.say(f"more: {typed()} logs {build} {piece.stage} --offset {piece.next_offset}")
