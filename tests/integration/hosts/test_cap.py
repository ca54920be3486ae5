"""The cap of a log: its middle is given up on the host itself, offsets stay true, and readers need not read NULs."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_server.hosts.base import ExitReason, Host, JobSpec
from mcp_server.hosts.local import LocalHost
from tests.integration.hosts.conftest import WITH_COREUTILS

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]
Gone = Callable[[int], Awaitable[bool]]
Processes = Callable[[], dict[int, str]]

CAP = 1 << 20
pytestmark = pytest.mark.skipif(shutil.which("fallocate") is None, reason="fallocate of util-linux is not installed")
WITH_HOLES = pytest.mark.parametrize("make", WITH_COREUTILS, indirect=True)  # fallocate of busybox makes none
LINES = 'i=0; while [ $i -lt "$1" ]; do printf "%1023d\\n" $i; i=$((i+1)); done'


def line(number: int) -> bytes:
    return b"%1023d\n" % number


def used(jobs_dir: Path, job_id: str = "a") -> int:
    """Bytes on disk, as du counts them."""
    return next(jobs_dir.glob(f"*/{job_id}/log")).stat().st_blocks * 512


def keeper(jobs_dir: Path) -> int:
    return int(next(jobs_dir.glob("*/.keeper/process")).read_text().split()[0])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not condition():  # noqa: ASYNC110  # what a file takes on disk tells nobody
            await asyncio.sleep(0.02)


@WITH_HOLES
async def test_a_flood_leaves_its_beginning_and_its_end(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Issue. Size and offsets are those of all that was written; the disk holds about the cap; the code is exact."""
    await host.start(replace(sh("a", f"{LINES}; exit 7", 4096), log_cap_bytes=CAP))
    async with asyncio.timeout(8):
        end = await host.wait("a")
    hole = await host.log_hole("a")
    assert (end.reason, end.code, end.log_size) == (ExitReason.EXIT, 7, 4096 * 1024)
    assert used(jobs_dir) <= CAP
    assert hole and end.log_size and hole[0] == CAP // 2
    assert end.log_size - hole[1] >= CAP // 4
    assert await host.read_log("a", 511 * 1024, 1024) == line(511)
    assert await host.read_log("a", -1024) == line(4095)
    assert await host.read_log("a", hole[0], 3) == b"\0\0\0"
    assert await host.read_log("a", 3900 * 1024, 1024) == line(3900)


