"""The client's side of job.sh: what comes back, and one multiplexer for all jobs of a host.

A host brings a `Shell`, which runs `sh SCRIPT OP ARGS` there; everything else is the same here and far away.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from mcp_server.errors import BadInput, Conflict, HostError, HostFull, HostUnreachable, JobConflict, NotFound
from mcp_server.hosts.base import Channel, Exit, ExitReason, JobId, JobSpec, JobState, JobStatus, check_id
from mcp_server.hosts.gap import Stream, nuls
from mcp_server.hosts.request import centiseconds, encode
from mcp_server.hosts.script import JOB, Script

ANSWER_S = 30  # far above a slow disk; only a supervisor that died before its first act keeps silent
START_S = 3  # then a start is asked for again: its supervisor may have been killed before its first act
LOOK_S = 120  # between looks at a job that is waited for: its waiter on the host may have been killed
CLEAN_S = 120  # a disk that is busy with builds deletes 100 jobs a second
OTHERS_KEEP_S = 90 * 86_400  # another laptop's jobs
ATTEMPTS = 4  # in a row, each of them without any progress
CHUNK = 1 << 18  # bytes; four pipes full


class Shell(Protocol):
    """A way to run the script on a host."""

    name: str

    async def open(self, script: Script, op: str, *args: str) -> Channel:
        """Run the script. HostUnreachable where nothing can be run; a missing script only ends the channel."""
        ...

    async def install(self, script: Script) -> None:
        """Put the script beside the jobs under its name, in one step."""
        ...


def parse_status(words: list[str]) -> JobStatus:
    """`absent`, `running HASH`, `ended HASH CODE REASON START END SIZE` and so on."""
    state = JobState(words[0])
    spec = words[1] if len(words) > 1 and words[1] != "-" else None
    if state is JobState.ENDED:
        code, reason, start, end, size = words[2:7]
        return JobStatus(state, spec, Exit(ExitReason(reason), int(code), float(start), float(end), int(size)))
    return JobStatus(state, spec, Exit(ExitReason.LOST, None) if state is JobState.LOST else None)


class _Lost(Exception):
    """The multiplexer went away; what was asked may have been done or not."""


class _Link:
    """One run of the multiplexer, and who waits for which of its answers."""

    def __init__(self, channel: Channel, directory: str) -> None:
        self.channel, self.directory = channel, directory
        self.lost = False
        self.answers = 0
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._reader = asyncio.create_task(self._read())

    async def ask(self, request: str, line: bytes) -> str:
        if self.lost:
            raise _Lost
        answer = self._waiting[request] = asyncio.get_running_loop().create_future()
        try:
            await self.channel.write(request.encode() + b" " + line + b"\n")
            return await answer
        except OSError:
            self.lost = True  # the reader may not know it yet, and the next request must not come here
            raise _Lost from None
        finally:
            del self._waiting[request]
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also where the write failed first

    async def close(self) -> None:
        self.lost = True
        await self.channel.close()
        await self._reader

    async def _read(self) -> None:
        try:
            while (line := await self.channel.readline()).endswith(b"\n"):
                self.answers += 1
                request, _, answer = line.decode("utf-8", "surrogateescape").strip().partition(" ")
                waiter = self._waiting.get(request)
                if waiter and not waiter.done():
                    waiter.set_result(answer)
        except OSError:
            pass
        finally:
            self.lost = True
            for waiter in self._waiting.values():
                if not waiter.done():
                    waiter.set_exception(_Lost())


class Multiplexer:
    """`serve`, opened when first needed and again when it is gone. Every request may be asked twice."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._link: _Link | None = None
        self._opening = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._closed = False

    async def ask(self, op: str, job_id: JobId, rest: bytes = b"", timeout_s: float | None = ANSWER_S) -> list[str]:
        check_id(job_id)
        line = b" ".join(filter(None, [op.encode(), job_id.encode(), rest]))
        attempts = 0
        while attempts < ATTEMPTS:
            link = await self.link()
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await link.ask(str(next(self._numbers)), line)
            except TimeoutError:
                raise HostUnreachable(self._shell.name, f"no answer within {timeout_s} s") from None
            except _Lost:
                attempts = 0 if link.answers else attempts + 1
            else:
                if answer != "gone":
                    return answer.split(" ")
                attempts += 1
                await self._shell.install(JOB)
        raise HostUnreachable(self._shell.name, "its job multiplexer ends as soon as it is asked")

    async def link(self) -> _Link:
        async with self._opening:
            if self._closed:
                raise HostUnreachable(self._shell.name, "closed here; its jobs run on")
            if self._link is None or self._link.lost:
                if self._link:
                    await self._link.close()
                self._link = None
                self._link = await self._open()
            return self._link

    async def close(self) -> None:
        self._closed = True
        async with self._opening:
            if self._link:
                await self._link.close()

    async def _open(self) -> _Link:
        said = ""
        for attempt in range(2):
            if attempt:
                await self._shell.install(JOB)
            channel = await self._shell.open(JOB, "serve")
            try:
                async with asyncio.timeout(ANSWER_S):
                    words = (await channel.readline()).decode("utf-8", "surrogateescape").rstrip("\n").split(" ", 2)
            except BaseException as error:
                await channel.close()
                if isinstance(error, TimeoutError):
                    raise HostUnreachable(self._shell.name, f"no answer within {ANSWER_S} s") from None
                raise
            if words[:2] == ["ready", "1"]:
                return _Link(channel, words[2])
            _, said = await channel.close()
        raise HostUnreachable(self._shell.name, f"cannot run its job script: {said.strip() or 'it says nothing'}")


