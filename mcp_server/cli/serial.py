"""`monitor`: a serial session on this terminal, until Ctrl-C."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli import log_output, screen
from mcp_server.cli.follow import signals_heard
from mcp_server.errors import OrchestratorError
from mcp_server.idf.monitor import BoardBytes

if TYPE_CHECKING:
    from mcp_server.cli.follow import Signals
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import Started

TYPED_BYTES = 2048  # sent at a time
CLOSE_S = 10


def port_named(port: str | None, host: str) -> str | None:
    """A path of this machine that is not absolute is meant from here; the worker has another folder."""
    if port and host == "local" and "/" in port and "://" not in port and Path(port).exists():
        return str(Path(port).absolute())
    return port


async def watch(
    orchestrator: "Orchestrator", port: str | None, host: str, baud: int | None, *, raw: bool, reset: bool
) -> int:
    """0 once the person leaves or the session is closed, 1 where it ended by itself."""
    async with signals_heard() as heard:
        started = await orchestrator.devices.open_session(port_named(port, host), host, baud=baud)
        try:
            return await _watched(orchestrator, started, heard, raw=raw, reset=reset)
        except BaseException:
            if not started.joined:  # nobody else knows of it, and it would keep the port
                with suppress(OrchestratorError, TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await orchestrator.devices.close_session(started.build.id)
            raise


async def _watched(
    orchestrator: "Orchestrator", started: "Started", heard: "Signals", *, raw: bool, reset: bool
) -> int:
    err, number = screen.err(), started.build.id
    err.say(f"session {number}{' was open already' if started.joined else ''}: Ctrl-C leaves, typed lines are sent")
    begun = asyncio.Event()
    shown = asyncio.create_task(_show(orchestrator, number, begun, raw=raw))
    typed = asyncio.create_task(_send_typed(orchestrator, number, begun, reset=reset))
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


async def _show(orchestrator: "Orchestrator", number: int, begun: asyncio.Event, *, raw: bool) -> None:
    """Write the session's log as it comes; `begun` once there is some, so that the port is open."""
    out, target, board = screen.out(), sys.stdout.buffer, BoardBytes()
    filtering = log_output.TerminalFilter(coloured=not out.console.no_color) if out.console.is_terminal else None

    def write(piece: bytes) -> None:
        begun.set()
        piece = board.feed(piece) if raw else piece
        target.write(filtering.feed(piece) if filtering else piece)
        target.flush()

    await log_output.from_its_beginning(orchestrator, str(number), None, write)


async def _send_typed(orchestrator: "Orchestrator", number: int, begun: asyncio.Event, *, reset: bool) -> None:
    """Give the board what is typed, or what comes in a pipe or a file, until its end; the session goes on after it."""
    await begun.wait()
    if reset:
        await _tell(orchestrator.devices.send(number, "", reset=True))
    async with aclosing(_typed()) as typed:
        async for text in typed:
            await _tell(orchestrator.devices.send(number, text))


async def _typed() -> AsyncGenerator[str]:
    """What comes on stdin, to its end; more of it is read once that was sent. Any byte stays what it is."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError):  # it was closed before we began
        return
    while True:
        await _readable(descriptor)
        try:
            data = os.read(descriptor, TYPED_BYTES)
        except OSError:  # its terminal is gone
            return
        if not data:
            return
        yield data.decode("utf-8", "surrogateescape")


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # a file or /dev/null: there is nothing to wait for
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _tell(sending: Awaitable[str]) -> None:
    """Send; why that did not go is said, and the session goes on."""
    try:
        await sending
    except OrchestratorError as error:
        screen.err().say(str(error))
