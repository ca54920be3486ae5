"""Every make of the Host port that can run here, and a check that no test leaves a process behind."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from mcp_server.config import Server
from mcp_server.hosts.base import Host, JobId, JobSpec
from mcp_server.hosts.exec import ExecHost
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ssh import SshHost, SshOptions
from tests.support.sshd import Sshd, why_not

BUSYBOX = shutil.which("busybox")
NO_BUSYBOX = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed")
NO_SSHD = pytest.mark.skipif(bool(why_not()), reason=why_not() or "sshd is here")
LOCAL = ["local", pytest.param("busybox", marks=NO_BUSYBOX)]
"""Makes that are processes of the test itself: its umask, its signals, its environment."""

FAR = [pytest.param("ssh", marks=NO_SSHD), "exec"]
MAKES = [*LOCAL, *FAR]
"""Each link and each set of tools once; all of the script is the same whatever brings it its lines."""

BOTH = pytest.param("ssh-busybox", marks=[NO_SSHD, NO_BUSYBOX])
"""A far host with nothing but busybox, for the contract as a whole and for what travels."""
WITH_COREUTILS = ["local", FAR[0], "exec"]
"""Makes with the tools of GNU and util-linux; what busybox does instead has tests of its own."""

# What `kubectl exec -i POD --` does: runs its arguments elsewhere, in an environment of their own, with our stdin and
# stdout. Its end is the end of the link, not of what runs there.
STAND_IN = """#!/bin/sh
exec setsid --wait env -i PATH="$PATH" HOME="$POD_HOME" "$@"
"""


@pytest.fixture(scope="session")
def busybox_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with nothing but busybox: its sh, tail, setsid, grep and so on, and no flock."""
    folder = tmp_path_factory.mktemp("busybox")
    assert BUSYBOX
    for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        (folder / applet).symlink_to(BUSYBOX)
    return str(folder)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real OpenSSH server for all tests that leave it as it is."""
    yield from running(Sshd(tmp_path_factory.mktemp("sshd")))


@pytest.fixture(scope="session")
def sshd_busybox(tmp_path_factory: pytest.TempPathFactory, busybox_path: str) -> Iterator[Sshd]:
    """One whose sessions find nothing but busybox."""
    yield from running(Sshd(tmp_path_factory.mktemp("sshd"), env={"PATH": busybox_path}))


def running(server: Sshd) -> Iterator[Sshd]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def stand_in(tmp_path: Path, jobs_dir: Path) -> ExecHost:
    """A host behind a command channel."""
    script = tmp_path / "stand-in"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "POD_HOME": str(tmp_path)}
    return ExecHost("pod", [str(script)], environment, str(jobs_dir))


@pytest.fixture(params=MAKES)
def make(request: pytest.FixtureRequest, jobs_dir: Path) -> Callable[[], Host]:
    """Another client of the same host."""
    return maker(request, jobs_dir)


def maker(request: pytest.FixtureRequest, jobs_dir: Path) -> Callable[[], Host]:
    """What the fixture `make` gives for its parameter."""
    if request.param in ("ssh", "ssh-busybox"):
        server: Sshd = request.getfixturevalue(request.param.replace("ssh", "sshd").replace("-", "_"))
        entry = Server(host="box", jobs_dir=str(jobs_dir))
        return lambda: SshHost("box", entry, options=SshOptions(ssh_config=server.ssh_config))
    if request.param == "exec":
        pod: ExecHost = request.getfixturevalue("stand_in")
        return lambda: ExecHost("pod", pod.shell.command, pod.shell.environment, str(jobs_dir))
    if request.param == "bash":
        folder = jobs_dir.parent / "bash"
        folder.mkdir()
        (folder / "sh").symlink_to(shutil.which("bash") or "/missing")
        return lambda: LocalHost(jobs_dir, path=f"{folder}:{os.environ['PATH']}")
    if request.param == "busybox":
        path = request.getfixturevalue("busybox_path")
        return lambda: LocalHost(jobs_dir, path=path)
    return lambda: LocalHost(jobs_dir)


@pytest.fixture
def is_busybox(request: pytest.FixtureRequest) -> bool:
    return str(request.node.callspec.params.get("make")).endswith("busybox")


@pytest.fixture
def jobs_dir(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
async def host(make: Callable[[], Host], jobs_dir: Path) -> AsyncIterator[Host]:
    host = make()
    yield host
    async with asyncio.timeout(10):
        for directory in jobs_dir.glob("*/[!.]*"):
            await host.kill(directory.name, grace_s=0)
        await host.aclose()
    assert [line for pid, line in processes_of(jobs_dir).items() if not await is_gone(pid)] == []


@pytest.fixture
def local(jobs_dir: Path, host: Host) -> LocalHost:
    """For what only this machine's make has: its files and processes. Use with `host`."""
    assert isinstance(host, LocalHost)
    return host


