"""Follow a build until it is over or the person leaves; the build never depends on who watches it."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mcp_server.cli.screen import err
from mcp_server.errors import Conflict, StoreError

if TYPE_CHECKING:
    from mcp_server.cli.screen import Screen
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import BuildView

T = TypeVar("T")
LEAVE = (signal.SIGTERM, signal.SIGHUP)
AGAIN_S, MOST_AWAY_S = 1.0, 600.0  # a shared database that does not answer is asked again, for so long


class Display(Protocol):
    """Shows a build while it is followed."""

    async def update(self, view: "BuildView") -> None:
        """Show the build as it is now."""
        ...

    def pause(self) -> None:
        """Leave the terminal alone until the next update."""
        ...


@dataclass(slots=True)
class _Gate:
    """Lets updates through to a display, and holds them back while a question stands on its terminal."""

    display: Display
    newest: "BuildView | None" = None  # set by the first update, which comes at once
    shut: bool = False

    async def update(self, view: "BuildView") -> None:
        self.newest = view
        if not self.shut:
            await self.display.update(view)

    def close(self) -> None:
        self.shut = True
        self.display.pause()

    def pause(self) -> None:
        self.display.pause()

    async def open(self) -> None:
        self.shut = False
        if self.newest is not None:
            await self.display.update(self.newest)


@dataclass(frozen=True, slots=True)
class Followed:
    """How following ended: with the build, or with the signal that made us leave it."""

    view: "BuildView"
    left_by: signal.Signals | None = None


Signals = asyncio.Queue[signal.Signals]


@asynccontextmanager
async def signals_heard() -> AsyncGenerator[Signals]:
    """SIGINT, SIGTERM and SIGHUP as a queue: enter it before anything is started that they should not tear."""
    heard: Signals = asyncio.Queue()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, *LEAVE)
    for number in numbers:
        loop.add_signal_handler(number, heard.put_nowait, number)
    try:
        yield heard
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def follow(
    orchestrator: "Orchestrator", build: int, display: Display, heard: Signals, screen: "Screen | None"
) -> Followed:
    """Follow a build. SIGINT asks on `screen` whether to leave or to cancel; without one it leaves, as SIGTERM does."""
    gate = _Gate(display)
    waiting = asyncio.create_task(to_its_end(orchestrator, build, gate))
    try:
        while True:
            number = await _first(heard.get(), waiting)
            if number is None:
                return Followed(await waiting)
            if number in LEAVE or screen is None:
                return Followed(gate.newest or await orchestrator.get(build), number)
            gate.close()
            answer = await _first(_ask(build, heard, screen), waiting)
            if answer is None:
                screen.say("")  # nobody typed the end of the question's line
            if answer == "detach":
                return Followed(gate.newest or await orchestrator.get(build), number)
            if answer == "cancel":
                try:
                    await orchestrator.cancel(build)
                except Conflict:
                    pass  # it has ended while the person thought about it
                except StoreError as error:
                    screen.say(f"it was not cancelled: {error}")
            await gate.open()
    finally:
        display.pause()
        waiting.cancel()
        await asyncio.wait({waiting})


async def to_its_end(orchestrator: "Orchestrator", build: int, display: Display) -> "BuildView":
    """The build once it is over, shown until then; a shared database may be away for ten minutes meanwhile."""
    since, told = orchestrator.clock.monotonic(), float("-inf")

    async def seen(view: "BuildView") -> None:
        nonlocal since
        since = orchestrator.clock.monotonic()
        await display.update(view)

    while True:
        try:
            return await orchestrator.wait(build, math.inf, seen)
        except StoreError as error:
            if not (await orchestrator.store()).is_shared or orchestrator.clock.monotonic() - since >= MOST_AWAY_S:
                raise
            if since > told:
                display.pause()
                err().say(f"build {build} goes on, and is followed again when the database answers: {error}")
                told = orchestrator.clock.monotonic()
            await orchestrator.clock.sleep(AGAIN_S)


async def _first(asked: Coroutine[Any, Any, T], waiting: "asyncio.Task[Any]") -> T | None:
    """What `asked` gives; None where `waiting` is over first."""
    task = asyncio.create_task(asked)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return None if waiting.done() else task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _ask(build: int, heard: Signals, screen: "Screen") -> str:
    """`detach`, `cancel` or `follow`; a second Ctrl-C and a closed terminal mean the first."""
    question = f"build {build} goes on. Detach or cancel? [d]etach, [c]ancel, Enter follows on: "
    async with lines_typed() as typed:
        while True:
            screen.ask(f"\r\n{question}")
            again = asyncio.create_task(heard.get())
            try:
                line = await _first(typed.get(), again)
            finally:
                again.cancel()
                await asyncio.wait({again})
            if not line:  # the second Ctrl-C, or no one is left to type
                screen.say("")
                return "detach"
            word = line.strip().lower()
            for answer in ("detach", "cancel"):
                if word and answer.startswith(word):
                    return answer
            if not word:
                return "follow"


@asynccontextmanager
async def lines_typed() -> AsyncGenerator[asyncio.Queue[str]]:
    """Lines from the terminal, without a thread that could not be stopped; "" once it is closed."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        try:
            data = os.read(descriptor, 1024)  # a terminal gives whole lines, and only once there is one
        except OSError:
            data = b""
        lines.put_nowait(data.decode("utf-8", "replace"))
        if not data:
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, read)
    try:
        yield lines
    finally:
        loop.remove_reader(descriptor)