@WITH_HOLES
@pytest.mark.parametrize("offset", [0, 100, CAP // 2, CAP, 4000 * 1024 + 7])
async def test_following_a_capped_log_keeps_every_offset(host: Host, sh: Sh, offset: int) -> None:
    """Ours. The hole comes as NULs of which nothing crossed a link, in pieces of their own."""
    await host.start(replace(sh("a", LINES, 4096), log_cap_bytes=CAP))
    await host.wait("a")
    hole = await host.log_hole("a")
    assert hole
    whole = b"".join(map(line, range(4096)))
    expected = whole[: hole[0]] + bytes(hole[1] - hole[0]) + whole[hole[1] :]
    async with asyncio.timeout(8):
        pieces = [piece async for piece in host.follow("a", offset)]
    assert b"".join(pieces) == expected[offset:]
    assert all(not any(piece) or b"\0" not in piece for piece in pieces)


@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_a_late_keeper_does_not_shrink_the_hole(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Ours. Stopped between its look and its note, it writes what it saw before the job's end gave up more."""
    await host.start(replace(sh("a", LINES, 4096), log_cap_bytes=CAP))
    await host.wait("a")
    job = next(jobs_dir.glob("*/a"))
    assert (job / "hole.end").exists() or (job / "hole").rename(job / "hole.end")  # the keeper may have done all of it
    hole = await host.log_hole("a")
    (job / "hole").write_text(f"{CAP // 2} {CAP:<40}\n")
    assert hole and hole[1] > CAP
    assert await host.log_hole("a") == hole
    pieces = [piece async for piece in host.follow("a", CAP // 2)]
    assert b"".join(pieces) == bytes(hole[1] - hole[0]) + b"".join(map(line, range(hole[1] >> 10, 4096)))


@WITH_HOLES
async def test_a_running_flood_is_cut_with_nobody_connected(
    host: Host, make: Callable[[], Host], sh: Sh, gate: Any, jobs_dir: Path
) -> None:
    """Issue. The client is gone when the log passes its cap; a follower that comes later has every offset."""
    go = gate()
    client = make()
    text = f'read x <"$2"; {LINES}; read x <"$2"; echo end'
    await client.start(replace(sh("a", text, 3000, go.path), log_cap_bytes=CAP))
    await client.aclose()
    go.open()
    job = next(jobs_dir.glob("*/a"))
    await until(lambda: (job / "log").stat().st_size == 3000 * 1024 and (job / "hole").exists())
    await until(lambda: used(jobs_dir) <= CAP)
    assert await host.log_hole("a")
    async with asyncio.timeout(8):
        assert await anext(aiter(host.follow("a", 2999 * 1024))) == line(2999)
        go.open()
        assert (await host.wait("a")).log_size == 3000 * 1024 + 4


@WITH_HOLES
async def test_a_log_within_its_cap_is_whole(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Ours."""
    await host.start(replace(sh("a", LINES, 1024), log_cap_bytes=CAP))
    await host.wait("a")
    assert await host.log_hole("a") is None
    assert not (next(jobs_dir.glob("*/a")) / "hole").exists()


@WITH_HOLES
async def test_a_binary_flood_is_capped_as_well(host: Host, sh: Sh, jobs_dir: Path) -> None:
    """Issue. No line ends in it."""
    await host.start(replace(sh("a", "head -c 5000000 /dev/urandom; kill -9 $$"), log_cap_bytes=CAP))
    async with asyncio.timeout(8):
        end = await host.wait("a")
    assert (end.code, end.log_size) == (137, 5_000_000)
    assert used(jobs_dir) <= CAP


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")
@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_ash_of_busybox_caps_as_well(
    host: Host, busybox_path: str, jobs_dir: Path, tmp_path: Path, sh: Sh
) -> None:
    """Ours. With the fallocate of util-linux; busybox's own makes no holes, which the log then says."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "fallocate").symlink_to(shutil.which("fallocate") or "/missing")
    both = LocalHost(jobs_dir, path=f"{tmp_path / 'tools'}:{busybox_path}")
    alone = LocalHost(jobs_dir, path=busybox_path)
    async with asyncio.timeout(10):
        await both.start(replace(sh("a", f"{LINES}; sleep 1; {LINES}", 2000), log_cap_bytes=CAP))
        assert (await both.wait("a")).log_size == 4000 * 1024
        await alone.start(replace(sh("b", LINES, 2000), log_cap_bytes=CAP))
        await alone.wait("b")
    assert await both.log_hole("a")
    assert used(jobs_dir) <= CAP
    assert b"cannot be cut" in await alone.read_log("b", -200)
    await both.aclose()
    await alone.aclose()


@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_where_no_hole_can_be_made_the_log_says_so_once(
    host: Host, jobs_dir: Path, tmp_path: Path, sh: Sh
) -> None:
    """Ours. Nothing is lost then, and the end is as true as ever."""
    (tmp_path / "tools").mkdir()
    tools = "awk cat date env find grep head mkdir mkfifo mv rm setsid sh sleep sort tail tr uname wc"
    for tool in tools.split():
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool) or "/missing")
    bare = LocalHost(jobs_dir, path=str(tmp_path / "tools"))
    await bare.start(replace(sh("a", f"{LINES}; sleep 0.5; {LINES}; exit 3", 1500), log_cap_bytes=CAP))
    async with asyncio.timeout(8):
        end = await bare.wait("a")
    log = await host.read_log("a", 0, 1 << 22)
    assert (end.code, end.log_size) == (3, len(log))
    assert log.count(b"build-orchestrator: this log passes 1048576 bytes and cannot be cut") == 1
    assert len(log) > 3000 * 1024
    assert await host.log_hole("a") is None
    await bare.aclose()


@WITH_HOLES
async def test_the_keeper_is_one_and_leaves_with_the_last_job(
    host: Host, sh: Sh, gate: Any, jobs_dir: Path, processes: Processes, gone: Gone
) -> None:
    """Ours. Twenty jobs at once elect one; it leaves without being asked, at once."""
    up, go = gate(), gate()
    async with asyncio.timeout(15):
        jobs = [sh(f"a{n}", 'echo up >"$1"; read x <"$2"', up.path, go.path) for n in range(20)]
        await asyncio.gather(*(host.start(job) for job in jobs))
        for _ in jobs:
            await up.line()

        def keepers() -> list[int]:
            return [pid for pid, text in processes().items() if " _keep " in text and os.getsid(pid) == pid]

        await until(lambda: len(keepers()) == 1)
        old = keepers()
        began = time.monotonic()
        go.open(20)
        await asyncio.gather(*(host.wait(job.id) for job in jobs))
        assert await gone(old[0])
        assert time.monotonic() - began < 4


@WITH_HOLES
async def test_a_killed_keeper_is_replaced_by_the_next_job(
    host: Host, sh: Sh, gate: Any, jobs_dir: Path, gone: Gone
) -> None:
    """Ours. The new one looks after the jobs of the old one, too."""
    up, go = gate(), gate()
    text = f'echo up >"$2"; read x <"$3"; {LINES}; read x <"$3"'
    await host.start(replace(sh("a", text, 3000, up.path, go.path), log_cap_bytes=CAP))
    await up.line()
    await until(lambda: any(path.read_text() for path in jobs_dir.glob("*/.keeper/process")))
    old = keeper(jobs_dir)
    os.kill(old, signal.SIGKILL)
    assert await gone(old)
    other = gate()
    await host.start(sh("b", 'read x <"$1"', other.path))
    go.open()
    await until(lambda: next(jobs_dir.glob("*/a/log")).stat().st_size == 3000 * 1024 and used(jobs_dir) <= CAP)
    go.open()
    other.open()
    async with asyncio.timeout(5):
        assert (await host.wait("a")).code == (await host.wait("b")).code == 0
