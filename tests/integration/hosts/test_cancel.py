"""Ends that a job does not choose: cancelled, timed out, lost. Nothing of its tree stays, and no stranger dies."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcp_server.hosts.base import ExitReason, Host, JobSpec, JobState
from tests.integration.hosts.conftest import LOCAL

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]
Processes = Callable[[], dict[int, str]]
Gone = Callable[[int], Awaitable[bool]]

NAP = f"3000.{os.getpid()}"  # seconds

# Children of every kind: in a session of their own, without the environment, deaf to TERM. Each tells $1 that it is up
# and sleeps for $2.
FAMILY = """
child() { echo 'trap "$2" TERM; echo up >"$1"; exec sleep "$3"'; }
setsid sh -c "$(child)" sh "$1" - "$2" &
env -i /bin/sh -c "$(child)" sh "$1" - "$2" &
setsid env -i /bin/sh -c "$(child)" sh "$1" - "$2" &
setsid env -i /bin/sh -c "$(child)" sh "$1" '' "$2" &
(setsid sh -c "$(child)" sh "$1" '' "$2" &)
sh -c "$(child)" sh "$1" '' "$2" &
sh -c "$(child)" sh "$1" - "$2"
"""


async def all_up(gate: Any) -> None:
    for _ in range(7):
        assert await gate.line() == "up"


def family() -> list[int]:
    """Pids of all that will sleep, or sleeps, as long as only this test run does."""
    found: list[int] = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if NAP.encode() in line.read_bytes().split(b"\0"):
                found.append(int(line.parent.name))
    return found


def supervisor(jobs_dir: Path, job_id: str) -> int:
    return int(next(jobs_dir.glob(f"*/{job_id}/spec")).read_text().split()[1])


def leader(jobs_dir: Path, job_id: str) -> int:
    return int(next(jobs_dir.glob(f"*/{job_id}/pid")).read_text().split()[0])


async def test_a_cancel_ends_the_whole_family_within_two_seconds(host: Host, sh: Sh, gate: Any) -> None:
    """Ours, at a grace of one second. The exit record says cancelled and the code that the job had."""
    up = gate()
    await host.start(sh("a", FAMILY, up.path, NAP))
    await all_up(up)
    began = time.monotonic()
    async with asyncio.timeout(5):
        status = await host.kill("a", grace_s=1)
    assert time.monotonic() - began < 2
    assert status.state is JobState.ENDED
    assert status.exit and (status.exit.reason, status.exit.code) == (ExitReason.CANCELLED, 143)
    assert family() == []
    assert await host.wait("a") == status.exit


@pytest.mark.parametrize("make", LOCAL, indirect=True)
async def test_why_a_job_ended_is_read_again_where_it_is_just_being_written(
    host: Host, sh: Sh, gate: Any, jobs_dir: Path
) -> None:
    """Ours. A cancel in the moment of the end: shells read letter by letter, this one `e` of the word before."""
    up, go = gate(), gate()
    await host.start(sh("a", 'echo up >"$1"; read x <"$2"', up.path, go.path))
    await up.line()
    why = next(jobs_dir.glob("*/a/why"))
    why.unlink()
    os.mkfifo(why)
    both = os.open(why, os.O_RDWR)
    os.write(both, b"eancelled      \ncancelled      \n")
    go.open()
    async with asyncio.timeout(10):
        assert (await host.wait("a")).reason is ExitReason.CANCELLED
    os.close(both)


async def test_who_ends_at_term_is_given_the_time(host: Host, sh: Sh, gate: Any, log: Log) -> None:
    """Ours: TERM comes first and once; a fractional grace counts."""
    up = gate()
    text = """trap 'echo told' TERM; sleep 3009 & echo up >"$1"; wait; sleep 0.3; echo saved; exit 9"""
    await host.start(sh("a", text, up.path))
    await up.line()
    status = await host.kill("a", grace_s=9.5)
    assert status.exit and (status.exit.reason, status.exit.code) == (ExitReason.CANCELLED, 9)
    assert await log("a") == b"told\nsaved\n"


async def test_who_takes_too_long_is_killed(host: Host, sh: Sh, gate: Any, log: Log) -> None:
    """Ours."""
    up = gate()
    await host.start(sh("a", """trap '' TERM; echo up >"$1"; sleep 3009; echo late""", up.path))
    await up.line()
    began = time.monotonic()
    status = await host.kill("a", grace_s=0.2)
    assert 0.19 <= time.monotonic() - began < 4  # the script counts in whole hundredths
    assert status.exit and (status.exit.reason, status.exit.code) == (ExitReason.CANCELLED, 137)
    assert await log("a") == b""


async def test_waits_and_followers_hear_of_a_cancel(host: Host, make: Callable[[], Host], sh: Sh, gate: Any) -> None:
    """Ours: from another client as well."""
    up, other = gate(), make()
    await host.start(sh("a", 'echo "$2" | tee "$1"; sleep 3009', up.path, "seen"))
    await up.line()

    async def follow() -> bytes:
        return b"".join([piece async for piece in other.follow("a")])

    tasks = [asyncio.create_task(host.wait("a")), asyncio.create_task(other.wait("a"))]
    following = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        await host.kill("a")
        assert {(await task).reason for task in tasks} == {ExitReason.CANCELLED}
        assert await following == b"seen\n"
    await other.aclose()


async def test_a_job_cancelled_before_its_start_never_runs(host: Host, sh: Sh, tmp_path: Path) -> None:
    """Ours: a cancel may overtake the start that it is meant for."""
    status = await host.kill("a")
    assert status.state is JobState.ENDED
    assert status.spec_sha256 is None
    assert status.exit and (status.exit.reason, status.exit.code) == (ExitReason.CANCELLED, 143)
    assert await host.start(sh("a", "touch ran")) is False
    assert await host.wait("a") == status.exit
    assert await host.kill("a") == status
    assert [piece async for piece in host.follow("a")] == []
    assert not (tmp_path / "ran").exists()


async def test_start_and_cancel_at_once_end_in_a_cancelled_job(host: Host, sh: Sh) -> None:
    """Ours: whoever is first, after the cancel nothing runs and nothing will."""
    async with asyncio.timeout(20):
        for number in range(6):
            job = sh(f"a{number}", "sleep 3009")
            calls = (
                (host.start(job), host.kill(job.id, 0.1)) if number % 2 else (host.kill(job.id, 0.1), host.start(job))
            )
            await asyncio.gather(*calls)
            status = await host.status(job.id)
            assert status.exit and status.exit.reason is ExitReason.CANCELLED
    assert family() == []


async def test_two_cancels_of_an_absent_job_agree(host: Host) -> None:
    """Ours."""
    first, second = await asyncio.gather(host.kill("a"), host.kill("a"))
    assert first == second
    assert first.state is JobState.ENDED


async def test_a_cancel_after_the_end_changes_nothing(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Ours."""
    await host.start(sh("a", "exit 4"))
    end = await host.wait("a")
    before = {path: path.read_bytes() for path in jobs_dir.glob("*/a/*") if path.is_file()}
    assert (await host.kill("a")).exit == end
    assert {path: path.read_bytes() for path in before} == before


