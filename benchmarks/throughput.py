"""How many builds that do nothing one worker takes through the queue in a second, from their orders to their ends.

    python -m benchmarks.throughput [--builds 3000] [--jobs 200]

Orders go through the orchestrator into the store on the disk, a real worker process takes them; both work at the same
time. The project is a Git repository. Of each build the one stage is

    no_job    of the kind `setup`, which the worker does itself: it reads the project's files, and nothing is started
    job       the command `true` on this machine, a detached job like any other: its supervisor, itself, a directory

Processor time is with children: Git, which a worker asks for the commit, and the jobs' supervisors.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import sqlalchemy as sa

from mcp_server.config import load_config
from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.tables import BUILDS
from tests.support.faults import worker_pid
from tests.support.workers import end_everything

LIMIT = 300  # builds/s without a job
AT_ONCE = 50  # orders under way
LOOK_S = 0.05
WAIT_S = 300


def no_job(folder: Path, number: int) -> Plan:
    params = {"project": str(folder), "number": number}  # orders that are the same would be one build
    return Plan(stages=(StageSpec(name="setup", kind="setup", params=params),))


def job(folder: Path, number: int) -> Plan:
    params = {"project": str(folder), "command": "true", "number": number}
    return Plan(stages=(StageSpec(name="true", kind="command", params=params),))


def lay_out(folder: Path) -> Path:
    """The least that is an ESP-IDF project, committed."""
    folder.mkdir(parents=True)
    cmake = (
        "cmake_minimum_required(VERSION 3.22)\ninclude($ENV{IDF_PATH}/tools/cmake/project.cmake)\nproject(nothing)\n"
    )
    (folder / "CMakeLists.txt").write_text(cmake)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "nothing")):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def cpu_s(process: psutil.Process) -> float:
    """Its own processor time and that of the children it has reaped."""
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


async def run(orchestrator: Orchestrator, folder: Path, make: Callable[[Path, int], Plan], count: int) -> list[int]:
    """Order so many builds, `AT_ONCE` at a time, and wait for their ends; their numbers."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def order(number: int) -> int:
        async with turns:
            return (await orchestrator.start_plan(folder, make(folder, number), name="nothing")).build.id

    numbers = await asyncio.gather(*(order(number) for number in range(count)))
    store = await orchestrator.store()
    ended = sa.select(sa.func.count()).where(BUILDS.c.id >= min(numbers), BUILDS.c.completed_at.is_not(None))
    async with asyncio.timeout(WAIT_S):
        while await store.read(lambda c: c.execute(ended).scalar_one()) < count:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    return numbers


async def measure(orchestrator: Orchestrator, folder: Path, make: Callable[[Path, int], Plan], count: int) -> float:
    """Builds a second."""
    await run(orchestrator, folder, make, 1)  # the worker starts, and has loaded what it needs
    pid = worker_pid(orchestrator.config.home)
    assert pid is not None
    worker, front = psutil.Process(pid), psutil.Process()
    before, ours, began = cpu_s(worker), cpu_s(front), time.perf_counter()
    numbers = await run(orchestrator, folder, make, count)
    took = time.perf_counter() - began
    spent, ordering = (cpu_s(worker) - before) / count * 1000, (cpu_s(front) - ours) / count * 1000
    store = await orchestrator.store()
    good = sa.select(sa.func.count()).where(BUILDS.c.id >= min(numbers), BUILDS.c.status == BuildStatus.SUCCESS)
    assert await store.read(lambda c: c.execute(good).scalar_one()) == count
    print(f"{make.__name__}: {count} builds in {took:.2f} s = {count / took:.0f} builds/s")
    print(f"  processor time of a build: worker {spent:.2f} ms, who ordered it {ordering:.2f} ms")
    print(f"  worker {worker.memory_info().rss / 1e6:.0f} MB")
    return count / took


async def compare(folder: Path, builds: int, jobs: int) -> int:
    orchestrator = Orchestrator(load_config())
    try:
        rate = await measure(orchestrator, folder, no_job, builds)
        print(f"  limit {LIMIT} builds/s")
        if jobs:
            await measure(orchestrator, folder, job, jobs)
    finally:
        await orchestrator.aclose()
    return int(rate < LIMIT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=3000)
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        os.environ["BUILD_ORCHESTRATOR_HOME"] = str(home)
        folder = lay_out(Path(name) / "nothing")
        try:
            return asyncio.run(compare(folder, options.builds, options.jobs))
        finally:
            end_everything(home)


if __name__ == "__main__":
    sys.exit(main())
