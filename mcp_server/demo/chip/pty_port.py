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
    """`opened` is called when somebody opens it, `closed` when the last one has closed it.

    On Linux others who open it meanwhile are told of as well, if not at the same moment; elsewhere only the first is.
    """

    def __init__(self, uart: Uart, opened: Callable[[], None], closed: Callable[[], None], link: Path | None) -> None:
        """BadInput: there is something at `link` that is no symbolic link."""
        self._uart, self._opened, self._closed, self._link = uart, opened, closed, link
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._open = False
        self._notify = self._watched = -1
        self._asking: asyncio.TimerHandle | None = None
        self._master, inner = os.openpty()
        self.path = os.ttyname(inner)
        tty.setraw(inner)
        os.set_blocking(self._master, False)
        os.close(inner)
        self._start_watching()
        try:
            self._make_link()
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        if not self._open:
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
        self._open = False

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

    def _start_watching(self) -> None:
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._notify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._notify >= 0 and self._watch():
                self._loop.add_reader(self._notify, self._changed)
                return
        self._asking = self._loop.call_later(_ASK_S, self._ask)

    def _watch(self) -> bool:
        path = os.fsencode(self.path)
        self._watched = self._libc.inotify_add_watch(self._notify, path, _IN_OPEN | _IN_CLOSE)
        return self._watched >= 0

    def _changed(self) -> None:
        masks = [mask for _, mask, _, _ in _EVENT.iter_unpack(os.read(self._notify, 64 * _EVENT.size))]
        # Only that there was one: two of a kind in a row are told as one, so counting them would go wrong.
        if any(mask & _IN_OPEN for mask in masks):
            self._opening()
        if any(mask & _IN_CLOSE for mask in masks) and self._hung_up():
            self._closing()

    def _hung_up(self) -> bool:
        """Whether nobody has it open."""
        if self._master < 0:
            return False
        poll = select.poll()
        poll.register(self._master, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def _opening(self) -> None:
        if not self._open:
            self._open = True
            self._loop.add_reader(self._master, self._read)
        self._opened()

    def _closing(self) -> None:
        if not self._open:
            return
        self._open = False
        while self._read():
            pass  # what was written before it was closed
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            self._forget_unread()
            self._closed()

    def _forget_unread(self) -> None:
        """What the last one left unread is not for the next one; the kernel keeps it until that side forgets it."""
        self.discard()
        if self._notify >= 0:
            self._libc.inotify_rm_watch(self._notify, self._watched)  # else this would be taken for somebody's
        with contextlib.suppress(OSError):  # the last one had it for itself alone, which outlives it
            inner = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            termios.tcflush(inner, termios.TCIFLUSH)
            os.close(inner)
        if self._notify >= 0 and self._watch() and not self._hung_up():
            self._loop.call_soon(self._came_unseen)

    def _came_unseen(self) -> None:
        """Somebody opened it while nobody watched."""
        if not self._open and self._master >= 0 and not self._hung_up():
            self._opening()

    def _ask(self) -> None:
        hung_up = self._hung_up()
        if hung_up and self._open:
            self._closing()
        elif not hung_up and not self._open:
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
