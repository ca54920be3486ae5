"""The kernel lock of a job's build folder."""

import asyncio
import fcntl
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.hosts.base import ExitReason, Host, JobSpec, JobState

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]

pytestmark = [
    pytest.mark.skipif(shutil.which("flock") is None, reason="flock of util-linux is not installed"),
    pytest.mark.parametrize("make", ["local"], indirect=True),  # busybox may have none: test_mishaps.py
]


@pytest.fixture
def build(tmp_path: Path) -> str:
    return str(tmp_path / "project dir" / "build")


async def said(host: Host, job_id: str, text: str) -> None:
    """Until the job's log says `text`."""
    log = b""
    async with asyncio.timeout(5):
        async for piece in host.follow(job_id):
            log += piece
            if text.encode() in log:
                return
    everybody = {each: (await host.status(each), await host.read_log(each, 0)) for each in ("a", "b")}
    raise AssertionError(log, everybody)


async def test_the_folder_is_made_and_stays_empty(host: Host, sh: Sh, log: Log, build: str) -> None:
    """Ours: a lock file would be litter in a build folder, and idf.py fullclean stumbles over strangers' files."""
    await host.start(sh("a", "pwd; ls -A", cwd=build, lock=build))
    assert (await host.wait("a")).code == 0
    assert await log("a") == build.encode() + b"\n"


async def test_one_job_at_a_time_in_a_folder(host: Host, sh: Sh, gate: Any, log: Log, build: str) -> None:
    """Ours: the next one says that it waits, and goes on the moment the first ends."""
    up, go = gate(), gate()
    await host.start(sh("a", 'echo up >"$1"; read x <"$2"', up.path, go.path, lock=build))
    await up.line()
    await host.start(sh("b", "echo ran", lock=build))
    waiting = f"build-orchestrator: waiting for {build}, locked by another job\n"
    await said(host, "b", waiting)
    assert (await host.status("b")).state is JobState.RUNNING
    go.open()
    async with asyncio.timeout(5):
        assert (await host.wait("b")).code == 0
    assert (await log("b")).decode() == waiting + "ran\n"


async def test_other_folders_are_not_waited_for(host: Host, sh: Sh, gate: Any, build: str) -> None:
    """Ours."""
    go = gate()
    await host.start(sh("a", 'read x <"$1"', go.path, lock=build))
    await host.start(sh("b", "true", lock=build + "2"))
    async with asyncio.timeout(5):
        assert (await host.wait("b")).code == 0
    go.open()
    await host.wait("a")


async def test_any_other_holder_is_noticed(host: Host, sh: Sh, build: str, log: Log) -> None:
    """Ours: it is the kernel's lock of the folder, so another installation or a test like this one counts as well."""
    Path(build).mkdir(parents=True)
    descriptor = os.open(build, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    await host.start(sh("a", "echo ran", lock=build))
    await said(host, "a", "waiting for")
    os.close(descriptor)
    async with asyncio.timeout(5):
        assert (await host.wait("a")).code == 0


async def test_the_survivor_of_a_lost_job_still_holds_it(
    host: Host, sh: Sh, gate: Any, build: str, jobs_dir: Path
) -> None:
    """Ours: or two builds would write to one folder. Ending the survivor lets the next one in."""
    up = gate()
    await host.start(sh("a", '(setsid sh -c "echo up >$1; sleep 3100" &) ; sleep 3101', up.path, lock=build))
    await up.line()
    for record, word in (("spec", 1), ("pid", 0)):
        os.kill(int(next(jobs_dir.glob(f"*/a/{record}")).read_text().split()[word]), signal.SIGKILL)
    assert (await host.wait("a")).reason is ExitReason.LOST
    await host.start(sh("b", "true", lock=build))
    await said(host, "b", "waiting for")
    async with asyncio.timeout(5):
        await host.kill("a", grace_s=0.5)
        assert (await host.wait("b")).code == 0


async def test_who_ends_the_waiting_flock_gives_no_leave_to_run(
    host: Host, sh: Sh, gate: Any, log: Log, build: str
) -> None:
    """Ours: a process that hangs is easily taken for one in the way."""
    go = gate()
    await host.start(sh("a", 'echo first; read x <"$1"', go.path, lock=build))
    await said(host, "a", "first")
    await host.start(sh("b", "echo ran", lock=build))
    await said(host, "b", "waiting for")
    old = await waiting_flock(host)
    os.kill(old, signal.SIGTERM)
    assert await waiting_flock(host, old)
    go.open()
    async with asyncio.timeout(5):
        assert (await host.wait("b")).code == 0
    assert (await log("b")).endswith(b"locked by another job\nran\n")
    assert (await log("b")).count(b"\n") == 2


async def waiting_flock(host: Host, old: int = 0) -> int:
    """The process that waits for the lock of job b, another than `old`."""
    leader = int((Path(await host.directory()) / "b" / "pid").read_text().split()[0])
    children = Path(f"/proc/{leader}/task/{leader}/children")
    async with asyncio.timeout(5):
        while True:
            if (found := [int(pid) for pid in children.read_text().split()]) and found != [old]:
                return found[0]
            await asyncio.sleep(0.005)


async def test_who_waits_in_line_can_be_cancelled_and_times_out(host: Host, sh: Sh, gate: Any, build: str) -> None:
    """Ours: without having run."""
    go = gate()
    await host.start(sh("a", 'echo first; read x <"$1"', go.path, lock=build))
    await said(host, "a", "first")  # else another may take the lock before it
    await host.start(sh("b", "touch ran", lock=build))
    await host.start(sh("c", "touch ran", lock=build, timeout_s=0.3))
    async with asyncio.timeout(5):
        assert (await host.wait("c")).reason is ExitReason.TIMEOUT
        await said(host, "b", "waiting for")
        status = await host.kill("b")
        assert status.exit and status.exit.reason is ExitReason.CANCELLED
        go.open()
        assert (await host.wait("a")).code == 0
    assert not (Path(build).parent / "ran").exists()


async def test_a_folder_that_cannot_be_made_is_said(host: Host, sh: Sh, log: Log, tmp_path: Path) -> None:
    """Ours."""
    (tmp_path / "file").write_text("")
    await host.start(sh("a", "echo ran", lock=str(tmp_path / "file")))
    assert (await host.wait("a")).code == 126
    assert f"cannot make or read {tmp_path / 'file'}".encode() in await log("a")