async def test_no_stranger_dies(host: Host, sh: Sh, gate: Any) -> None:
    """Once broken: a missing session was 0, which every kernel thread and a container's strangers have."""
    up = gate()
    await host.start(sh("a", "sleep 3009"))
    await host.start(sh("a1", 'echo up >"$1"; sleep 3009', up.path))  # its id begins like the other's
    await up.line()
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        await host.kill("a")
        assert stranger.returncode is None
        assert (await host.status("a1")).state is JobState.RUNNING
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_timeout_ends_the_whole_family(host: Host, sh: Sh, gate: Any) -> None:
    """Ours: kept on the host itself; nobody need be connected. The record comes only when nothing is left."""
    up, began = gate(), time.monotonic()
    await host.start(sh("a", FAMILY, up.path, NAP, timeout_s=0.6, grace_s=0.2))
    async with asyncio.timeout(5):
        end = await host.wait("a")
    assert time.monotonic() - began >= 0.6
    assert (end.reason, end.code) == (ExitReason.TIMEOUT, 143)
    assert family() == []
    assert end.started_at and end.ended_at
    assert 0 <= end.ended_at - end.started_at < 3  # a `date` without nanoseconds knows whole seconds only


async def test_a_job_in_time_leaves_no_timer(host: Host, sh: Sh, processes: Processes, gone: Gone) -> None:
    """Ours: nor does one that is lost or over at once."""
    limit = 7_000_000 + os.getpid()
    async with asyncio.timeout(5):
        for number in range(8):
            job = sh(f"a{number}", "exit 0", timeout_s=limit)
            await host.start(job)
            assert (await host.wait(job.id)).reason is ExitReason.EXIT
    assert [line for pid, line in processes().items() if "_supervise" in line and not await gone(pid)] == []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert str(limit).encode() not in line.read_bytes()


