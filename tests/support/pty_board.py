"""A board for tests: a pty whose other side the test is. It cannot be reset, as a pty has no such lines."""

import asyncio
import contextlib
import os
import select
import tty
from pathlib import Path

READ_S = 5


class PtyBoard:
    """`path` is a link to the port, as udev makes one; it stays the same when the board is plugged in again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._master = -1
        self.plug()

    def plug(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        new = self.path.with_suffix(".new")
        new.symlink_to(os.ttyname(slave))
        new.replace(self.path)
        os.close(slave)

    def unplug(self) -> None:
        """The link goes first: its number may be another terminal's at once."""
        self.path.unlink(missing_ok=True)
        if self._master >= 0:
            os.close(self._master)
        self._master = -1

    async def say(self, data: bytes) -> None:
        """All of it, as fast as the port takes it."""
        await asyncio.to_thread(self._write, data)

    async def heard(self, count: int) -> bytes:
        """The next `count` bytes that were sent to it; fewer after five seconds of silence."""
        return await asyncio.to_thread(self._read, count)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._master, view[:65_536]) :]

    def _read(self, count: int) -> bytes:
        data = b""
        with contextlib.suppress(OSError):
            while len(data) < count and select.select([self._master], [], [], READ_S)[0]:
                data += os.read(self._master, count - len(data))
        return data
