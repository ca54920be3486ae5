"""This machine as a host."""

import asyncio
import errno
import os
import signal
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from mcp_server.errors import HostFull, HostUnreachable, NotFound
from mcp_server.hosts.base import JobId, check_id
from mcp_server.hosts.job import CHUNK, JobHost
from mcp_server.hosts.request import DEFAULT_PATH
from mcp_server.hosts.script import Script


class LocalHost(JobHost):
    """Runs jobs on this machine. `shell` and `path` are for the script alone; no job sees them."""

    def __init__(
        self, jobs_dir: Path, *, name: str = "local", shell: Sequence[str] = ("sh",), path: str | None = None
    ) -> None:
        self.jobs_dir = jobs_dir
        super().__init__(LocalShell(jobs_dir, name, shell, path or os.environ.get("PATH") or DEFAULT_PATH))

    async def read_log(self, job_id: JobId, offset: int, max_bytes: int = 65_536) -> bytes:
        check_id(job_id)
        log = os.path.join(await self.directory(), job_id, "log")  # noqa: PTH118  # its bytes need not be UTF-8
        try:
            return await asyncio.to_thread(_read, log, offset, max_bytes)
        except FileNotFoundError:
            raise NotFound(f"host {self.name} has no record of job {job_id}: never begun, or removed") from None


class LocalShell:
    """Runs the script as a child in a process group of its own, which ends with it."""

    def __init__(self, jobs_dir: Path, name: str, shell: Sequence[str], path: str) -> None:
        if "\n" in str(jobs_dir):
            raise ValueError("jobs_dir may not hold a newline")
        self.name = name
        self._jobs_dir, self._shell, self._path = jobs_dir.absolute(), list(shell), path

    async def open(self, script: Script, op: str, *args: str) -> "LocalChannel":
        return await spawn(self.name, self.argv(script, op, *args), {"PATH": self._path})

    def argv(self, script: Script, op: str, *args: str) -> list[str]:
        """The command that runs the script."""
        return [*self._shell, str(self._jobs_dir / script.name), op, *args]

    async def install(self, script: Script) -> None:
        try:
            await asyncio.to_thread(self._install, script)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise HostFull(self.name, f"no space left in {self._jobs_dir}; nothing was started") from error
            raise HostUnreachable(self.name, f"cannot write to {self._jobs_dir}: {error.strerror}") from error

    def _install(self, script: Script) -> None:
        self._jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, new = mkstemp(prefix=script.name, dir=self._jobs_dir)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(script.text)
            Path(new).replace(self._jobs_dir / script.name)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise


async def spawn(host: str, argv: Sequence[str], env: Mapping[str, str]) -> "LocalChannel":
    """Run `argv` in a process group of its own. HostUnreachable, named `host`, where it cannot be run."""
    opening = asyncio.ensure_future(_spawn(host, argv, env))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:  # asyncio itself would end the process, but not its group
        with suppress(HostUnreachable):
            await (await opening).close()
        raise


async def _spawn(host: str, argv: Sequence[str], env: Mapping[str, str]) -> "LocalChannel":
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: _Group(limit=CHUNK, loop=loop),
            *argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise HostUnreachable(host, f"cannot run {argv[0]}: {error.strerror}") from error
    return LocalChannel(transport, protocol)


class _Group(SubprocessStreamProtocol):
    """When the process ends, however that came about, nothing of its group may hold its pipes any longer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.pid = transport.get_pid()
        self.exited = asyncio.Event()  # not a future: a cancelled waiter must not take it from the others

    def process_exited(self) -> None:
        kill_group(self.pid)
        self.exited.set()
        super().process_exited()


def kill_group(leader: int) -> None:
    """End whatever is left of a process group at once."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers the latter for a group of zombies
        os.killpg(leader, signal.SIGKILL)


class LocalChannel:
    """One running script."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _Group) -> None:
        assert protocol.stdin and protocol.stdout and protocol.stderr
        self._transport, self._protocol = transport, protocol
        self._stdin, self._stdout, self._stderr = protocol.stdin, protocol.stdout, protocol.stderr

    async def write(self, data: bytes) -> None:
        self._stdin.write(data)
        await self._stdin.drain()

    async def end_input(self) -> None:
        self._stdin.close()
        with suppress(ConnectionError):
            await asyncio.shield(self._stdin.wait_closed())  # else a cancel would take its end from asyncio itself

    async def read(self, max_bytes: int) -> bytes:
        return await self._stdout.read(max_bytes)

    async def readline(self) -> bytes:
        return await self._stdout.readline()

    async def close(self) -> tuple[int | None, str]:
        if not self._stdout.at_eof():  # no helper holds anything that its sudden death could harm
            self._kill()
        try:
            await self._protocol.exited.wait()
            said = await self._stderr.read(4096) if self._stdout.at_eof() else b""
        finally:
            self._kill()
            self._transport.close()
            # Else the two keep each other, with all pipes, until somebody looks for garbage: thousands by then.
            self._protocol.stdin = None
        return self._transport.get_returncode(), said.decode("utf-8", "replace")

    def _kill(self) -> None:
        if not self._protocol.exited.is_set():  # else its number may be another's by now
            kill_group(self._protocol.pid)


def _read(log: str, offset: int, max_bytes: int) -> bytes:
    with open(log, "rb", buffering=0) as file:  # noqa: PTH123
        if offset < 0:
            offset = max(0, file.seek(0, os.SEEK_END) + offset)
        return os.pread(file.fileno(), max_bytes, offset)
