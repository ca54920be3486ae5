"""rsync over a channel of ours: the local one talks to the far one through two pipes, whatever carries the channel."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

from mcp_server.hosts.base import Channel
from mcp_server.hosts.files import words
from mcp_server.hosts.tree import STAGING

_BRIDGE = """sh -c 'echo "$*" >"$BO_UP"; exec 3<&0; cat <&3 3<&- >"$BO_UP" & exec cat <"$BO_DOWN" 3<&-'"""
"""What rsync takes for ssh: says what is to run there, then joins its stdin and stdout to our pipes.

It ends with what comes from there, because rsync waits for it before it closes the other direction.
"""

_FAR = re.compile(r"rsync --server( --sender)? (-[A-Za-z]*s[A-Za-z]*\.?[A-Za-z]*)")
"""The far command line is letters only: paths and long options travel on stdin (-s)."""

_VERSION = re.compile(r"rsync +version v?(\d+)\.(\d+)\.(\d+)")
_NANOSECONDS = (3, 1, 3)  # from then on two states of a file within one second are told apart
_CHUNK = 1 << 18  # bytes; four pipes full

Progress = Callable[[int, int], None]
"""Told how many files and bytes were sent so far."""


def version_of(said: str) -> tuple[int, ...] | None:
    """Of rsync's first line; None for another program of that name, which may not know -s."""
    found = _VERSION.match(said)
    return tuple(map(int, found.groups())) if found else None


@cache
def local_version() -> tuple[int, ...] | None:
    """Of the rsync here; None where there is none. Blocks for a few ms."""
    import subprocess  # noqa: PLC0415  # only who syncs needs it

    if not which("rsync"):
        return None
    done = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=False, errors="replace")
    return version_of(done.stdout)


@dataclass(slots=True)
class Ended:
    """How a run went: rsync's exit code, how many files it brought, in how many bytes of the channel, what it said."""

    code: int
    files: int = 0
    sent: int = 0
    said: str = ""


class Run:
    """One run of the local rsync over a channel whose script waits for a request."""

    def __init__(self, channel: Channel, progress: Progress | None) -> None:
        self._channel, self._progress = channel, progress
        self._files = self._sent = 0
        self._push = True
        self._refused = ""

    async def run(self, folder: Path, *, push: bool, paths: Sequence[str], far_version: Sequence[int]) -> Ended:
        """Bring `paths` of `folder` there (push) or into it, links only there. The caller ends the channel."""
        self._push = push
        up_read, up_write = os.pipe()
        down_read, down_write = os.pipe()
        ours = [up_read, down_write]
        try:
            process = await self._spawn(folder, push, far_version, up_write, down_read)
        except BaseException:
            for descriptor in (up_read, down_write):
                os.close(descriptor)
            raise
        finally:
            os.close(up_write)
            os.close(down_read)
        tasks: list[asyncio.Task[str] | asyncio.Task[None]] = []
        try:
            reader, up, writer = await _streams(*ours)
            assert process.stdin and process.stdout and process.stderr
            stderr = asyncio.create_task(_tail(process.stderr))
            counting = asyncio.create_task(self._count(process.stdout))
            tasks = [stderr, counting]
            tasks += [asyncio.create_task(work) for work in (
                _feed(process.stdin, paths), self._up(reader, up, process), self._down(writer))]  # fmt: skip
            code = await process.wait()
            await counting
            return Ended(code, self._files, self._sent, self._refused or await stderr)
        finally:
            if process.returncode is None:
                _end(process)
                await process.wait()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _spawn(
        self, folder: Path, push: bool, far_version: Sequence[int], up: int, down: int
    ) -> asyncio.subprocess.Process:
        near = local_version() or ()
        argv = ["rsync", "-lptOs" if push else "-ptOs"]  # a link that is never made leads nobody out of `folder`
        # every folder is in the list itself; without "no implied" rsync looks at each again for each of its files
        argv += ["--from0", "--files-from=-", "--no-implied-dirs", "--out-format=%i", f"--temp-dir={STAGING}"]
        argv.append("--blocking-io")  # else the bridge's cat may find its output full, and end
        if min(tuple(near), tuple(far_version)) >= _NANOSECONDS:
            argv.append("--modify-window=-1")
        argv += ["-e", _BRIDGE, *(("./", "there:./") if push else ("there:./", "./"))]
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "LC_ALL": "C",
                "BO_UP": f"/dev/fd/{up}",
                "BO_DOWN": f"/dev/fd/{down}",
            },
            pass_fds=(up, down),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )

    async def _up(
        self, reader: asyncio.StreamReader, pipe: asyncio.BaseTransport, process: asyncio.subprocess.Process
    ) -> None:
        try:
            line = (await reader.readline()).decode(errors="replace").strip()
        except ValueError:  # longer than any that is ours
            line = "?"
        if asked := _FAR.fullmatch(line):
            try:
                await self._stream_up(reader, asked[0])
            finally:
                pipe.close()  # where the channel has ended rsync would wait for ever for someone to take what it sends
        elif line:  # else it ended before it asked for anything
            self._refused = f"the rsync here wants to run {line[:100]!r} there, which is no plain rsync --server"
            if process.returncode is None:
                _end(process)

    async def _stream_up(self, reader: asyncio.StreamReader, asked: str) -> None:
        with suppress(OSError):
            await self._channel.write(words(*asked.split()))
            while data := await reader.read(_CHUNK):
                await self._channel.write(data)
                self._count_bytes(data, self._push)
            # also where the local one was killed: the far one must not wait for it
            await asyncio.shield(self._channel.end_input())

    async def _down(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                while data := await self._channel.read(_CHUNK):
                    writer.write(data)
                    await writer.drain()
                    self._count_bytes(data, not self._push)
            finally:
                writer.close()

    async def _count(self, stdout: asyncio.StreamReader) -> None:
        async for line in stdout:
            if line[:1] in (b"<", b">") and line[1:2] == b"f":
                self._files += 1
                self._tell()

    def _count_bytes(self, data: bytes, forward: bool) -> None:
        if forward:
            self._sent += len(data)
            self._tell()

    def _tell(self) -> None:
        if self._progress:
            self._progress(self._files, self._sent)


def _end(process: asyncio.subprocess.Process) -> None:
    """It and what it has started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _streams(read: int, write: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport, asyncio.StreamWriter]:
    """Our ends of the two pipes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    up, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0))
    down, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(write, "wb", 0)
    )
    return reader, up, asyncio.StreamWriter(down, protocol, None, loop)


async def _feed(stdin: asyncio.StreamWriter, paths: Sequence[str]) -> None:
    """Each begins with "./": a name that begins with "#" would be a comment."""
    with suppress(OSError):
        for at in range(0, len(paths), 1000):
            stdin.write(b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths[at : at + 1000]))
            await stdin.drain()
    stdin.close()


async def _tail(stderr: asyncio.StreamReader) -> str:
    """The first of what it says; the rest is read and forgotten."""
    said = b""
    while data := await stderr.read(4096):
        said = (said + data)[:8192]
    return said.decode("utf-8", "replace")
