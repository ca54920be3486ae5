"""A pty as the chip's port. Linux tells when it is opened and closed (inotify); elsewhere it asks.

Its speed is the one that the client set on its side; its lines do not exist.
"""

import asyncio
import contextlib
import ctypes
import os
import select
import struct
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from mcp_server.demo.chip.uart import Uart
from mcp_server.errors import BadInput

_READ = 1 << 16
_ASK_S = 0.1
_IN_OPEN, _IN_CLOSE = 0x20, 0x08 | 0x10
_EVENT = struct.Struct("iIII")
_SPEEDS = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdecimal()}


class PtyPort:
    """`opened` and `closed` are called for the first one who opens it and the last one who closes it."""

    def __init__(self, uart: Uart, opened: Callable[[], None], closed: Callable[[], None], link: Path | None) -> None:
        """BadInput: there is something at `link` that is no symbolic link."""
        self._uart, self._opened, self._closed, self._link = uart, opened, closed, link
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._openers = self._own_opens = self._own_closes = 0
        self._notify = -1
        self._asking: asyncio.TimerHandle | None = None
        self._master, inner = os.openpty()
        self.path = os.ttyname(inner)
        tty.setraw(inner)
        os.set_blocking(self._master, False)
        self._watch()
        os.close(inner)
        try:
            self._make_link()
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        if not self._openers:
            return
        self._out += data
        self._flush()

    def waiting(self) -> int:
        return len(self._out)

    def discard(self) -> None:
        self._out.clear()
        self._loop.remove_writer(self._master)
        with contextlib.suppress(termios.error):
            termios.tcflush(self._master, termios.TCOFLUSH)

    def baud(self) -> int | None:
        # On Linux the master tells the attributes that the client set.
        return _SPEEDS.get(termios.tcgetattr(self._master)[5])

    def close(self) -> None:
        """The port is gone: whoever has it open gets an error."""
        if self._master < 0:
            return
        self._remove_link()
        if self._asking:
            self._asking.cancel()
        for file in (self._notify, self._master):
            if file >= 0:
                self._loop.remove_reader(file)
                self._loop.remove_writer(file)
                os.close(file)
        self._notify = self._master = -1
        self._openers = 0

    # bytes

    def _read(self) -> bool:
        """One piece; whether there may be more."""
        try:
            data = os.read(self._master, _READ) if self._master >= 0 else b""
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has it open
            data = b""
        if data:
            self._uart.received(data)
        else:
            # Else the loop would be told of the hang-up without end; `_changed` starts it again.
            self._loop.remove_reader(self._master)
        return bool(data)

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(self._master, self._out[:_READ])]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush_more)
            return
        except OSError:
            self._out.clear()
        self._loop.remove_writer(self._master)

    def _flush_more(self) -> None:
        self._flush()
        self._uart.drained()

    # who has it open

    def _watch(self) -> None:
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            self._notify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._notify >= 0:
                if libc.inotify_add_watch(self._notify, os.fsencode(self.path), _IN_OPEN | _IN_CLOSE) >= 0:
                    self._loop.add_reader(self._notify, self._changed)
                    self._own_closes = 1  # of this process, which has it open until the attributes are set
                    return
                os.close(self._notify)
                self._notify = -1
        self._asking = self._loop.call_later(_ASK_S, self._ask)

    def _changed(self) -> None:
        events = os.read(self._notify, 64 * _EVENT.size)
        for _, mask, _, size in _EVENT.iter_unpack(events):
            assert size == 0  # a watch on one file names none
            if mask & _IN_OPEN and self._own_opens:
                self._own_opens -= 1
            elif mask & _IN_OPEN:
                self._opening()
            elif self._own_closes:
                self._own_closes -= 1
            else:
                self._closing()
            if self._master < 0:
                return

    def _opening(self) -> None:
        self._openers += 1
        if self._openers == 1:
            self._loop.add_reader(self._master, self._read)
            self._opened()

    def _closing(self) -> None:
        self._openers = max(0, self._openers - 1)
        if self._openers:
            return
        while self._read():
            pass  # what was written before it was closed
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            self._forget_unread()
            self._closed()

    def _forget_unread(self) -> None:
        """What the last one left unread is not for the next one; the kernel keeps it until that side forgets it."""
        self.discard()
        try:
            inner = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # the last one had it for itself alone, which outlives it
            return
        termios.tcflush(inner, termios.TCIFLUSH)
        os.close(inner)
        if self._notify >= 0:
            # Told like anybody's, and whose is whose does not matter: it is the number of each that counts.
            self._own_opens += 1
            self._own_closes += 1

    def _ask(self) -> None:
        poll = select.poll()
        poll.register(self._master, 0)
        hung_up = any(event & select.POLLHUP for _, event in poll.poll(0))
        if hung_up and self._openers:
            self._closing()
        elif not hung_up and not self._openers:
            self._opening()
        if self._master >= 0:
            self._asking = self._loop.call_later(_ASK_S, self._ask)

    # the stable name

    def _make_link(self) -> None:
        if self._link is None:
            return
        if self._link.exists() and not self._link.is_symlink():
            raise BadInput("link", f"{self._link} is there and no symbolic link")
        fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        try:
            fresh.symlink_to(self.path)
            fresh.replace(self._link)
        except OSError as error:
            raise BadInput("link", f"{self._link} cannot be made: {error.strerror}") from error

    def _remove_link(self) -> None:
        if self._link and self._link.is_symlink() and str(self._link.readlink()) == self.path:
            self._link.unlink()
