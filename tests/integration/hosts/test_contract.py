"""The Host port's contract: what every make of it does. Cancelling, locks, logs and mishaps have files of their own."""

import asyncio
import os
import signal
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import BadInput, Conflict, HostError, JobConflict, NotFound
from mcp_server.hosts.base import Exit, ExitReason, Host, JobSpec, JobState
from mcp_server.hosts.request import DEFAULT_PATH
from tests.integration.hosts.conftest import BOTH, LOCAL, MAKES, maker

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]
ALL_BYTES = bytes(range(1, 256)).decode("utf-8", "surrogateescape")


@pytest.fixture(params=[*MAKES, BOTH])
def make(request: pytest.FixtureRequest, jobs_dir: Path) -> Callable[[], Host]:
    """Also a far host with nothing but busybox."""
    return maker(request, jobs_dir)


async def run(host: Host, job: JobSpec) -> Exit:
    async with asyncio.timeout(5):
        await host.start(job)
        return await host.wait(job.id)


async def test_a_job_is_started_before_it_ends_and_its_code_is_exact(host: Host, sh: Sh, gate: Any) -> None:
    """Ours: start acknowledges, wait brings the exit record."""
    go = gate()
    job = sh("a", 'read line <"$1"; exit 41', go.path)
    assert await host.start(job) is True
    assert (await host.status("a")).state in (JobState.STARTING, JobState.RUNNING)
    assert (await host.status("a")).spec_sha256 == job.sha256()

    go.open()
    async with asyncio.timeout(5):
        end = await host.wait("a")

    assert (end.reason, end.code, end.log_size) == (ExitReason.EXIT, 41, 0)
    assert end.started_at and end.ended_at and 0 <= end.ended_at - end.started_at < 5
    status = await host.status("a")
    assert (status.state, status.spec_sha256, status.exit) == (JobState.ENDED, job.sha256(), end)


