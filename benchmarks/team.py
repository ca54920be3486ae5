"""Workers that share a PostgreSQL which writes to its disk: builds a second, from order to running, idle, take-over.

    python -m benchmarks.team [--workers 2] [--builds 1500] [--orders 60] [--idle 20] [--running 20] [--lost-after 8s]

Workers are real processes, each with a home of its own, as on machines of their own. The server is one of its own with
its defaults (fsync, synchronous_commit), or BUILD_ORCHESTRATOR_TEST_POSTGRES (a URL, an empty database).

    rate        builds of one stage that the worker does itself, ordered through the orchestrator, 50 at a time, and
                worked off at the same time: rows, events, hand-over, walk and end, each committed
    latency     from an order to `running`, one order after another, nothing else to do
    idle        processor time of each worker while nothing is to be done
    take-over   `kill -9` of the worker that runs so many builds (real jobs): until others have them all
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles

import psutil
import sqlalchemy as sa

from benchmarks.throughput import cpu_s, lay_out, run
from mcp_server.config import load_config
from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import workers
from mcp_server.store.tables import BUILDS
from tests.support import postgres
from tests.support.team import Team

RATE, IDLE, TAKE_OVER_S = 100, 1.5, 15.0  # limits: builds/s at least, % of a core, seconds
DEFAULTS = {"unix_socket_permissions": "0777", "listen_addresses": "127.0.0.1", "log_min_messages": "fatal"}
WAIT_S, LOOK_S = 60, 0.05
CONFIG = """\
queue: {{lost_after: {lost_after}, per_worker: {per_worker}, builds: {builds}}}
servers:
  far: {{exec: [sh, -c, 'exec "$@"', sh], workdir: {work}, slots: 200}}
"""


class Workers(Team):
    """Of a home for each, with room for all that is measured."""

    per_worker = 30

    def home(self, number: int) -> Path:
        home = self.top / f"machine{number}"
        home.mkdir(mode=0o700, exist_ok=True)
        text = CONFIG.format(lost_after=self.lost_after, per_worker=self.per_worker, builds=100, work=self.work)
        (home / "config.yaml").write_text(text)
        return home

    def process(self, number: int) -> psutil.Process:
        return psutil.Process(self._running[number].pid)


def anywhere(folder: Path, number: int) -> Plan:
    """A stage without a job that any worker may do."""
    params = {"project": str(folder), "number": number}
    return Plan(stages=(StageSpec(name="setup", kind="setup", params=params, host="far"),))


def long(folder: Path, number: int) -> Plan:
    """A real job that outlasts the measurement."""
    params = {"project": str(folder), "command": "sleep 120", "number": number}
    return Plan(stages=(StageSpec(name="sleep", kind="command", params=params, host="far"),))


@contextlib.contextmanager
def database() -> Generator[str]:
    """The URL of an empty database."""
    if url := os.environ.get("BUILD_ORCHESTRATOR_TEST_POSTGRES"):
        yield url
        return
    with postgres.running(DEFAULTS) as server, server.database() as name:
        yield server.url(name)


async def are_there(orchestrator: Orchestrator, count: int) -> None:
    store = await orchestrator.store()
    async with asyncio.timeout(WAIT_S):
        while len(await store.read(workers.alive)) < count:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


async def measure_rate(orchestrator: Orchestrator, team: Workers, folder: Path, count: int) -> float:
    """Builds a second."""
    await run(orchestrator, folder, anywhere, 50)  # everything is loaded
    every = {number: team.process(number) for number in team.numbers()}
    before, ours = {number: cpu_s(one) for number, one in every.items()}, cpu_s(psutil.Process())
    began = time.perf_counter()
    numbers = await run(orchestrator, folder, lambda at, n: anywhere(at, n + 50), count)
    took = time.perf_counter() - began
    spent = [(cpu_s(one) - before[number]) / count * 1000 for number, one in every.items()]
    store = await orchestrator.store()
    ours_ = sa.select(BUILDS.c.worker, sa.func.count()).where(BUILDS.c.id.in_(numbers))
    done = ours_.where(BUILDS.c.status == BuildStatus.SUCCESS).group_by(BUILDS.c.worker)
    each = sorted(int(row[1]) for row in await store.read(lambda c: c.execute(done).all()))
    assert sum(each) == count, each
    print(f"rate: {count} builds in {took:.2f} s = {count / took:.0f} builds/s, of the workers {each}; limit {RATE}")
    ordering = (cpu_s(psutil.Process()) - ours) / count * 1000
    print(f"  processor time of a build: workers {' + '.join(f'{one:.2f}' for one in spent)} ms, order {ordering:.2f} ms")
    return count / took


async def measure_latency(orchestrator: Orchestrator, folder: Path, count: int) -> None:
    """From the order's call to `running`, and to the end."""
    begun: dict[int, float] = {}
    for number in range(count):
        at = time.time()
        build = (await orchestrator.start_plan(folder, anywhere(folder, -1 - number), name="nothing")).build.id
        begun[build] = at
        await orchestrator.wait(build, WAIT_S)
        await asyncio.sleep(0.15 + 0.013 * (number % 7))
    store = await orchestrator.store()
    columns = (BUILDS.c.id, BUILDS.c.created_at, BUILDS.c.started_at, BUILDS.c.completed_at)
    query = sa.select(*columns).where(BUILDS.c.id.in_(begun))
    rows = await store.read(lambda c: c.execute(query).all())
    waits = [(row[2] - row[1]).total_seconds() * 1000 for row in rows]
    ends = [row[3].timestamp() * 1000 - begun[row[0]] * 1000 for row in rows]
    for name, found in (("order -> running", waits), ("call -> end", ends)):
        print(f"latency: {name}: median {median(found):.0f} ms, p95 {quantiles(found, n=20)[18]:.0f} ms, {count} orders")


