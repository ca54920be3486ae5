"""A TCP relay on loopback that can be cut in every way a link is, and what must hold across a cut."""

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from mcp_server.errors import HostUnreachable
from mcp_server.hosts.base import Exit, Host, JobId


class Relay:
    """Between a client and `target` (a port of 127.0.0.1). `delay_s` is added each way."""

    def __init__(self, target: int, delay_s: float = 0) -> None:
        self.target, self.delay_s = target, delay_s
        self.port = 0
        self.connections = 0
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator["Relay"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def silence(self) -> None:
        """As a NAT that has forgotten: nothing passes, nothing is answered, nobody is told; new dials hang, too."""
        self._passing.clear()

    def refuse(self) -> None:
        """New connections are reset."""
        self._refusing = True

    def restore(self) -> None:
        """Let new connections through; what was silenced stays dead, as a forgotten connection does."""
        self._refusing = False
        self.reset()
        self._passing.set()

    def resume(self) -> None:
        """Let everything go on where it stood: the cut was shorter than TCP's patience."""
        self._passing.set()

    def reset(self) -> None:
        """End every connection with RST."""
        for writer in list(self._writers):
            with suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        if self._refusing:
            self.reset()
            return
        await self._passing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.create_task(self._send(queue, sink))
        try:
            while data := await source.read(65_536):
                await queue.put((time.monotonic() + self.delay_s, data))
        except OSError:
            pass
        except asyncio.CancelledError:
            sending.cancel()
            raise
        try:
            await queue.put((time.monotonic() + self.delay_s, b""))
            await sending
        finally:
            sending.cancel()

    async def _send(self, queue: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                due, data = await queue.get()
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                await self._passing.wait()
                if not data:
                    break
                sink.write(data)
                await sink.drain()
        sink.close()


@dataclass
class Seen:
    """What somebody who followed a job through every cut has seen."""

    size: int = 0
    crc: int = 0
    times_away: int = 0
    end: Exit | None = None


async def follow_through(host: Host, job: JobId, seen: Seen, pause_s: float = 0.05) -> Seen:
    """Follow the job's log and wait for its end, asking again whenever the host is away."""
    while seen.end is None:
        try:
            async with aclosing(host.follow(job, seen.size)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    seen.crc = zlib.crc32(piece, seen.crc)
                    seen.size += len(piece)
            seen.end = await host.wait(job)
        except HostUnreachable:
            seen.times_away += 1
            await asyncio.sleep(pause_s)
    return seen


TICKS = """
import sys, time
for n in range({count}):
    print('line', n, 'x' * 40, flush=True)
    time.sleep({pause})
sys.exit({code})
"""
"""A Python program that writes `count` lines and ends with `code`."""


def ticked(count: int) -> tuple[int, int]:
    """Size and CRC of what TICKS writes."""
    text = "".join(f"line {number} {'x' * 40}\n" for number in range(count)).encode()
    return len(text), zlib.crc32(text)
