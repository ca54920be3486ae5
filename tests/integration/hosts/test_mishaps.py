"""What goes wrong around a job: killed helpers, cut requests, full disks, a missing script, odd shells."""

import asyncio
import os
import shlex
import shutil
import signal
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import HostFull, HostUnreachable
from mcp_server.hosts.base import ExitReason, Host, JobSpec, JobState
from mcp_server.hosts.job import JobHost
from mcp_server.hosts.local import LocalHost, LocalShell
from mcp_server.hosts.request import encode
from mcp_server.hosts.script import JOB, Script
from tests.integration.hosts.conftest import FAR, LOCAL, quiet, standing_by
from tests.support.small_disk import mounted

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]
Processes = Callable[[], dict[int, str]]
Gone = Callable[[int], Awaitable[bool]]


BUSYBOX_ALONE = [
    pytest.param("busybox", marks=pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed"))
]


def multiplexers(processes: Processes) -> list[int]:
    """Those that a client runs, not their helpers."""
    found: list[int] = []
    for pid, line in processes().items():
        with suppress(ProcessLookupError):
            if line.endswith(" serve ") and os.getpgid(pid) == pid:
                found.append(pid)
    return found


def alive(directory: Path) -> bool:
    """Whether it belongs to one who stands by, or to the multiplexer that he listens to."""
    return directory.name.startswith(".stand-by.") and Path("/proc", directory.name.rpartition(".")[2]).exists()


async def feed(jobs_dir: Path, data: bytes, *args: str) -> bytes:
    """What the script answers to `data`, and only that, on its stdin."""
    script = await asyncio.create_subprocess_exec("sh", jobs_dir / JOB.name, *args, stdin=PIPE, stdout=PIPE)
    async with asyncio.timeout(5):
        return (await script.communicate(data))[0]


@pytest.mark.parametrize("make", [*LOCAL, FAR[0]], indirect=True)  # helpers there hold the stand-in's own pipes
async def test_a_killed_multiplexer_is_replaced_and_harms_nothing(
    host: Host, sh: Sh, gate: Any, processes: Processes, gone: Gone
) -> None:
    """Ours: waits are asked again; neither a job nor a helper of the dead one stays behind."""
    go = gate()
    jobs = [sh(f"a{number}", 'read x <"$1"; exit "$2"', go.path, number) for number in range(5)]
    for job in jobs:
        await host.start(job)
    waits = [asyncio.create_task(host.wait(job.id)) for job in jobs]
    for _ in range(3):
        await host.status("a0")
        old = multiplexers(processes)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        assert [pid for pid in old if not await gone(pid)] == []
    assert (await host.status("a0")).state is JobState.RUNNING
    go.open(5)
    async with asyncio.timeout(5):
        assert [(await wait).code for wait in waits] == [0, 1, 2, 3, 4]


async def test_killed_at_any_moment_a_start_has_happened_or_not(
    host: Host, make: Callable[[], Host], sh: Sh, processes: Processes, tmp_path: Path, jobs_dir: Path
) -> None:
    """Ours: never half, never lost. Afterwards the same start brings the job to its end, once."""
    for number in range(8):
        client = make()
        await client.status("warm-up")
        if number % 2:  # by the supervisor that stands by
            others = set(jobs_dir.glob("*/.stand-by.*/ready"))
            await client.start(sh(f"w{number}", "true"))
            async with asyncio.timeout(5):
                while not set(jobs_dir.glob("*/.stand-by.*/ready")) - others:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        job = sh(f"a{number}", f"echo ran >>ran{number}; exit 7")
        starting = asyncio.create_task(client.start(job))
        pids = multiplexers(processes)
        await asyncio.sleep(number * 0.0014)  # every moment of the 10 ms that a start takes
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await client.aclose()
        async with asyncio.timeout(5):
            await host.start(job)
            end = await host.wait(job.id)
        assert (end.reason, end.code) == (ExitReason.EXIT, 7)
        assert (tmp_path / f"ran{number}").read_text() == "ran\n"


async def test_a_start_asked_twice_knows_its_own_job(host: Host, sh: Sh, processes: Processes, tmp_path: Path) -> None:
    """Ours: the multiplexer dies between the job's start and the answer; the call still says True, and it ran once."""
    for number in range(5):
        await host.status("warm-up")
        starting = asyncio.create_task(host.start(sh(f"a{number}", f"echo ran >>ran{number}")))
        pids = multiplexers(processes)
        await asyncio.sleep(number * 0.0016)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            assert await starting is True
            assert (await host.wait(f"a{number}")).code == 0
        assert (tmp_path / f"ran{number}").read_text() == "ran\n"


async def test_a_cut_request_never_runs(host: Host, sh: Sh, jobs_dir: Path, tmp_path: Path) -> None:
    """Ours: the connection may end in the middle of a line, at every byte of it."""
    await host.status("a")
    job = sh("a", "touch ran; echo done", env={"A": "1"})
    line = b"1 start a " + job.sha256().encode() + b" token " + encode(job)
    for cut in [*range(0, len(line), 23), len(line)]:
        assert (await feed(jobs_dir, line[:cut], "serve")).count(b"\n") == 1, "only the greeting"
        rest = line[len(b"1 start a ") : cut]
        await feed(jobs_dir, rest, "_supervise", "a", "0022", "1", "")
    assert list(jobs_dir.glob("*/*")) == list(jobs_dir.glob("*/.*")) == []
    assert not (tmp_path / "ran").exists()


async def test_the_multiplexer_ends_with_its_stdin(host: Host, sh: Sh, gate: Any, jobs_dir: Path) -> None:
    """Ours: at once, with all its waiters; the job goes on."""
    go = gate()
    await host.start(sh("a", 'read x <"$1"; exit 6', go.path))
    answers = await feed(jobs_dir, b"1 wait a\n2 status a\n", "serve")
    assert b"2 running" in answers or b"2 starting" in answers
    go.open()
    assert (await host.wait("a")).code == 6


async def test_what_a_dead_supervisor_prepared_is_swept(
    host: Host, make: Callable[[], Host], sh: Sh, jobs_dir: Path
) -> None:
    """Ours: it is no job, and goes when a multiplexer begins; a living one's is left alone."""
    await host.start(sh("a", "true"))
    await host.wait("a")
    machine = next(jobs_dir.glob("*/a")).parent
    (machine / ".new.b.1.999999999").mkdir()
    (machine / ".gone.c.1.999999999").mkdir()
    (machine / f".new.d.1.{os.getpid()}").mkdir()
    (machine / ".stand-by.1.999999999").mkdir()
    client = make()
    assert (await client.status("b")).state is JobState.ABSENT
    await client.aclose()
    left = {path.name for path in machine.iterdir() if not alive(path)}
    assert left - {".keeper"} == {"a", f".new.d.1.{os.getpid()}"}


async def test_a_missing_script_is_brought_again(
    host: Host, sh: Sh, jobs_dir: Path, log: Log, processes: Processes
) -> None:
    """Once broken: `sh: cannot open`. First use of a host, a cleaned folder, an upgrade in the middle of a run."""
    await host.start(sh("a", "echo one"))
    await host.wait("a")
    (jobs_dir / JOB.name).unlink()
    async with asyncio.timeout(5):
        assert await host.start(sh("b", "echo two")) is True
        assert (await host.wait("b")).code == 0
        (jobs_dir / JOB.name).unlink()
        assert b"".join([piece async for piece in host.follow("a")]) == b"one\n"
        await quiet(processes)
        while jobs_dir.exists():  # what is written to cannot be deleted, and who stands by may still be making his
            shutil.rmtree(jobs_dir, ignore_errors=True)
        assert await host.start(sh("c", "echo three")) is True
        assert (await host.wait("c")).code == 0
    assert await log("c") == b"three\n"


async def test_an_empty_script_is_brought_again(host: Host, jobs_dir: Path) -> None:
    """Ours: a power cut may leave a file without its text."""
    jobs_dir.mkdir()
    (jobs_dir / JOB.name).write_text("")
    assert (await host.status("a")).state is JobState.ABSENT


async def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """Ours: in words, and with no job started."""
    (tmp_path / "file").write_text("")
    host = LocalHost(tmp_path / "file" / "jobs")
    with pytest.raises(HostUnreachable, match=r"cannot write to .*file/jobs: Not a directory"):
        await host.status("a")
    await host.aclose()
    host = LocalHost(tmp_path / "jobs", shell=("no-such-shell",))
    with pytest.raises(HostUnreachable, match="cannot run no-such-shell"):
        await host.status("a")
    await host.aclose()


@pytest.fixture
def small_disk(jobs_dir: Path) -> Iterator[Path]:
    """jobs_dir on a file system of its own, 1 MB large."""
    yield from mounted(jobs_dir, "1m")


def fill(folder: Path) -> Path:
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (65_536, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return folder / "filler"


async def test_on_a_full_disk_nothing_is_started_and_nothing_left(
    small_disk: Path, host: Host, sh: Sh, processes: Processes
) -> None:
    """Ours: the space for the exit record is taken before the job runs."""
    await host.start(sh("a", "true"))
    await host.wait("a")
    await standing_by(small_disk)  # or it would give back what it cannot use
    await quiet(processes)
    filler = fill(small_disk)
    with pytest.raises(HostFull):
        await host.start(sh("b", "true"))
    with pytest.raises(HostFull):
        await host.kill("b")
    assert (await host.status("b")).state is JobState.ABSENT
    assert [path.name for path in small_disk.glob("*/[!.]*")] == ["a"]
    assert list(small_disk.glob("*/.[ng]*")) == []
    filler.unlink()
    assert await host.start(sh("b", "true")) is True


async def test_a_full_disk_at_the_first_use_is_said(small_disk: Path, host: Host, sh: Sh) -> None:
    """Ours: there is no room for the script either."""
    filler = fill(small_disk)
    with pytest.raises(HostFull):
        await host.start(sh("a", "true"))
    filler.unlink()
    assert await host.start(sh("a", "true")) is True


async def test_a_job_that_fills_the_disk_has_its_record(small_disk: Path, host: Host, sh: Sh) -> None:
    """Ours: exit code, reason and log size are known, though not a byte was free at the end."""
    await host.start(sh("a", "head -c 3000000 /dev/zero || exit 9"))
    async with asyncio.timeout(5):
        end = await host.wait("a")
    assert (end.reason, end.code) == (ExitReason.DISK_FULL, 9)
    assert end.log_size == (next(small_disk.glob("*/a/log"))).stat().st_size > 900_000
    await host.remove("a")


async def test_on_a_full_disk_a_job_can_succeed_fail_and_be_cancelled(
    small_disk: Path, host: Host, sh: Sh, gate: Any
) -> None:
    """Ours: only a failure is put down to the disk."""
    up, go = gate(), gate()
    for name, code in (("a", 0), ("b", 3), ("c", 0)):
        await host.start(sh(name, 'echo up >"$1"; read x <"$2"; exit "$3"', up.path, go.path, code))
    for _ in range(3):
        await up.line()
    fill(small_disk)
    async with asyncio.timeout(5):
        cancelled = (await host.kill("c")).exit
        go.open(2)
        ends = [await host.wait("a"), await host.wait("b"), cancelled]
    assert [end and (end.reason, end.code) for end in ends] == [
        (ExitReason.EXIT, 0),
        (ExitReason.DISK_FULL, 3),
        (ExitReason.CANCELLED, 143),
    ]


@pytest.mark.parametrize("make", BUSYBOX_ALONE, indirect=True)
async def test_without_flock_the_job_runs_and_says_so(host: Host, sh: Sh, log: Log, tmp_path: Path) -> None:
    """Ours: where the lock is missing, the lease of the build folder still holds."""
    build = str(tmp_path / "build")
    await host.start(sh("a", "echo ran", lock=build))
    assert (await host.wait("a")).code == 0
    assert (await log("a")).decode() == f"build-orchestrator: no flock here: {build} is not locked\nran\n"


@pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")
async def test_without_setsid_perl_does(jobs_dir: Path, tmp_path: Path, sh: Sh) -> None:
    """Ours: macOS has no setsid."""
    tools = "awk cat date env grep head mkdir mkfifo mv perl rm sh sleep sort tail tr uname wc"
    (tmp_path / "tools").mkdir()
    for tool in tools.split():
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool) or "/missing")
    host = LocalHost(jobs_dir, path=str(tmp_path / "tools"))
    async with asyncio.timeout(5):
        await host.start(sh("a", "grep -c 'SigIgn:.*0$' /proc/self/status; exit 3"))
        assert (await host.wait("a")).code == 3
        assert await host.read_log("a", 0) == b"1\n"
        await host.start(sh("b", "sleep 3300"))
        assert (await host.kill("b")).state is JobState.ENDED
    await host.aclose()


