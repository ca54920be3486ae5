"""`monitor`: a serial session on this terminal, until Ctrl-C."""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mcp_server.cli import log_output, screen
from mcp_server.cli.follow import lines_typed, signals_heard
from mcp_server.errors import OrchestratorError
from mcp_server.idf.monitor import BoardBytes

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


async def watch(orchestrator: "Orchestrator", port: str | None, host: str, baud: int, *, raw: bool, reset: bool) -> int:
    """0 once the person leaves or the session is closed, 1 where it ended by itself."""
    err = screen.err()
    async with signals_heard() as heard:
        started = await orchestrator.devices.open_session(port, host, baud=baud)
        number = started.build.id
        err.say(f"session {number}{' was open already' if started.joined else ''}: Ctrl-C leaves, typed lines are sent")
        shown = asyncio.create_task(_show(orchestrator, number, raw=raw))
        typed = asyncio.create_task(_send_typed(orchestrator, number, reset=reset))
        leaving = asyncio.create_task(heard.get())
        try:
            await asyncio.wait({shown, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (shown, typed, leaving):
                task.cancel()
            await asyncio.wait({shown, typed, leaving})
        if shown.done() and not shown.cancelled():
            shown.result()
            view = await orchestrator.wait(number, 5)
            err.say(f"session {number} ended: {view.stages[-1].verdict.summary if view.stages[-1].verdict else ''}")
            return 0 if view.build.status == "success" else 1
        if started.joined:
            err.say(f"session {number} stays open")
        else:
            err.say(await orchestrator.devices.close_session(number))
        return 0


async def _show(orchestrator: "Orchestrator", number: int, *, raw: bool) -> None:
    """Write the session's log as it comes."""
    out, target, board = screen.out(), sys.stdout.buffer, BoardBytes()
    filtering = log_output.TerminalFilter(coloured=not out.console.no_color) if out.console.is_terminal else None

    def write(piece: bytes) -> None:
        piece = board.feed(piece) if raw else piece
        target.write(filtering.feed(piece) if filtering else piece)
        target.flush()

    await log_output.begun(orchestrator, str(number), None)
    await orchestrator.follow_log(number, None, write)


async def _send_typed(orchestrator: "Orchestrator", number: int, *, reset: bool) -> None:
    """Give what is typed to the board, line by line, until nobody types any more."""
    await log_output.begun(orchestrator, str(number), None)
    if reset:
        await _tell(orchestrator.devices.send(number, "", reset=True))
    if not sys.stdin.isatty():
        return
    async with lines_typed() as typed:
        while line := await typed.get():
            await _tell(orchestrator.devices.send(number, line))


async def _tell(sending: Awaitable[str]) -> None:
    """Send; why that did not go is said, and the session goes on."""
    try:
        await sending
    except OrchestratorError as error:
        screen.err().say(str(error))
