"""Many builds at once for an hour, in a real worker with real jobs, a service beside it: does anything grow?

    python -m benchmarks.soak [--minutes 60] [--builds 50] [--sockets 5] [--seed 1] [--rows soak.csv]

As one build ends the next is ordered. A build is three commands on this machine: one that is over at once, one that
writes a log for 10 to 40 s, one that looks at it; each tenth build fails, each fiftieth is cancelled. WebSockets follow
all events, and each second somebody asks the service for its builds and figures. The worker's own code runs; one task
in it notes how late the event loop is. After a warm-up, a sixth of the time, memory is taken once every ten seconds;
its slope is of the least squares. Exits 1 where it is above the limit, or an end is not the expected one.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median, quantiles

import psutil
import sqlalchemy as sa
import websockets.asyncio.client as websocket

from benchmarks.service import Wire, served
from mcp_server.config import load_config
from mcp_server.engine import worker
from mcp_server.errors import Conflict
from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.tables import BUILDS, LEASES, STAGES
from tests.support.workers import end_everything

LIMIT_MB_H = 6  # of the worker and of the service each
EVERY_S = 10
LOOK_S = 0.5
LATE_S = 0.05  # between two looks of the task that is late
PROJECTS = 10
FAILING, CANCELLED = 10, 50
MOST_TYPES = 12

SETUP = "echo configuring"
BUILD = 'i=0; while [ $i -lt {seconds} ]; do i=$((i+1)); echo "[$i/{seconds}] Building C object a$i.o"; \
echo "main.c:$i:1: warning: unused variable \'x\'"; sleep 1; done; exit {code}'
REPORT = "echo done"


@dataclass
class Sample:
    """What was seen at one moment. Memory in MB, `late` in ms since the last sample."""

    second: float
    ended: int
    worker_mb: float
    serve_mb: float
    worker_fds: int
    serve_fds: int
    worker_threads: int
    serve_threads: int
    database_mb: float
    late_p99: float
    late_max: float
    answer_p99: float


@dataclass
class Soak:
    """One run: what is under way, and what was seen."""

    orchestrator: Orchestrator
    folder: Path
    chance: random.Random
    until: float
    rows: Path
    ordered: int = 0
    ended: int = 0
    events: int = 0
    wrong: list[str] = field(default_factory=list[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    waited: dict[int, asyncio.Future[BuildStatus]] = field(default_factory=dict[int, "asyncio.Future[BuildStatus]"])
    answers: list[float] = field(default_factory=list[float])
    samples: list[Sample] = field(default_factory=list[Sample])

    def plan(self, number: int, folder: Path) -> Plan:
        """Three commands in a row."""
        code = 1 if number % FAILING == 0 else 0
        build = BUILD.format(seconds=self.chance.randint(10, 40), code=code)
        stages: list[StageSpec] = []
        for name, command in {"setup": SETUP, "build": build, "report": REPORT}.items():
            params = {"project": str(folder), "command": command, "number": number}
            before = (stages[-1].name,) if stages else ()
            stages.append(StageSpec(name=name, kind="command", params=params, depends_on=before))
        return Plan(stages=tuple(stages))

    async def keep_building(self) -> None:
        """One build after another until the time is over."""
        while time.monotonic() < self.until:
            self.ordered += 1
            number = self.ordered
            folder = self.folder / f"p{number % PROJECTS}"
            build = (await self.orchestrator.start_plan(folder, self.plan(number, folder), name="soak")).build.id
            expected = BuildStatus.FAILED if number % FAILING == 0 else BuildStatus.SUCCESS
            if number % CANCELLED == 1:
                await asyncio.sleep(self.chance.uniform(0, 15))
                with contextlib.suppress(Conflict):  # it is over
                    await self.orchestrator.cancel(build)
                expected = BuildStatus.CANCELLED
            self.waited[build] = asyncio.get_running_loop().create_future()
            status = await self.waited[build]
            self.ended += 1
            self.ends[status] += 1
            if status is not expected and expected is not BuildStatus.CANCELLED:
                self.wrong.append(f"build {build}: {status}, not {expected}")

    async def see_ends(self) -> None:
        """One look for all that wait: what is measured is not who orders."""
        store = await self.orchestrator.store()
        while True:
            await asyncio.sleep(LOOK_S)
            query = sa.select(BUILDS.c.id, BUILDS.c.status).where(BUILDS.c.id.in_(self.waited))
            for number, status in await store.read(lambda c, q=query: c.execute(q).all()):
                if not BuildStatus(status).is_open:
                    self.waited.pop(number).set_result(BuildStatus(status))

    async def listen(self, port: int) -> None:
        """A WebSocket that has every event."""
        async with websocket.connect(f"ws://127.0.0.1:{port}/ws", compression=None) as socket:
            async for _ in socket:
                self.events += 1

    async def ask(self, port: int) -> None:
        """Somebody who looks each second."""
        wire = Wire(port)
        while True:
            for path in ("/healthz", "/api/builds", "/api/queue", "/api/stats"):
                began = time.perf_counter()
                await wire.ask(path)
                self.answers.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(1)

    async def watch(self, ours: int, service: int, notes: Path) -> None:
        """A sample every ten seconds, and a line every five minutes."""
        began, read = time.monotonic(), 0
        processes = psutil.Process(ours), psutil.Process(service)
        home = self.orchestrator.config.home
        said = 0.0
        print(
            f"{'min':>5} {'ended':>6} {'worker MB fds thr':>18} {'service MB fds thr':>19} {'db MB':>6} late/answer ms"
        )
        while True:
            await asyncio.sleep(EVERY_S)
            text = notes.read_text() if notes.exists() else ""
            late = [float(line) for line in text[read:].split()]
            read = len(text)
            answers, self.answers = self.answers, []
            first, second = ((one.memory_info().rss / 1e6, one.num_fds(), one.num_threads()) for one in processes)
            size = sum(one.stat().st_size for one in home.glob("orchestrator.db*")) / 1e6
            now = time.monotonic() - began
            self.samples.append(
                Sample(
                    now, self.ended, first[0], second[0], first[1], second[1], first[2], second[2], size,
                    p99(late), max(late, default=0), p99(answers),
                )
            )  # fmt: skip
            with self.rows.open("a") as file:
                file.write(",".join(f"{value:.2f}" for value in vars(self.samples[-1]).values()) + "\n")
            if now - said >= 300 or said == 0:
                said = now
                self.say(self.samples[-1])

    def say(self, one: Sample) -> None:
        print(
            f"{one.second / 60:5.1f} {one.ended:6} {one.worker_mb:10.1f} {one.worker_fds:3} {one.worker_threads:3} "
            f"{one.serve_mb:11.1f} {one.serve_fds:3} {one.serve_threads:3} {one.database_mb:6.1f} "
            f"{one.late_p99:.1f} {one.late_max:.1f} / {one.answer_p99:.1f}",
            flush=True,
        )


def p99(found: Sequence[float]) -> float:
    return quantiles(found, n=100)[-1] if len(found) > 1 else max(found, default=0)


async def left_open(orchestrator: Orchestrator) -> dict[str, int]:
    """Rows that no end was written to, and leases that nobody gave back."""
    store = await orchestrator.store()
    wanted = {
        "builds": sa.select(sa.func.count()).where(BUILDS.c.status.in_(("pending", "running"))),
        "stages": sa.select(sa.func.count()).where(STAGES.c.status.in_(("waiting", "running"))),
        "leases": sa.select(sa.func.count()).select_from(LEASES),
    }
    return await store.read(lambda c: {name: int(c.scalar(query) or 0) for name, query in wanted.items()})


async def measure(folder: Path, options: argparse.Namespace) -> int:
    orchestrator = Orchestrator(load_config())
    notes = folder / "late"
    (await orchestrator.store()).migrate()
    inside = [sys.executable, "-m", "benchmarks.soak", "--inside", str(notes)]
    process = await asyncio.create_subprocess_exec(*inside, stderr=(folder / "worker.log").open("wb"))
    for number in range(PROJECTS):
        (folder / f"p{number}").mkdir()
    soak = Soak(
        orchestrator, folder, random.Random(options.seed), time.monotonic() + options.minutes * 60, options.rows
    )
    try:
        async with served() as (port, pid, _):
            beside = [asyncio.create_task(soak.listen(port)) for _ in range(options.sockets)]
            beside += [asyncio.create_task(soak.see_ends()), asyncio.create_task(soak.ask(port))]
            beside.append(asyncio.create_task(soak.watch(process.pid, pid, notes)))
            building = asyncio.gather(*(soak.keep_building() for _ in range(options.builds)))
            done, _ = await asyncio.wait({building, *beside}, return_when=asyncio.FIRST_COMPLETED)
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            for task in done:
                await task
        opened = await left_open(orchestrator)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await orchestrator.aclose()
    for line in (folder / "worker.log").read_text().splitlines()[-20:]:
        if " ERROR " in line or line.startswith("grown "):
            print(line)
    return verdict(soak, opened, options)


def verdict(soak: Soak, opened: dict[str, int], options: argparse.Namespace) -> int:
    warm = [one for one in soak.samples if one.second >= options.minutes * 10]
    slopes: dict[str, float] = {}
    for name in ("worker_mb", "serve_mb", "worker_fds", "serve_fds", "worker_threads", "serve_threads"):
        slopes[name] = linear_regression([o.second / 3600 for o in warm], [getattr(o, name) for o in warm]).slope
    print(f"seed {options.seed}: {soak.ended} builds, {dict(soak.ends)}, {soak.events} events to {options.sockets}")
    print("slope an hour after the warm-up: " + ", ".join(f"{name} {found:+.2f}" for name, found in slopes.items()))
    late = median(one.late_p99 for one in warm), max(one.late_max for one in warm)
    print(f"loop of the worker late: p99 {late[0]:.1f} ms, worst {late[1]:.0f} ms")
    print(f"left open: {opened}; wrong ends: {len(soak.wrong)} {soak.wrong[:5]}")
    flat = slopes["worker_mb"] <= LIMIT_MB_H and slopes["serve_mb"] <= LIMIT_MB_H
    print(f"memory {'flat' if flat else 'GROWS'} (limit {LIMIT_MB_H} MB an hour)")
    return int(not flat or any(opened.values()) or bool(soak.wrong))


# -- inside the worker -----------------------------------------------------------------------------------------------


def run_inside(notes: Path) -> int:
    """A worker as any other, with one task more."""
    serve = worker.Worker.serve

    async def noted(self: worker.Worker) -> None:
        watching = asyncio.create_task(note_lateness(notes))
        try:
            await serve(self)
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    worker.Worker.serve = noted
    sys.argv = ["worker"]
    return worker.main()


async def note_lateness(notes: Path) -> None:
    """How many ms the loop is late, 20 times a second; at the end, what kinds of objects there are more of."""
    late: list[float] = []
    began, before = time.monotonic(), Counter[str]()
    warm_s = float(os.environ.get("SOAK_WARM_S", "600"))
    try:
        while True:
            due = time.monotonic() + LATE_S
            await asyncio.sleep(LATE_S)
            late.append((time.monotonic() - due) * 1000)
            if len(late) >= 20:
                with notes.open("a") as file:
                    file.write("".join(f"{one:.2f}\n" for one in late))
                late.clear()
            if not before and time.monotonic() - began > warm_s:
                before = kinds()
    finally:
        grown = kinds()
        grown.subtract(before)
        sys.stderr.write(f"grown {json.dumps(dict(grown.most_common(MOST_TYPES)))}\n")


def kinds() -> Counter[str]:
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--sockets", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path(os.devnull), help="a file for all samples as they come")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        return run_inside(options.inside)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        home = Path(name) / "home"
        home.mkdir()
        (home / "config.yaml").write_text(f"servers: {{local: {{slots: {options.builds + 10}}}}}\n")
        os.environ["BUILD_ORCHESTRATOR_HOME"] = str(home)
        os.environ["SOAK_WARM_S"] = str(options.minutes * 10)
        try:
            return asyncio.run(measure(Path(name), options))
        finally:
            end_everything(home)


if __name__ == "__main__":
    sys.exit(main())