@pytest.mark.parametrize("record", ["spec", "exit"])
async def test_records_that_a_power_cut_emptied_mean_lost(
    host: Host, sh: Sh, jobs_dir: Path, record: str, gone: Gone
) -> None:
    """Ours: never running, never an error for ever, never a second run."""
    await host.start(sh("a", "true"))
    await host.wait("a")
    folder = next(jobs_dir.glob("*/a"))
    assert await gone(int((folder / "spec").read_text().split()[1]))  # a power cut spares no supervisor
    if record == "spec":
        (folder / "exit").unlink()
    (folder / record).write_text("")
    assert (await host.status("a")).state is JobState.LOST
    assert (await host.wait("a")).reason is ExitReason.LOST
    assert (await host.kill("a")).state is JobState.LOST
    assert await host.start(sh("a", "true")) is False
    await host.remove("a")
    assert (await host.status("a")).state is JobState.ABSENT


async def test_a_host_without_the_tools_is_unreachable(jobs_dir: Path, tmp_path: Path) -> None:
    """Ours: said at once, not at the first cancel that cannot find its processes."""
    (tmp_path / "tools").mkdir()
    for tool in ("sh", "tr", "uname"):
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool) or "/missing")
    host = LocalHost(jobs_dir, path=str(tmp_path / "tools"))
    with pytest.raises(HostUnreachable, match="awk is missing"):
        await host.status("a")
    await host.aclose()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize("make", ["bash"], indirect=True)
