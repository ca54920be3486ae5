"""Clean-up of old jobs: what is over and old goes; what runs, is young, is spared or may be another's stays."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from mcp_server.errors import BadInput
from mcp_server.hosts.base import Host, JobSpec, JobState
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.script import JOB

Sh = Callable[..., JobSpec]
STORE = "0123abcd"
DAY = 86_400


def machine(jobs_dir: Path) -> Path:
    return next(path for path in jobs_dir.iterdir() if path.is_dir())


def names(jobs_dir: Path) -> set[str]:
    return {path.name for path in machine(jobs_dir).glob("[!.]*")}


def age(folder: Path, seconds: int) -> None:
    """Let a job have ended so long ago."""
    words = (folder / "exit").read_text().split()
    words[3] = f"{time.time() - seconds:.2f}"
    (folder / "exit").write_text(" ".join(words) + "\n")


async def ended(host: Host, sh: Sh, jobs_dir: Path, ages: dict[str, int]) -> None:
    for name, seconds in ages.items():
        await host.start(sh(name, "true"))
        await host.wait(name)
        age(machine(jobs_dir) / name, seconds)


async def test_old_jobs_go_and_others_stay(host: Host, sh: Sh, gate: Any, jobs_dir: Path) -> None:
    """Ours: young, running, spared by id or by build, another store's."""
    go = gate()
    old = {f"{STORE}-{n}-build-1-1": 8 * DAY for n in range(1, 5)}
    await ended(host, sh, jobs_dir, old | {f"{STORE}-5-build-1-1": DAY, "ffff0000-1-b-1-1": 30 * DAY, "x": 91 * DAY})
    await host.start(sh(f"{STORE}-6-build-1-1", 'read x <"$1"', go.path))
    async with asyncio.timeout(5):
        count = await host.clean(STORE, 7 * DAY, [f"{STORE}-1-build-1-1", f"{STORE}-2-"])
    left = {f"{STORE}-{n}-build-1-1" for n in (1, 2, 5, 6)}
    assert count == 3
    assert names(jobs_dir) == left | {"ffff0000-1-b-1-1"}
    assert (await host.status(f"{STORE}-6-build-1-1")).state is JobState.RUNNING
    assert (await host.status(f"{STORE}-3-build-1-1")).state is JobState.ABSENT
    go.open()
    assert (await host.wait(f"{STORE}-6-build-1-1")).code == 0
    assert await host.clean(STORE, 0, []) == 4
    assert await host.clean(STORE, 0, []) == 0
    assert names(jobs_dir) == {"ffff0000-1-b-1-1"}


async def test_a_lost_job_goes_when_nothing_of_it_lives(host: Host, sh: Sh, gate: Any, jobs_dir: Path) -> None:
    """Ours. Its survivor may still write to its log."""
    up = gate()
    job = f"{STORE}-1-build-1-1"
    await host.start(sh(job, 'echo up >"$1"; exec sleep 3300', up.path))
    await up.line()
    os.kill(int((machine(jobs_dir) / job / "spec").read_text().split()[1]), signal.SIGKILL)
    async with asyncio.timeout(5):
        await host.wait(job)
        assert await host.clean(STORE, 0) == 0
        await host.kill(job, 0)
        assert await host.clean(STORE, 3600) == 0
        for path in (machine(jobs_dir) / job, machine(jobs_dir) / job / "log"):
            os.utime(path, (1, 1))
        assert await host.clean(STORE, 3600) == 1
    assert names(jobs_dir) == set()


async def test_scripts_of_other_versions_go_unless_somebody_runs_them(host: Host, jobs_dir: Path) -> None:
    """Ours. A shell reads its script as it goes: never one in use, never a young one."""
    await host.status("a")
    for stem in ("1" * 16, "2" * 16, "3" * 16):
        (jobs_dir / f".job-{stem}.sh").write_text("read x\n")
    for stem in ("1" * 16, "2" * 16):
        os.utime(jobs_dir / f".job-{stem}.sh", (1, 1))
    os.utime(jobs_dir / JOB.name, (1, 1))
    user = await asyncio.create_subprocess_exec("sh", jobs_dir / f".job-{'2' * 16}.sh", stdin=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(5):
            await host.clean(STORE, 0)
    finally:
        user.kill()
        await user.communicate(b"")
    assert {path.name for path in jobs_dir.glob(".job*")} == {JOB.name, f".job-{'2' * 16}.sh", f".job-{'3' * 16}.sh"}


async def test_leftovers_go(host: Host, jobs_dir: Path) -> None:
    """Ours: half a start, half a removal."""
    await host.status("a")
    machine_dir = Path(await host.directory())
    for name in (".new.b.1.999999999", ".gone.c.999999999", ".gone.clean.999999999"):
        (machine_dir / name / "x").mkdir(parents=True)
    assert await host.clean(STORE, 0) == 0
    assert list(machine_dir.glob(".[ng]*")) == []


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that no other work on the disk slows down."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("shell", "count"),
    [(["dash"], 10_000), (["bash"], 2_000), (["busybox", "sh"], 2_000)],
    ids=["dash", "bash", "busybox"],
)
async def test_ten_thousand_take_seconds_and_block_nobody(in_memory: Path, shell: list[str], count: int) -> None:
    """Issue. Less than one process each would take; meanwhile the multiplexer answers."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    async with aclosing(LocalHost(in_memory, shell=shell)) as host:
        folder = Path(await host.directory())
        for number in range(count):
            job = folder / f"{STORE}-{number}-build-1-1"
            job.mkdir(parents=True)
            (job / "exit").write_text(f"{f'0 exit 1.00 2.00 {number}':127}\n")
        processes = f"i=0; while [ $i -lt {count // 20} ]; do /bin/true; i=$((i + 1)); done"
        began = time.monotonic()
        await (await asyncio.create_subprocess_exec(*shell, "-c", processes)).wait()
        limit_s = 20 * (time.monotonic() - began)
        began = time.monotonic()
        async with asyncio.timeout(30):
            cleaning = asyncio.create_task(host.clean(STORE, DAY))
            while not cleaning.done():
                asked = time.monotonic()
                await host.status("a")
                assert time.monotonic() - asked < 1
                await asyncio.sleep(0.1)
            assert await cleaning == count
        assert time.monotonic() - began < limit_s
        assert list(folder.glob("*")) == []


async def test_a_store_or_spared_id_that_is_no_id_is_refused(host: Host) -> None:
    """Ours: it would be a part of a command line."""
    for store, spare in (("a b", []), (STORE, ["a\nb"])):
        with pytest.raises(BadInput):
            await host.clean(store, 0, spare)
