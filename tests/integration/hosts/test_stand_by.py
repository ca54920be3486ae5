"""The supervisor that stands by, so that a start need not wait for its birth."""

import asyncio
import os
import re
import shutil
import signal
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mcp_server.hosts.base import ExitReason, Host, JobSpec
from mcp_server.hosts.job import START_S
from mcp_server.hosts.request import encode
from mcp_server.hosts.script import JOB
from tests.integration.hosts.conftest import FAR, LOCAL, standing_by

Sh = Callable[..., JobSpec]
Processes = Callable[[], dict[int, str]]
Gone = Callable[[int], Awaitable[bool]]


def supervisor(jobs_dir: Path, job_id: str) -> int:
    return int(next(jobs_dir.glob(f"*/{job_id}/spec")).read_text().split()[1])


def left(jobs_dir: Path) -> list[Path]:
    return list(jobs_dir.glob("*/.stand-by.*"))


async def test_it_starts_the_next_job_and_has_a_successor(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Ours: also where it had to answer for a job that is there already, which takes it nothing."""
    first, second = sh("a", "exit 3"), sh("b", "exit 4")
    await host.start(first)
    pid = await standing_by(jobs_dir)
    assert await host.start(first) is False
    assert await standing_by(jobs_dir, 1) == pid
    assert await host.start(second) is True
    assert supervisor(jobs_dir, "b") == pid != supervisor(jobs_dir, "a")
    assert await standing_by(jobs_dir, 2) != pid
    async with asyncio.timeout(5):
        assert [(await host.wait(job.id)).code for job in (first, second)] == [3, 4]


@pytest.mark.parametrize("make", [*LOCAL, FAR[0]], indirect=True)
async def test_where_it_was_killed_the_job_starts_at_once_and_another_stands_by(
    host: Host, sh: Sh, jobs_dir: Path, gone: Gone
) -> None:
    """Ours: its death is seen, not waited for."""
    await host.start(sh("a", "true"))
    pid = await standing_by(jobs_dir)
    os.kill(pid, signal.SIGKILL)
    assert await gone(pid)
    began = time.monotonic()
    assert await host.start(sh("b", "exit 5")) is True
    assert time.monotonic() - began < START_S * 0.8
    assert supervisor(jobs_dir, "b") != pid
    other = await standing_by(jobs_dir, 1)
    assert await host.start(sh("c", "exit 6")) is True
    assert supervisor(jobs_dir, "c") == other
    async with asyncio.timeout(5):
        assert [(await host.wait(job)).code for job in ("b", "c")] == [5, 6]


@pytest.mark.parametrize("make", [*LOCAL, FAR[0]], indirect=True)
async def test_where_its_directory_vanished_another_is_made(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Ours: nobody else takes it away but a hand that cleans up; no job may seem to be there that is not."""
    await host.start(sh("a", "true"))
    pid = await standing_by(jobs_dir)
    shutil.rmtree(next(jobs_dir.glob(f"*/.stand-by.*.{pid}")))
    assert await host.start(sh("b", "exit 5")) is True
    await standing_by(jobs_dir, 1)
    for path in left(jobs_dir):
        shutil.rmtree(path)
    assert await host.start(sh("c", "exit 6")) is True
    async with asyncio.timeout(5):
        assert [(await host.wait(job)).code for job in ("b", "c")] == [5, 6]


@pytest.mark.parametrize("make", [*LOCAL, FAR[0]], indirect=True)
@pytest.mark.parametrize("how", ["left", "killed"])
async def test_it_ends_with_its_multiplexer(
    make: Callable[[], Host], host: Host, sh: Sh, jobs_dir: Path, processes: Processes, gone: Gone, how: str
) -> None:
    """Ours: with all it has made, though a waiter of that multiplexer lives on for a moment."""
    client = make()
    await client.start(sh("a", "sleep 3100"))
    waiting = asyncio.create_task(client.wait("a"))
    pid = await standing_by(jobs_dir)
    if how == "killed":
        for each, line in processes().items():
            if line.endswith(" serve "):
                os.kill(each, signal.SIGKILL)
    waiting.cancel()
    await client.aclose()
    assert await gone(pid)
    async with asyncio.timeout(5):
        while any(str(pid) in path.name for path in left(jobs_dir)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("make", LOCAL, indirect=True)
async def test_killed_at_any_moment_it_leaves_a_start_that_can_be_asked_again(
    host: Host, sh: Sh, jobs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: the call comes through, and where no job is lost it ran once; never twice."""
    monkeypatch.setattr("mcp_server.hosts.job.START_S", 0.3)
    for number in range(8):
        await host.start(sh(f"w{number}", "true"))
        pid = await standing_by(jobs_dir)
        starting = asyncio.create_task(host.start(sh(f"a{number}", f"echo ran >>ran{number}")))
        await asyncio.sleep(number * 0.0007)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            assert await starting is True
            end = await host.wait(f"a{number}")
        ran = (tmp_path / f"ran{number}").read_text() if (tmp_path / f"ran{number}").exists() else ""
        assert ran == "ran\n" if end.reason is ExitReason.EXIT else ran in ("", "ran\n")


async def test_a_cut_line_in_its_queue_never_runs(jobs_dir: Path, tmp_path: Path, sh: Sh) -> None:
    """Ours: the multiplexer may be killed while it writes one."""
    job = sh("a", "touch ran", env={"A": "1"})
    line = b"1 a " + job.sha256().encode() + b" token " + encode(job)
    jobs_dir.mkdir()
    (jobs_dir / JOB.name).write_bytes(JOB.text)
    for cut in [*range(0, len(line), 23), len(line)]:
        desk = tmp_path / "desk"
        desk.mkdir()
        argv = ["sh", str(jobs_dir / JOB.name), "_stand_by", "0", "0022", "", str(desk)]
        process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
        async with asyncio.timeout(5):
            assert (await process.communicate(line[:cut]))[0] == b""
        assert not desk.exists()
    assert [re.sub(".*/", "", str(path)) for path in jobs_dir.glob("*/*")] == left(jobs_dir) == []
    assert not (tmp_path / "ran").exists()