async def test_bash_as_sh(host: Host, sh: Sh, log: Log) -> None:
    """Once broken: bash keeps a copy of what a redirection closes; as a writer of `alive` it hid every end."""
    value = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    async with asyncio.timeout(8):
        assert await host.start(sh("a", 'printf %s "$1" "$X"; exit 3', value, env={"X": value})) is True
        waiting = asyncio.create_task(host.wait("a"))
        assert b"".join([piece async for piece in host.follow("a")]) == await log("a")
        assert (await waiting).code == 3
        assert (await log("a")).decode("utf-8", "surrogateescape") == value * 2
        await host.start(sh("b", "trap '' TERM; sleep 3300", timeout_s=0.2, grace_s=0.1))
        assert (await host.wait("b")).reason is ExitReason.TIMEOUT
        await host.start(sh("c", "sleep 3300"))
        assert (await host.kill("c")).state is JobState.ENDED
        assert (await host.kill("d")).state is JobState.ENDED
        await host.remove("c")


class LoginShell(LocalShell):
    """As sshd does it: one line of text, given to whatever shell the user has."""

    def argv(self, script: Script, op: str, *args: str) -> list[str]:
        return [*self._shell, "-c", shlex.join(["sh", *super().argv(script, op, *args)[len(self._shell) :]])]