@pytest.mark.parametrize(("text", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -2 $$", 130)])
async def test_every_code_comes_through(host: Host, sh: Sh, text: str, code: int) -> None:
    """Ours: 128+n for a signal."""
    assert await run(host, sh("a", text)) == Exit(ExitReason.EXIT, code, *(await times(host)), 0)


async def times(host: Host) -> tuple[float | None, float | None]:
    end = (await host.status("a")).exit
    return (end.started_at, end.ended_at) if end else (None, None)


async def test_the_same_job_again_is_joined(host: Host, make: Callable[[], Host], sh: Sh, log: Log) -> None:
    """Ours: while it runs, when it has ended, and from another client."""
    job = sh("a", "echo ran")
    assert await host.start(job) is True
    assert await host.start(job) is False
    await run(host, job)
    other = make()
    assert await other.start(job) is False
    assert (await other.wait("a")).code == 0
    await other.aclose()
    assert await log("a") == b"ran\n"


async def test_of_many_starts_at_once_one_starts_the_job(
    host: Host, make: Callable[[], Host], sh: Sh, log: Log
) -> None:
    """Ours: from several clients at once, which all hear the same end."""
    clients = [host, make(), make()]
    job = sh("a", "echo ran; exit 7")
    async with asyncio.timeout(10):
        started = await asyncio.gather(*(client.start(job) for client in clients * 4))
        ends = await asyncio.gather(*(client.wait("a") for client in clients * 4))
    for client in clients[1:]:
        await client.aclose()
    assert sorted(started) == [False] * 11 + [True]
    assert {end.code for end in ends} == {7}
    assert await log("a") == b"ran\n"


async def test_another_job_under_the_same_id_is_a_conflict(host: Host, sh: Sh, log: Log) -> None:
    """Ours: two databases, one server: never a join with a stranger's job."""
    await run(host, sh("a", "echo first"))
    with pytest.raises(JobConflict):
        await host.start(sh("a", "echo second"))
    assert await log("a") == b"first\n"


async def test_arguments_and_environment_arrive_byte_by_byte(host: Host, sh: Sh, log: Log) -> None:
    """Ours: no quoting, expansion or decoding between the caller and the job."""
    nasty = "a b'c\"$(touch /tmp/never)`id`;\n\n*!é\\\r\t~ "
    program = 'printf %s "$1" "$2" "$EMPTY" "$NASTY" "$ALL"'
    await run(host, sh("a", program, nasty, ALL_BYTES, env={"NASTY": nasty, "ALL": ALL_BYTES, "EMPTY": ""}))
    assert (await log("a")).decode("utf-8", "surrogateescape") == (nasty + ALL_BYTES) * 2


async def test_a_long_specification_arrives_whole(host: Host, sh: Sh, log: Log) -> None:
    """Ours: more than a pipe holds."""
    env = {f"VALUE_{n}": str(n) * 30_000 for n in range(4)}
    await run(host, sh("a", 'printf "$VALUE_0$VALUE_3$1" | wc -c', "x" * 60_000, env=env))
    assert int(await log("a")) == 120_000


async def test_the_environment_is_the_given_one_and_nothing_else(
    host: Host, jobs_dir: Path, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: what the caller or a shell on the way has set never reaches a job."""
    monkeypatch.setenv("OF_THE_CALLER", "1")
    job = JobSpec("a", ["env", "-0"], str(tmp_path), {"GIVEN": "1", "LC_ALL": "C.UTF-8"})
    await run(host, job)
    lines = (await log("a")).decode().strip("\0").split("\0")
    cookie = next(jobs_dir.glob("*/a"))
    assert sorted(lines) == ["BO_JOB=" + str(cookie), "GIVEN=1", "LC_ALL=C.UTF-8", "PATH=" + DEFAULT_PATH]


async def test_a_secret_is_in_no_argument_and_no_file(host: Host, jobs_dir: Path, sh: Sh, gate: Any) -> None:
    """Ours: it travels from pipe to memory."""
    up, go = gate(), gate()
    await host.start(sh("a", 'echo up >"$1"; read x <"$2"', up.path, go.path, env={"TOKEN": "hunter2hunter2"}))
    await up.line()
    for found in [*Path("/proc").glob("[0-9]*/cmdline"), *(path for path in jobs_dir.rglob("*") if path.is_file())]:
        try:
            assert b"hunter2" not in found.read_bytes(), found
        except OSError:
            continue
    go.open()
    assert (await host.wait("a")).code == 0


async def test_a_missing_folder_or_program_is_said_in_the_log(host: Host, log: Log, tmp_path: Path) -> None:
    """Ours: 126 and 127, as shells have it."""
    assert (await run(host, JobSpec("a", ["true"], "/no/such folder"))).code == 126
    assert await log("a") == b"build-orchestrator: cannot enter /no/such folder\n"
    assert (await run(host, JobSpec("b", ["no-such-program"], str(tmp_path)))).code == 127
    assert b"no-such-program" in await log("b")


async def test_a_program_too_long_to_run_ends(host: Host, tmp_path: Path, log: Log) -> None:
    """Linux: one argument holds at most 128 kB."""
    assert (await run(host, JobSpec("a", ["true", "x" * 200_000], str(tmp_path)))).code in (2, 126)
    assert b"too long" in await log("a")


async def test_stdin_is_empty_and_no_other_descriptor_leaks(host: Host, log: Log, tmp_path: Path) -> None:
    """Ours: a leaked writer of `alive` would hide the job's end."""
    await run(
        host, JobSpec("a", ["python3", "-c", "import os; print(os.listdir('/proc/self/fd'), os.read(0, 1))"], "/")
    )
    assert await log("a") == b"['0', '1', '2', '3'] b''\n"  # 3 reads the folder


@pytest.mark.parametrize("make", LOCAL, indirect=True)  # far away it is the login's
@pytest.mark.parametrize("mask", [0o022, 0o027])
async def test_the_jobs_umask_is_the_users(make: Callable[[], Host], host: Host, sh: Sh, log: Log, mask: int) -> None:
    """Once broken: the records' own umask made build products unreadable to others."""
    old = os.umask(mask)
    try:
        client = make()
        await run(client, sh("a", "umask"))
        await client.aclose()
    finally:
        os.umask(old)
    assert int(await log("a"), 8) == mask


async def test_records_are_readable_by_the_user_alone(host: Host, jobs_dir: Path, sh: Sh) -> None:
    """Ours: 0700 and 0600."""
    await run(host, sh("a", "echo hello"))
    for path in [jobs_dir, *jobs_dir.rglob("*")]:
        with suppress(FileNotFoundError):  # the keeper of logs has just taken note of the end
            mode = path.stat().st_mode
            assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path
    names = {path.name for path in next(jobs_dir.glob("*/a")).iterdir()}
    assert names == {"log", "pid", "alive", "why", "exit", "spec"}


async def test_interrupts_reach_the_job(host: Host, sh: Sh, log: Log) -> None:
    """Once broken: `cmd &` leaves SIGINT ignored for good, and test suites that use Ctrl-C hang."""
    await run(host, sh("a", "grep SigIgn /proc/self/status"))
    assert int((await log("a")).split()[1], 16) & 0b110 == 0


@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_interrupts_reach_the_job_of_a_client_that_ignores_them(
    host: Host, make: Callable[[], Host], sh: Sh, log: Log
) -> None:
    """Ours: a worker started by `cmd &` from a script. env of GNU coreutils mends it, busybox has nothing that does."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        client = make()
        await run(client, sh("a", "grep SigIgn /proc/self/status"))
        await client.aclose()
    finally:
        signal.signal(signal.SIGINT, old)
    assert int((await log("a")).split()[1], 16) & 0b110 == 0


async def test_an_absent_job_is_known_to_be_absent(host: Host) -> None:
    """Ours: not an error to ask, but nothing to wait for, read or remove."""
    status = await host.status("a")
    assert (status.state, status.spec_sha256, status.exit) == (JobState.ABSENT, None, None)
    with pytest.raises(NotFound):
        await host.wait("a")
    with pytest.raises(NotFound):
        await host.read_log("a", 0)
    with pytest.raises(NotFound):
        async for _ in host.follow("a"):
            pass
    await host.remove("a")


@pytest.mark.parametrize("unsafe", ["../x", "a;b", "$(id)", "", "a b", ".a", "a\nb", "x/../y"])
async def test_an_unsafe_id_is_refused(host: Host, unsafe: str) -> None:
    """Ours: an id is a part of a path and of a request's line."""
    for call in (host.status, host.wait, host.kill, host.remove):
        with pytest.raises(BadInput):
            await call(unsafe)
    with pytest.raises(BadInput):
        await host.read_log(unsafe, 0)
    with pytest.raises(BadInput):
        await anext(aiter(host.follow(unsafe)))


async def test_remove_deletes_what_is_over_and_nothing_else(host: Host, jobs_dir: Path, sh: Sh, gate: Any) -> None:
    """Ours. Afterwards the id is free again."""
    go = gate()
    job = sh("a", 'read x <"$1"', go.path)
    await host.start(job)
    with pytest.raises(Conflict):
        await host.remove("a")
    go.open()
    await host.wait("a")
    await host.remove("a")
    assert list(jobs_dir.glob("*/[!.]*")) == list(jobs_dir.glob("*/.[ng]*")) == []
    assert (await host.status("a")).state is JobState.ABSENT
    go.open()
    assert await host.start(job) is True


async def test_a_cancelled_wait_leaves_the_job_running(host: Host, sh: Sh, gate: Any) -> None:
    """Ours. The next wait, and one that stayed, hear the end."""
    go = gate()
    await host.start(sh("a", 'read x <"$1"; exit 3', go.path))
    stays = asyncio.create_task(host.wait("a"))
    for _ in range(3):
        leaves = asyncio.create_task(host.wait("a"))
        await asyncio.sleep(0)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
    go.open()
    async with asyncio.timeout(5):
        assert (await stays).code == (await host.wait("a")).code == 3


async def test_jobs_outlive_the_client(host: Host, make: Callable[[], Host], sh: Sh, gate: Any) -> None:
    """Ours: a job belongs to its host."""
    go = gate()
    client = make()
    await client.start(sh("a", 'read x <"$1"; exit 5', go.path))
    waiting = asyncio.create_task(client.wait("a"))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(HostError):
        await waiting
    go.open()
    async with asyncio.timeout(5):
        assert (await host.wait("a")).code == 5