class JobHost:
    """The Host port over a Shell; its docstrings hold here."""

    def __init__(self, shell: Shell) -> None:
        self.name = shell.name
        self._shell = shell
        self._mux = Multiplexer(shell)
        self._waits: dict[JobId, asyncio.Task[Exit]] = {}

    async def start(self, job: JobSpec) -> bool:
        token = secrets.token_hex(8)  # so that a call which had to ask twice knows its own job
        words = await self._start(job.id, f"{job.sha256()} {token} ".encode() + encode(job))
        match words[0]:
            case "started" | "joined":
                return words[0] == "started"
            case "conflict":
                raise JobConflict(self.name, f"job {job.id} is taken by another specification: use a new id")
            case _:
                raise self._error(words)

    async def _start(self, job_id: JobId, rest: bytes) -> list[str]:
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                return await self._mux.ask("start", job_id, rest)
        return await self._mux.ask("start", job_id, rest)

    async def status(self, job_id: JobId) -> JobStatus:
        return self._status(await self._mux.ask("status", job_id))

    async def wait(self, job_id: JobId) -> Exit:
        task = self._waits.get(job_id)
        if task is None:  # one waiter a job on the host, however many wait here and however often they leave
            task = self._waits[job_id] = asyncio.create_task(self._wait(job_id))
            task.add_done_callback(lambda done: self._waited(job_id, done))
        return await asyncio.shield(task)

    async def read_log(self, job_id: JobId, offset: int, max_bytes: int = 65_536) -> bytes:
        check_id(job_id)
        start = f"+{offset + 1}" if offset >= 0 else str(offset)
        async with self._running("read", job_id, start, str(max_bytes)) as channel:
            data = bytearray()
            while chunk := await channel.read(CHUNK):
                data += chunk
        if not data:
            await self._present(job_id)
        return bytes(data)

    async def log_hole(self, job_id: JobId) -> tuple[int, int] | None:
        match words := await self._mux.ask("hole", job_id):
            case ["hole", first, last]:
                return int(first), int(last)
            case ["none"]:
                return None
            case ["absent"]:
                raise NotFound(f"host {self.name} has no record of job {job_id}: never begun, or removed")
            case _:
                raise self._error(words)

    async def follow(self, job_id: JobId, offset: int = 0) -> AsyncIterator[bytes]:
        if offset < 0:
            raise BadInput("offset", f"{offset} must be 0 or more: ask read_log for the end of a log")
        over, idle = False, 0
        while not over:
            await self._present(job_id)
            before = offset
            async with self._running("follow", job_id, str(offset)) as channel:
                stream = Stream(offset, await channel.readline())
                while chunk := await channel.read(CHUNK):
                    for piece in stream.pieces(chunk):
                        yield piece
                        offset += len(piece)
                over = (await channel.close())[0] == 0
            idle = 0 if over or offset > before else idle + 1
            if idle:
                await self._shell.install(JOB)
            if idle == ATTEMPTS:
                raise HostUnreachable(self.name, f"the log of job {job_id} cannot be followed")
        size = (await self.wait(job_id)).log_size  # None where lost: then all there is
        hole = await self.log_hole(job_id) if size is None or offset < size else None
        while size is None or offset < size:
            for piece in nuls(offset, hole):
                yield piece
                offset += len(piece)
            chunk = await self.read_log(job_id, offset, CHUNK if size is None else min(CHUNK, size - offset))
            if not chunk:
                return
            yield chunk
            offset += len(chunk)

    async def kill(self, job_id: JobId, grace_s: float = 1) -> JobStatus:
        rest = str(centiseconds(grace_s)).encode()
        return self._status(await self._mux.ask("kill", job_id, rest, timeout_s=None))

    async def remove(self, job_id: JobId) -> None:
        status = self._status(await self._mux.ask("remove", job_id))
        if status.state in (JobState.STARTING, JobState.RUNNING):
            raise Conflict(f"job {job_id} is running on {self.name}: kill it first")

    async def clean(self, store: str, keep_s: float, spare: Collection[JobId] = ()) -> int:
        check_id(store)
        lines = "".join(f"{check_id(job_id) or job_id}\n" for job_id in spare).encode()
        ages = [str(round(age)) for age in (keep_s, max(keep_s, OTHERS_KEEP_S))]
        answer = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_S), self.channel(JOB, "clean", store, *ages) as channel:
                await channel.write(lines)
                await channel.end_input()
                answer = await channel.readline()
        if not answer.endswith(b"\n"):
            raise HostUnreachable(self.name, "its clean-up was cut off; what it had chosen is gone")
        return int(answer)

    async def aclose(self) -> None:
        await self._mux.close()

    async def directory(self) -> str:
        return (await self._mux.link()).directory

    @asynccontextmanager
    async def channel(self, script: Script, op: str, *args: str) -> AsyncGenerator[Channel]:
        said = ""
        for attempt in range(2):
            if attempt:
                await self._shell.install(script)
            channel = await self._shell.open(script, op, *args)
            try:
                if await channel.readline() == b"ok\n":
                    yield channel
                    return
            finally:
                _, said = await channel.close()
        raise HostError(self.name, said.strip() or f"{script.stem}.sh cannot be run there")

    @asynccontextmanager
    async def _running(self, op: str, *args: str) -> AsyncGenerator[Channel]:
        channel = await self._shell.open(JOB, op, *args)
        try:
            yield channel
        finally:
            await channel.close()

    async def _wait(self, job_id: JobId) -> Exit:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    status = self._status(await self._mux.ask("wait", job_id, timeout_s=None))
                break
            status = await self.status(job_id)
            if status.state not in (JobState.STARTING, JobState.RUNNING):
                break
        if status.exit is None:
            raise NotFound(f"host {self.name} has no record of job {job_id}: never begun, or removed")
        return status.exit

    def _waited(self, job_id: JobId, done: "asyncio.Task[Exit]") -> None:
        self._waits.pop(job_id, None)
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits any more

    async def _present(self, job_id: JobId) -> None:
        if (await self.status(job_id)).state is JobState.ABSENT:
            raise NotFound(f"host {self.name} has no record of job {job_id}: never begun, or removed")

    def _status(self, words: list[str]) -> JobStatus:
        try:
            return parse_status(words)
        except (ValueError, IndexError):
            raise self._error(words) from None

    def _error(self, words: list[str]) -> HostError:
        if words[0] == "full":
            return HostFull(self.name, "no space left for the job's records; nothing was started")
        return HostError(self.name, " ".join(words[1:] if words[0] == "error" else words))