@pytest.mark.parametrize("login", ["fish", "tcsh", "bash", "dash"])
async def test_any_login_shell_can_stand_between(login: str, tmp_path: Path, sh: Sh) -> None:
    """Once broken: fish does not know `$$`. The command line is a constant, a word and a safe id."""
    program = shutil.which(login)
    if program is None:
        pytest.skip(f"{login} is not installed")
    host = JobHost(LoginShell(tmp_path / "jobs", "login", [program], os.environ["PATH"]))
    umask = os.umask(0o022)
    os.umask(umask)
    value = "a'b!\"$c\n\\"
    async with asyncio.timeout(8):
        await host.start(sh("a", 'printf "%s|%s" "$X" "$1"; exit 9', value, env={"X": value}))
        assert b"".join([piece async for piece in host.follow("a")]).decode() == f"{value}|{value}"
        assert (await host.wait("a")).code == 9
        assert await host.read_log("a", 2, 3) == value.encode()[2:5]
        assert await host.read_log("a", -3) == value.encode()[-3:]
        await host.start(sh("c", "umask"))
        await host.wait("c")
        assert int(await host.read_log("c", 0), 8) == umask
        await host.start(sh("b", "sleep 3300"))
        assert (await host.kill("b")).state is JobState.ENDED
    await host.aclose()
