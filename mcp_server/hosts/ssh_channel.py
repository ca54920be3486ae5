"""One command on an SSH connection, as a Channel: bytes in, bytes out, nothing decoded."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

import asyncssh

WINDOW = 8 << 20  # bytes in flight: 100 ms away that is still 80 MB/s; OpenSSH's own 2 MiB would be 20
HIGH_WATER = 2 << 20  # bytes that wait to be read here; the server is told to stop when WINDOW more are on their way
MAX_STDERR = 4096
STALE_S = 1.0  # from a command's end to the end of its output; what a child of it still holds is given up then
CLOSE_S = 5.0  # for the exit code of what has ended its output


class Chan(Protocol):
    """What is used of asyncssh's channel."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_returncode(self) -> int | None: ...


class Session(asyncssh.SSHClientSession[bytes]):
    """What comes in. `ended` is called once, when the server has let go of the channel or the connection is gone."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._chan: Chan | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._received = 0
        self._paused = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.stderr = b""
        self.at_eof = False
        self.gone = asyncio.Event()
        self.lost = False

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._chan = cast(Chan, chan)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            self.stderr = (self.stderr + data)[:MAX_STDERR]
            return
        self._pieces.append(data)
        self._size += len(data)
        self._received += len(data)
        self._news.set()
        if self._size > HIGH_WATER and not self._paused and self._chan:
            self._paused = True
            self._chan.pause_reading()

    def eof_received(self) -> bool:
        self.at_eof = True
        self._news.set()
        return True  # our side stays open: the exit code is still to come

    def exit_status_received(self, status: int) -> None:
        self._watch()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._watch()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.lost or exc is not None or not self.at_eof
        self.at_eof = True
        self._news.set()
        self._writable.set()
        if not self.gone.is_set():
            self.gone.set()
            self._ended()

    def forget(self) -> None:
        """Nobody reads any more."""
        self.at_eof = True
        self._pieces.clear()
        self._size = 0
        self._news.set()

    def _watch(self, seen: int = -1) -> None:
        """Until the output ends: nothing new in STALE_S, though it is read, means that it never will.

        The code then counts as unknown, because the link may only have been slow.
        """
        if self.at_eof:
            return
        if seen == self._received and not self._paused:
            self.lost = True
            self.forget()
            if self._chan:
                self._chan.abort()
            return
        asyncio.get_running_loop().call_later(STALE_S, self._watch, self._received)

    async def writable(self) -> None:
        await self._writable.wait()

    async def read(self, max_bytes: int) -> bytes:
        while not self._pieces and not self.at_eof:
            self._news.clear()
            await self._news.wait()
        taken: list[bytes] = []
        while self._pieces and max_bytes > 0:
            piece = self._pieces.popleft()
            if len(piece) > max_bytes:
                self._pieces.appendleft(piece[max_bytes:])
                piece = piece[:max_bytes]
            taken.append(piece)
            max_bytes -= len(piece)
        return self._taken(b"".join(taken))

    async def readline(self) -> bytes:
        seen = 0
        while True:
            while seen < len(self._pieces):
                cut = self._pieces[seen].find(b"\n") + 1
                if cut:
                    whole = [self._pieces.popleft() for _ in range(seen)]
                    last = self._pieces.popleft()
                    if cut < len(last):
                        self._pieces.appendleft(last[cut:])
                    return self._taken(b"".join([*whole, last[:cut]]))
                seen += 1
            if self.at_eof:
                whole = b"".join(self._pieces)
                self._pieces.clear()
                return self._taken(whole)
            if self._size > HIGH_WATER:
                raise ValueError(f"a line of more than {HIGH_WATER} bytes")
            self._news.clear()
            await self._news.wait()

    def _taken(self, data: bytes) -> bytes:
        self._size -= len(data)
        if self._paused and self._size <= HIGH_WATER // 2 and self._chan:
            self._paused = False
            self._chan.resume_reading()
        return data


class SshChannel:
    """One running command."""

    def __init__(self, chan: Chan, session: Session) -> None:
        self._chan, self._session = chan, session

    async def write(self, data: bytes) -> None:
        try:
            self._chan.write(data)  # whole, at once, into its buffer: a cancelled caller takes nothing back
        except OSError:
            await asyncio.sleep(0)  # so that who reads learns of it, too, before anybody tries again
            raise
        await self._session.writable()
        if self._session.gone.is_set() and self._session.lost:
            raise ConnectionResetError("the connection was lost")

    async def end_input(self) -> None:
        with suppress(OSError):
            self._chan.write_eof()

    async def read(self, max_bytes: int) -> bytes:
        return await self._session.read(max_bytes)

    async def readline(self) -> bytes:
        return await self._session.readline()

    def abandon(self) -> None:
        """End it without a word."""
        self._session.forget()
        with suppress(OSError):
            self._chan.abort()

    async def close(self) -> tuple[int | None, str]:
        """Its helpers on the host end with their stdin, which ends with the channel."""
        if self._session.at_eof and not self._session.gone.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._session.gone.wait()
        ended = self._session.gone.is_set() and not self._session.lost
        code = self._chan.get_returncode()
        said = self._session.stderr.decode("utf-8", "replace") if self._session.at_eof else ""
        self.abandon()
        return code if ended else None, said
