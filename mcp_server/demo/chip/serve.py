"""One virtual chip from its start to its end: flash, board, port, orders on stdin, events on stdout."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcp_server.demo.chip.board import Board
from mcp_server.demo.chip.boot import BootSettings
from mcp_server.demo.chip.faults import Faults
from mcp_server.demo.chip.flash import NorFlash
from mcp_server.demo.chip.pty_port import PtyPort
from mcp_server.demo.chip.tcp_port import TcpPort
from mcp_server.errors import BadInput

_MAX_ORDER = 4096  # bytes of a line on stdin


@dataclass(frozen=True)
class Settings:
    """All that the command line says. `tcp`: the port's number, for `way` "rfc2217" and "socket"."""

    flash: Path
    flash_size: int
    boot: BootSettings
    mac: str
    faults: Faults
    way: str = "pty"
    tcp: int = 0
    link: Path | None = None
    baud: int | None = None
    orders: bool = False
    """Read orders from stdin, one JSON object a line: {"op": "reset"}, {"op": "vanish", "back_after_s": 1}."""
    while_stdin: bool = False
    """End when stdin ends."""


class Running:
    """A chip that runs in this process's event loop. `tell` gets its events."""

    def __init__(self, settings: Settings, flash: NorFlash, tell: Callable[..., None]) -> None:
        self._settings, self._tell = settings, tell
        self.board = Board(
            settings.boot,
            flash,
            settings.faults,
            settings.mac,
            lines=settings.way == "rfc2217",
            baud=settings.baud,
            tell=tell,
            vanish=lambda: self.vanish(settings.faults.back_after_s),
        )
        self._port: PtyPort | TcpPort | None = None
        self._back: asyncio.Task[None] | None = None
        self._tcp = settings.tcp

    async def open_port(self) -> None:
        """BadInput where the link or the TCP port cannot be had."""
        board, settings = self.board, self._settings
        if settings.way == "pty":
            port = PtyPort(board.uart, self._opened, self._closed, settings.link)
        else:
            port = TcpPort(board.uart, self._opened, self._closed, board.lines if settings.way == "rfc2217" else None)
            try:
                await port.listen(self._tcp)
            except OSError as error:
                raise BadInput(settings.way, f"127.0.0.1:{self._tcp} cannot be had: {error.strerror}") from error
            self._tcp = int(port.path.rpartition(":")[2])  # the same again after it was gone
        self._port = board.uart.port = port
        self._tell("port", port=port.path)

    def vanish(self, back_after_s: float | None) -> None:
        """The cable is pulled: the port is gone, and back after that time; None for never."""
        if self._port is None:
            return
        self._close_port()
        self.board.unplugged()
        self._tell("gone")
        if back_after_s is not None:
            self._back = asyncio.get_running_loop().create_task(self._come_back(back_after_s))

    async def _come_back(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self.open_port()

    async def end(self) -> None:
        """Nothing of it is left when this returns."""
        if self._back:
            self._back.cancel()
        self._close_port()
        await self.board.end()

    def _close_port(self) -> None:
        if self._port:
            self._port.close()
        self._port = self.board.uart.port = None

    def _opened(self) -> None:
        self._tell("opened")
        self.board.opened()

    def _closed(self) -> None:
        self._tell("closed")
        self.board.closed()


async def serve(settings: Settings, tell: Callable[..., None]) -> None:
    """Until SIGTERM, SIGINT, SIGHUP, or the end of stdin where the settings ask for it."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, over.set)
    with NorFlash(settings.flash, settings.flash_size) as flash:
        chip = Running(settings, flash, tell)
        try:
            await chip.open_port()
            if settings.orders or settings.while_stdin:
                _follow_stdin(chip, settings, over)
            await over.wait()
        finally:
            if settings.orders or settings.while_stdin:
                loop.remove_reader(0)
            await chip.end()


def _follow_stdin(chip: Running, settings: Settings, over: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    waiting = bytearray()

    def read() -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(0, _MAX_ORDER)
        if not data:
            loop.remove_reader(0)
            over.set()
        elif settings.orders:
            waiting.extend(data)
            *lines, rest = bytes(waiting).split(b"\n")
            waiting[:] = rest[-_MAX_ORDER:]
            for line in lines:
                _obey(chip, line)

    try:
        loop.add_reader(0, read)
    except OSError:  # a file or /dev/null, which cannot be waited for: it has ended already
        over.set()


def _obey(chip: Running, line: bytes) -> None:
    try:
        order = json.loads(line)
        if order["op"] == "reset":
            chip.board.reset()
        elif order["op"] == "vanish":
            chip.vanish(order.get("back_after_s"))
    except (ValueError, KeyError, TypeError):
        print(f"virtual chip: no order: {line[:80]!r}", file=sys.stderr)  # noqa: T201