async def measure_idle(team: Workers, seconds: float) -> float:
    """The processor time of the busiest worker, in percent of a core."""
    await asyncio.sleep(2)
    every = [team.process(number) for number in team.numbers()]
    before = [cpu_s(one) for one in every]
    await asyncio.sleep(seconds)
    shares = [(cpu_s(one) - was) / seconds * 100 for one, was in zip(every, before, strict=True)]
    memory = ", ".join(f"{one.memory_info().rss / 1e6:.0f}" for one in every)
    print(f"idle: {', '.join(f'{share:.2f} %' for share in shares)} of a core, {memory} MB; limit {IDLE} %")
    return max(shares)


async def measure_take_over(orchestrator: Orchestrator, team: Workers, folder: Path, count: int) -> float:
    """Seconds from `kill -9` until all are claimed by others."""
    numbers = [(await orchestrator.start_plan(folder, long(folder, n), name="long")).build.id for n in range(count)]
    store = await orchestrator.store()
    running = sa.select(BUILDS.c.worker, BUILDS.c.claim).where(BUILDS.c.id.in_(numbers), BUILDS.c.status == "running")
    async with asyncio.timeout(WAIT_S):
        while len(rows := await store.read(lambda c: c.execute(running).all())) < count:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    victim = str(rows[0][0])
    assert {str(row[0]) for row in rows} == {victim}, rows
    names = {row.id: row for row in await store.read(workers.list_workers)}
    number = int(names[victim].name.removeprefix("machine"))
    others = [one for one in range(1, 1 + len(team.numbers()) + 1) if one not in team.numbers()][:1]
    team.start(*others)
    await are_there(orchestrator, 2)
    team.signal(number, signal.SIGKILL)
    began = time.perf_counter()
    taken = sa.select(sa.func.count()).where(BUILDS.c.id.in_(numbers), BUILDS.c.worker != victim)
    async with asyncio.timeout(WAIT_S):
        while await store.read(lambda c: c.scalar(taken)) != count:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    took = time.perf_counter() - began
    print(f"take-over: {count} running builds of a killed worker are all claimed after {took:.1f} s; limit {TAKE_OVER_S}")
    for build in numbers:
        await orchestrator.cancel(build)
    await asyncio.gather(*(orchestrator.wait(build, WAIT_S) for build in numbers))
    return took


async def measure(team: Workers, folder: Path, options: argparse.Namespace) -> int:
    orchestrator = Orchestrator(load_config())
    wrong = 0
    try:
        await orchestrator.store()
        team.start(*range(1, options.workers + 1))
        await are_there(orchestrator, options.workers)
        if options.idle:
            wrong += await measure_idle(team, options.idle) > IDLE
        if options.builds:
            wrong += await measure_rate(orchestrator, team, folder, options.builds) < RATE
        if options.orders:
            await measure_latency(orchestrator, folder, options.orders)
        for number in range(options.takeovers):
            for other in team.numbers()[1:]:
                team.signal(other, signal.SIGTERM)
            took = await measure_take_over(orchestrator, team, folder, options.running)
            wrong += took > TAKE_OVER_S
            print(f"  {number + 1} of {options.takeovers}; load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        await orchestrator.aclose()
    print(f"load of this machine: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")
    return int(wrong > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--builds", type=int, default=1500)
    parser.add_argument("--orders", type=int, default=60)
    parser.add_argument("--idle", type=float, default=20)
    parser.add_argument("--running", type=int, default=20)
    parser.add_argument("--takeovers", type=int, default=3)
    parser.add_argument("--lost-after", default="8s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, database() as url:
        team = Workers(Path(name), url, options.lost_after)
        os.environ.update(team.environment(0))
        try:
            with closing(team):
                return asyncio.run(measure(team, lay_out(Path(name) / "nothing"), options))
        finally:
            for number in range(1, options.workers + 3):
                log = Path(name) / f"worker{number}.log"
                if log.exists() and os.environ.get("SHOW_LOGS"):
                    print(log.read_text()[-3000:])


if __name__ == "__main__":
    sys.exit(main())