Processes = Callable[[], dict[int, str]]


@pytest.fixture
def processes(jobs_dir: Path) -> Processes:
    """Command lines by pid: of the jobs in this test's folder, and of all that the script runs for them."""
    return lambda: processes_of(jobs_dir)


def processes_of(jobs_dir: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            ours = str(jobs_dir).encode() in line or f"BO_JOB={jobs_dir}/".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if ours and line and int(folder.name) != os.getpid():
            found[int(folder.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


async def standing_by(jobs_dir: Path, asked: int = 0) -> int:
    """The supervisor that stands by once jobs were started there; `asked`: requests that its like had before."""
    async with asyncio.timeout(5):
        while True:
            for path in jobs_dir.glob("*/.stand-by.*/ready"):
                number, pid = map(int, path.read_text().split() or (-1, 0))
                if (
                    number >= asked
                    and Path(f"/proc/{pid}").exists()
                    and any(jobs_dir.glob(f"*/.stand-by.*.{pid}/exit.new"))
                ):
                    return pid
            await asyncio.sleep(0.005)


async def quiet(processes: Processes) -> None:
    """Until supervisors of jobs and their keeper, who tidy up after the end, have gone."""
    theirs = [pid for pid, line in processes().items() if " serve" not in line and "_stand_by" not in line]
    assert [pid for pid in theirs if not await is_gone(pid)] == []


BIG = 6 << 20  # bytes; far more than all pipes on the way hold


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with one big file among small ones."""
    folder = tmp_path / "source"
    (folder / "d").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "d" / "big").write_bytes(os.urandom(BIG))
    (folder / "zz").write_text("z")
    return folder


Gone = Callable[[int], Awaitable[bool]]


async def is_gone(pid: int) -> bool:
    """Wait for the end of a process that need not be our child; False after five seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        await asyncio.wait_for(over.wait(), 5)
    except TimeoutError:
        return False
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
    return True


@pytest.fixture
def gone() -> Gone:
    return is_gone


class Gate:
    """A FIFO between a job and its test: either waits for a line of the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._text = b""

    async def line(self) -> str:
        """The next line that the job writes to it."""
        async with asyncio.timeout(5):
            while b"\n" not in self._text:
                ready = asyncio.Event()
                asyncio.get_running_loop().add_reader(self._fd, ready.set)
                try:
                    await ready.wait()
                finally:
                    asyncio.get_running_loop().remove_reader(self._fd)
                self._text += os.read(self._fd, 4096)
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def open(self, lines: int = 1) -> None:
        """Let a job go on that reads from it."""
        os.write(self._fd, b"go\n" * lines)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Callable[[], Gate]]:
    gates: list[Gate] = []

    def new() -> Gate:
        gates.append(Gate(tmp_path / f"gate{len(gates)}"))
        return gates[-1]

    yield new
    for each in gates:
        each.close()


@pytest.fixture
def sh(tmp_path: Path) -> Callable[..., JobSpec]:
    """A job that runs shell text, with `$1` and so on from `args`."""

    def spec(
        job_id: JobId,
        text: str,
        *args: object,
        env: dict[str, str] | None = None,
        cwd: str = "",
        lock: str | None = None,
        timeout_s: float = 0,
        grace_s: float = 5,
    ) -> JobSpec:
        argv = ["/bin/sh", "-c", text, "job", *map(str, args)]
        return JobSpec(job_id, argv, cwd or str(tmp_path), env or {}, timeout_s, grace_s, lock)

    return spec


@pytest.fixture
def log(host: Host) -> Callable[[JobId], Awaitable[bytes]]:
    """The whole log of a job."""

    async def read(job_id: JobId) -> bytes:
        whole = b""
        while piece := await host.read_log(job_id, len(whole)):
            whole += piece
        return whole

    return read