async def test_a_killed_supervisor_means_lost_at_once(host: Host, sh: Sh, gate: Any, jobs_dir: Path) -> None:
    """Ours: a state of its own, known to all; what survives is ended by kill, and the answer stays lost."""
    up = gate()
    await host.start(sh("a", FAMILY, up.path, NAP, timeout_s=1000))
    await all_up(up)
    waiting = asyncio.create_task(host.wait("a"))
    await host.status("a")
    began = time.monotonic()
    os.kill(supervisor(jobs_dir, "a"), signal.SIGKILL)
    async with asyncio.timeout(5):
        end = await waiting
    assert time.monotonic() - began < 2  # its time limit is 1000
    assert (end.reason, end.code) == (ExitReason.LOST, None)
    assert (await host.status("a")).state is JobState.LOST
    assert family() != []
    assert (await host.kill("a", grace_s=0.2)).state is JobState.LOST
    assert family() == []
    assert (await host.status("a")).exit == end


async def test_a_lost_job_is_never_started_again_under_its_id(host: Host, sh: Sh, gate: Any, jobs_dir: Path) -> None:
    """Ours: it may have done half of its work. Removed, the id is free."""
    up = gate()
    job = sh("a", 'echo up >"$1"; sleep 3009', up.path)
    await host.start(job)
    await up.line()
    os.kill(supervisor(jobs_dir, "a"), signal.SIGKILL)
    assert (await host.wait("a")).reason is ExitReason.LOST
    assert await host.start(job) is False
    await host.kill("a", 0)
    await host.remove("a")
    assert await host.start(job) is True


@pytest.mark.parametrize("what", ["boot", "start"])
async def test_after_a_reboot_a_job_is_lost_and_its_number_is_anothers(
    host: Host, sh: Sh, gate: Any, jobs_dir: Path, what: str, gone: Gone
) -> None:
    """Ours: simulated by records that name a living stranger, of another boot or another start time."""
    up = gate()
    await host.start(sh("a", 'echo up >"$1"; sleep 3009', up.path))
    await up.line()
    for pid in (supervisor(jobs_dir, "a"), leader(jobs_dir, "a")):
        os.kill(pid, signal.SIGKILL)
        assert await gone(pid)
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        born = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        claim = f"{stranger.pid} {born} 0000-another-boot" if what == "boot" else f"{stranger.pid} 1 {boot}"
        folder = next(jobs_dir.glob("*/a"))
        digest = (folder / "spec").read_text().split()[0]
        (folder / "spec").write_text(f"{digest} {claim} token\n")
        (folder / "pid").write_text(f"{claim}\n")
        status = await host.status("a")
        assert (status.state, status.spec_sha256) == (JobState.LOST, digest)
        assert (await host.wait("a")).reason is ExitReason.LOST
        assert (await host.kill("a")).state is JobState.LOST
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()
