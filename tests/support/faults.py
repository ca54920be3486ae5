"""Kills fronts, workers and supervisors at seeded random moments while builds run, then checks every promise.

A build is a diamond of four stages: every fifth build's `s2` fails, every seventh is cancelled.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.config import Config, load_config
from mcp_server.engine.start import lock_holder
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageSpec, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds, leases
from mcp_server.store.database import Store

COUNT_AND_SLEEP = 'echo x >>"$1"; sleep "$2"; exit "$3"'
FAILING, CANCELLED = 5, 7

FRONT = """
import asyncio, sys
from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
async def main():
    orchestrator = Orchestrator(load_config())
    for build in sys.argv[1:]:
        await orchestrator.wait(int(build), 600)
asyncio.run(main())
"""


@dataclass
class Report:
    """What was done, and everything that was not as promised."""

    kills: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    jobs: int = 0
    seconds: float = 0
    broken: list[str] = field(default_factory=list[str])


def diamond(folder: Path, number: int, longest_s: float, chance: random.Random) -> Plan:
    """Four command stages that count how often they were started."""
    stages: list[StageSpec] = []
    for name, needs in {"s1": (), "s2": ("s1",), "s3": ("s1",), "s4": ("s2", "s3")}.items():
        code = "3" if number % FAILING == 0 and name == "s2" else "0"
        marker, seconds = str(folder / f"{number}.{name}"), f"{chance.uniform(0, longest_s):.2f}"
        argv = ["sh", "-c", COUNT_AND_SLEEP, "stage", marker, seconds, code]
        params = {"argv": argv, "project": str(folder)}
        stages.append(StageSpec(name=name, kind="command", params=params, depends_on=needs))
    return Plan(stages=tuple(stages))


async def torment(home: Path, *, kills: int, count: int, seed: int, longest_s: float, limit_s: float) -> Report:
    """Run `count` builds under `kills` kills; the report's `broken` is empty if every promise held."""
    chance, report, began = random.Random(seed), Report(), time.monotonic()
    config = load_config({**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)})
    config.make_home()
    folder = home / "started"
    folder.mkdir()
    orchestrator = Orchestrator(config)
    numbers: dict[int, int] = {}
    for number in range(1, count + 1):
        started = await orchestrator.start_plan(folder, diamond(folder, number, longest_s, chance), name=f"d{number}")
        numbers[started.build.id] = number
    to_cancel = [build for build, number in numbers.items() if number % CANCELLED == 0]
    store = Store(config.database_url, home)
    front = _front(home, list(numbers))
    lost: set[int] = set()
    while await store.read(builds.open_builds) and time.monotonic() - began < limit_s:
        await asyncio.sleep(chance.choice([chance.uniform(0, 0.2), chance.uniform(0.2, 0.7)]))
        if front.poll() is not None:
            front = _front(home, list(numbers))
        await orchestrator.poke()
        if to_cancel and chance.random() < 0.2:
            doomed = to_cancel.pop()
            await store.write(lambda c, b=doomed: builds.request_cancel(c, b, orchestrator.clock.now()))
        if sum(report.kills.values()) < kills:
            _kill_one(chance, home, front, report, lost)
    front.kill()
    front.wait()
    report.seconds = time.monotonic() - began
    await _check(store, config, numbers, lost, folder, report)
    await store.aclose()
    await orchestrator.aclose()
    return report


def _front(home: Path, waited_for: list[int]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", FRONT, *map(str, waited_for)], env=environment)


def _kill_one(
    chance: random.Random, home: Path, front: subprocess.Popen[bytes], report: Report, lost: set[int]
) -> None:
    kinds = ["front", "worker", "worker", "supervisor"]
    what = chance.choice([kind for kind in kinds if not report.kills[kind]] or kinds)  # one of each, however few
    if what == "front":
        front.kill()
        report.kills[what] += 1
    elif what == "worker":
        if (pid := worker_pid(home)) is not None:
            _kill(pid, report, what)
    else:
        supervisors = list(_supervisors(home))
        if supervisors:
            pid, build = chance.choice(supervisors)
            if _kill(pid, report, what):
                lost.add(build)


def _kill(pid: int, report: Report, what: str) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    report.kills[what] += 1
    return True


def worker_pid(home: Path) -> int | None:
    """The process that holds this home's worker lock, None where none does."""
    words = (lock_holder(home) or "").split()
    return int(words[1]) if len(words) > 1 and words[0] == "pid" else None


def _supervisors(home: Path) -> Iterator[tuple[int, int]]:
    """Processes that supervise a job of this home, with the build they belong to; their timers lead no session."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(path.parent.name)
        if not any(word.startswith(str(home).encode()) for word in words) or not _leads(pid):
            continue
        if b"_supervise" in words:
            yield pid, int(words[words.index(b"_supervise") + 1].split(b"-")[1])
        elif b"_stand_by" in words and (job := _job_of(home, pid)) is not None:
            yield pid, int(job.split("-")[1])


def _job_of(home: Path, pid: int) -> str | None:
    """The job whose record names this supervisor; None: it waits for one."""
    for spec in (home / "jobs").glob("*/[!.]*/spec"):
        with contextlib.suppress(OSError):
            if spec.read_text().split()[1:2] == [str(pid)]:
                return spec.parent.name
    return None


def kill_jobs(home: Path) -> None:
    """Kill every job of this home together with its supervisor, first of all, so that nobody records how it ended."""
    for pid in [*(pid for pid, _ in _supervisors(home)), *processes_with(f"BO_JOB={home}")]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def processes_with(text: str) -> list[int]:
    """Processes whose environment or command line carries a text; zombies have neither."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            seen = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in seen and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


async def _check(
    store: Store, config: Config, numbers: dict[int, int], lost: set[int], folder: Path, report: Report
) -> None:
    for build, number in numbers.items():
        row = await store.read(lambda c, b=build: builds.get_build(c, b))
        stages = await store.read(lambda c, b=build: builds.stages_of(c, b))
        report.ends[f"{row.status} {row.reason}"] += 1
        report.broken += _wrong(row, stages, number, build in lost)
    for marker in sorted(folder.iterdir()):
        report.jobs += 1
        if (times := marker.read_text().count("x")) != 1:
            report.broken.append(f"{marker.name} was started {times} times")
    if held := await store.read(leases.holders):
        report.broken.append(f"leases left: {held}")
    if alive := processes_with(f"BO_JOB={config.jobs_dir}"):
        report.broken.append(f"processes left: {alive}")


def _wrong(row: Build, stages: list[Stage], number: int, was_lost: bool) -> list[str]:
    """What is not as promised of one build."""
    wrong: list[str] = []
    if row.status.is_open or any(stage.status.is_open for stage in stages):
        wrong.append(f"build {row.id} was left {row.status}: {[(s.stage, s.status) for s in stages]}")
    allowed = {BuildStatus.FAILED if number % FAILING == 0 else BuildStatus.SUCCESS}
    if number % CANCELLED == 0:
        allowed.add(BuildStatus.CANCELLED)  # or it was over before
    if was_lost:
        allowed.add(BuildStatus.FAILED)  # its supervisor may have been in its last act
    if row.status not in allowed:
        wrong.append(f"build {row.id} (number {number}) ended {row.status} {row.reason}, not {allowed}")
    if row.reason == "lost" and not was_lost:
        wrong.append(f"build {row.id} is said to be lost, but its supervisor was never killed")
    for stage in stages:
        if stage.status is StageStatus.SUCCESS and stage.exit_code != 0:
            wrong.append(f"build {row.id} stage {stage.stage} passed with exit code {stage.exit_code}")
    return wrong
