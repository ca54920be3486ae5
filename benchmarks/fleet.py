"""A fleet: 1,000 hosts and 100,000 stages in a day, with failures. Only hosts and time are simulated.

    python -m benchmarks.fleet [--hosts 1000] [--stages 100000] [--hours 24] [--seed 1] [--load 0.85] [--kills 24]
                              [--burst]

Worker, dispatch, leases, walk, stages and store are the real ones. Builds of 200 projects come in over the hours, most
of them in the middle: small ones of three stages in a row, a matrix of twenty with one before and one after, and long
chains of ten stages on hosts of their own. Stages last so long that all work is `load` of what the hosts could do, so
that at the peak thousands wait. Hosts go away for minutes, jobs are lost or fail and are tried again, builds are
cancelled, and the worker dies at seeded moments, right after a commit or the start of a job, whose answer it never has.

The bound is the longest of: any build's arrival and critical path; what came in after any moment, spread over all
hosts; the same of the chains over their hosts. No schedule can be over sooner. A stage's queue time is from the end of
what it needs to its start. Exits 1 where a limit is passed or anything was lost or done twice.

With --burst all builds are ordered in one moment and nothing breaks but the worker: what is left is the order. There
the bound is also that of chains which, once begun, are not held up by one that has not: of one chain more than there
are hosts two have to follow one another. An order that holds up what began can be over sooner, so both are printed.
"""

import argparse
import asyncio
import math
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from statistics import quantiles

import psutil
import sqlalchemy as sa

from mcp_server.config import Server
from mcp_server.loading import calm_collector
from mcp_server.model import Plan, Retry, StageSpec
from mcp_server.pipelines.graph import ranks
from mcp_server.store import builds
from mcp_server.store.tables import BUILDS, LEASES, STAGES
from tests.support.fleet import Fleet, Ledger, fleet

LIMIT = 1.10
PROJECTS = 200
CHAIN_HOSTS = 0.15  # of all hosts: those with room for a whole distribution
URGENT = 5  # the priority of a tenth of the builds
CANCELLED = 0.01  # of builds
AWAY_EACH_DAY = 0.5  # times that a host goes away
PER_HOST = 4  # builds at once for each host: what waits for a slot is known, and in line by its way to go
STUCK_S = 2 * 86_400  # longer than any build
KINDS = {"small": 0.81, "matrix": 0.16, "chain": 0.03}  # of builds
STAGES_OF = {"small": 3, "matrix": 22, "chain": 10}


@dataclass
class Order:
    """A build to come, `at` seconds after the beginning. `path`: its critical path in seconds."""

    at: float
    project: int
    kind: str
    plan: Plan
    seconds: Mapping[str, float]
    priority: int
    cancel_after: float | None
    nth: int
    path: float = 0
    number: int = 0


@dataclass
class Found:
    """What a run came to."""

    ratio: float
    any_order: float  # the makespan over the bound of any order
    hours: float
    queued: Sequence[float]
    urgent: float  # how long stages of urgent builds waited, over how long those of others did: means
    cpu_ms: float
    memory_mb: float
    wrong: Mapping[str, int]
    deaths: int
    ends: Counter[str] = field(default_factory=Counter[str])


def command(name: str, *after: str, host: str = "linux", **more: object) -> StageSpec:
    params = {"command": "true", "project": "/ws", "workdir": "/ws"}
    values = {"name": name, "kind": "command", "params": params, "depends_on": after, "host": host, "timeout_s": 0}
    return StageSpec.model_validate(values | more)


def small(dice: random.Random, project: int) -> tuple[Plan, dict[str, float]]:
    """Configure, build, size."""
    either = ("big",) if project % 20 == 0 else ()
    retry = Retry(times=2 if project % 2 else 0)
    plan = Plan(
        stages=(
            command("setup", retry=retry),
            command("build", "setup", retry=retry, hosts=either),
            command("size", "build", retry=retry),
        )
    )
    return plan, {"setup": 15 * dice.uniform(0.5, 1.5), "build": dice.uniform(120, 400), "size": 10}


def matrix(dice: random.Random, project: int) -> tuple[Plan, dict[str, float]]:
    """Twenty variants, then what publishes them, one of a project at a time."""
    names = [f"v{number}" for number in range(20)]
    retry = Retry(times=1)
    stages = [command("setup", retry=retry), *(command(name, "setup", retry=retry) for name in names)]
    stages.append(command("publish", *names, group=f"publish-{project}", always=True))
    seconds = {"setup": 30.0, "publish": 20.0, **{name: dice.uniform(150, 450) for name in names}}
    return Plan(stages=tuple(stages), parallel_limit=8 if project % 2 else None), seconds


def chain(dice: random.Random, project: int) -> tuple[Plan, dict[str, float]]:
    """A distribution, layer after layer."""
    names = ["fetch", *(f"layer{number}" for number in range(8)), "test"]
    stages = [
        command(name, *names[max(0, at - 1) : at], host="big", retry=Retry(times=2, backoff_s=60))
        for at, name in enumerate(names)
    ]
    return Plan(stages=tuple(stages)), {name: dice.uniform(1200, 3600) for name in names} | {"fetch": 300, "test": 600}


MAKERS = {"small": small, "matrix": matrix, "chain": chain}


def arrivals(dice: random.Random, count: int, seconds: float) -> list[float]:
    """Moments of a day: three times as many at its middle as at its ends."""
    found: list[float] = []
    while len(found) < count:
        at = dice.random()
        if dice.random() * 1.5 < 1 - 0.5 * math.cos(2 * math.pi * at):
            found.append(at * seconds)
    return sorted(found)


def orders(options: argparse.Namespace) -> list[Order]:
    """All builds; stages but those of chains are made so long that the hosts have their load."""
    dice = random.Random(options.seed)
    kinds: list[str] = []
    while sum(STAGES_OF[kind] for kind in kinds) < options.stages:
        kinds.extend(dice.choices(list(KINDS), list(KINDS.values())))
    made: list[Order] = []
    seconds = options.hours * 3600
    for at, kind in zip(arrivals(dice, len(kinds), seconds), kinds, strict=True):
        first = {"small": 0, "matrix": PROJECTS * 7 // 10, "chain": PROJECTS * 9 // 10}[kind]
        last = {"small": PROJECTS * 7 // 10, "matrix": PROJECTS * 9 // 10, "chain": PROJECTS}[kind]
        project = dice.randrange(first, last)
        plan, lasts = MAKERS[kind](dice, project)
        cancel = dice.uniform(0, sum(lasts.values()) * 1.5) if dice.random() < CANCELLED else None
        begins, cancel = (0.0, None) if options.burst else (at, cancel)
        made.append(Order(begins, project, kind, plan, lasts, URGENT if dice.random() < 0.1 else 10, cancel, len(made)))
    on_chains, on_others = int(options.hosts * CHAIN_HOSTS), options.hosts - int(options.hosts * CHAIN_HOSTS)
    for group, hosts in ((("chain",), on_chains), (("small", "matrix"), on_others)):
        work = sum(sum(one.seconds.values()) for one in made if one.kind in group)
        factor = options.load * hosts * seconds / work if work else 1
        for one in made:
            if one.kind in group:
                one.seconds = {name: lasts * factor for name, lasts in one.seconds.items()}
                one.path = max(ranks({s.name: s.depends_on for s in one.plan.stages}, one.seconds).values())
    return made


def bound(made: Sequence[Order], ledger: Ledger, hosts: int) -> float:
    """Seconds from the beginning before which no schedule can be over. Work is what hosts did for a build."""
    whole = [one for one in made if one.cancel_after is None]
    longest = max((one.at + one.path for one in whole if not ledger_failed(ledger, one)), default=0)
    big = int(hosts * CHAIN_HOSTS)
    for kinds, count in ((("small", "matrix", "chain"), hosts), (("chain",), big)):
        after = 0.0
        for one in sorted(made, key=lambda one: -one.at):
            if one.kind in kinds:
                after += sum(ledger.work.get(one.number, {}).values())
                longest = max(longest, one.at + after / count)
    return longest


def unbroken(made: Sequence[Order], hosts: int) -> float:
    """The least time for chains that all come in at once, each of which keeps a host until its end."""
    paths = sorted((one.path for one in made if one.kind == "chain"), reverse=True)
    big = int(hosts * CHAIN_HOSTS)
    # Of n times `big` and one more, some host has n + 1: at best those that are shortest.
    return max(sum(paths[n * big - n : n * big + 1]) for n in range(len(paths) // big + 1) if n * big < len(paths))


def ledger_failed(ledger: Ledger, one: Order) -> bool:
    """Whether a build did less than it was to do: its critical path need not have been walked."""
    return sum(ledger.work.get(one.number, {}).values()) < sum(one.seconds.values()) * 0.999


async def put_in(world: Fleet, made: Sequence[Order]) -> None:
    """Order builds when they are due, those of one moment together."""
    tasks: set[asyncio.Task[None]] = set()
    for at, due in groupby(made, key=lambda one: one.at):
        await world.clock.sleep(at - world.clock.monotonic())
        together = list(due)
        await world.order(lambda c, those=together: [insert(world, c, one) for one in those])
        for one in together:
            if one.cancel_after is not None:
                tasks.add(asyncio.create_task(cancel(world, one.number, one.cancel_after)))
    if tasks:
        await asyncio.wait(tasks)


def insert(world: Fleet, c: sa.Connection, one: Order) -> None:
    now = world.clock.now()
    project = builds.ensure_project(c, f"far:/p{one.project}", f"p{one.project}", now)
    key = f"{one.nth} {one.project}"
    row, _ = builds.insert_build(c, project, one.plan, name=one.kind, args_key=key, now=now, priority=one.priority)
    one.number = row.id
    for name, lasts in one.seconds.items():
        world.ledger.seconds[row.id, name] = lasts


async def cancel(world: Fleet, number: int, after: float) -> None:
    await world.clock.sleep(after)
    await world.order(lambda c: builds.request_cancel(c, number, world.clock.now()))


async def break_things(world: Fleet, options: argparse.Namespace) -> None:
    """Hosts that go away and come back, workers that die; until cancelled."""
    dice = random.Random(f"{options.seed} faults")
    names, day = list(world.hosts), options.hours * 3600
    away = 0 if options.burst else int(len(names) * AWAY_EACH_DAY * options.hours / 24)
    due = [(dice.uniform(0, day), dice.choice(names), dice.uniform(60, 600)) for _ in range(away)]
    due += [(dice.uniform(day * 0.02, day), "", dice.randint(1, 40)) for _ in range(options.kills)]
    for at, name, value in sorted(due):
        await world.clock.sleep(at - world.clock.monotonic())
        if name:
            world.hosts[name].leave()
            world.aways += 1
            world.clock.call_later(value, world.hosts[name].come_back)
        else:
            world.life.end_after(int(value))


async def until_over(world: Fleet, count: int) -> None:
    """Return when so many builds are over, or none was for a day: then some never will be."""
    query = sa.select(sa.func.count()).where(BUILDS.c.completed_at.is_not(None))
    over, since = 0, world.clock.monotonic()
    while over < count and world.clock.monotonic() - since < STUCK_S:
        await world.clock.sleep(60)
        if (now := await world.store.read(lambda c: c.scalar(query)) or 0) != over:
            over, since = now, world.clock.monotonic()


Row = tuple[int, str, int, datetime | None, datetime | None, str | None]
"""Build, stage, attempt, its start and end, job."""


def queue_times(rows: Sequence[Row], made: Sequence[Order], began: float) -> Iterator[tuple[int, float]]:
    """Its priority and the seconds that each stage waited once it could have run, first attempts only."""
    priorities = {one.number: one.priority for one in made}
    plans = {one.number: {spec.name: spec for spec in one.plan.stages} for one in made}
    arrived = {one.number: began + one.at for one in made}
    ended: dict[tuple[int, str], float] = {}
    first: dict[tuple[int, str], float] = {}
    for build, stage, attempt, started_at, ended_at, job in rows:
        if ended_at is not None:
            ended[build, stage] = max(ended.get((build, stage), 0.0), ended_at.timestamp())
        if attempt == 1 and started_at is not None and job is not None:
            first[build, stage] = started_at.timestamp()
    for (build, stage), at in first.items():
        needs = [ended[build, need] for need in plans[build][stage].depends_on if (build, need) in ended]
        yield priorities[build], at - max([arrived[build], *needs])


Seen = tuple[Counter[str], list[tuple[int, float]], dict[str, int]]
"""Ends of builds, waits by priority, what is wrong."""


async def look(world: Fleet, made: Sequence[Order], began: float) -> Seen:
    """How builds ended, how long stages waited, and everything that is not as it has to be."""
    columns = [STAGES.c[n] for n in ("build", "stage", "attempt", "started_at", "ended_at", "job_id")]
    said = sa.select(STAGES.c.job_id, STAGES.c.status, STAGES.c.reason).where(STAGES.c.job_id.is_not(None))

    def statements(c: sa.Connection) -> Seen:
        ends = Counter(str(status) for status in c.scalars(sa.select(BUILDS.c.status)))
        rows = {str(job): (str(status), str(reason)) for job, status, reason in c.execute(said)}
        passed = {job for job, (status, _) in rows.items() if status == "success"}
        lost = {job for job, (_, reason) in rows.items() if reason == "lost"}
        opened = sa.select(sa.func.count()).where(STAGES.c.status.in_(("waiting", "running")))
        ledger = world.ledger
        wrong = {
            "started twice": sum(count > 1 for count in ledger.starts.values()),
            "jobs without a row": len(ledger.starts.keys() - rows.keys()),
            "passed without a job": len(passed - ledger.starts.keys()),
            "said to be lost, and not": len(lost - ledger.lost),
            "jobs left running": ledger.running,
            "above a host's slots": ledger.at_once_broken,
            "rows left open": int(c.scalar(opened) or 0) + ends["pending"] + ends["running"],
            "leases left": int(c.scalar(sa.select(sa.func.count()).select_from(LEASES)) or 0),
        }
        return ends, list(queue_times([(*row,) for row in c.execute(sa.select(*columns))], made, began)), wrong

    return await world.store.read(statements)


async def run(options: argparse.Namespace, home: Path) -> Found:
    big = int(options.hosts * CHAIN_HOSTS)
    servers = {
        f"h{number}": Server(host=f"h{number}", tags=("big",) if number < big else ("linux",), slots=1)
        for number in range(options.hosts)
    }
    made = orders(options)
    at_once = min(options.hosts * PER_HOST, 10_000)
    async with fleet(home, servers, options.seed, at_once, calm=options.burst) as world:
        began, cpu = world.clock.now().timestamp(), time.process_time()
        breaking = asyncio.create_task(break_things(world, options))
        coming = asyncio.create_task(put_in(world, made))
        try:
            await coming
            await until_over(world, len(made))
        finally:
            breaking.cancel()
            await asyncio.wait({breaking})
        cpu = time.process_time() - cpu
        ends, queued, wrong = await look(world, made, began)
        last = await world.store.read(lambda c: c.scalar(sa.select(sa.func.max(BUILDS.c.completed_at))))
        took = (last.timestamp() if last else began) - began
        starts, ledger = sum(world.ledger.starts.values()), world.ledger
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    size = sum(one.stat().st_size for one in home.glob("orchestrator.db*")) / 1e6
    now = psutil.Process().memory_info().rss / 1e6
    print(f"seed {options.seed}: {options.hosts} hosts, {options.hours:g} h, load {options.load}; {len(made)} builds")
    print(
        f"  of {options.stages} stages or more, {starts} jobs, {len(ledger.lost)} of them lost, {world.aways} times a"
    )
    print(
        f"  host away, {world.deaths} deaths of the worker; most jobs at once {ledger.most_running}, most builds open"
    )
    print(f"  {world.most_open}; database {size:.0f} MB; memory at the end {now:.0f} MB")
    least = bound(made, ledger, options.hosts)
    ratio = took / max(least, unbroken(made, options.hosts) if options.burst else 0)
    waits = [seconds for _, seconds in queued]
    urgent = [seconds for priority, seconds in queued if priority == URGENT]
    rest = (sum(waits) - sum(urgent)) / max(1, len(waits) - len(urgent))
    before = sum(urgent) / max(1, len(urgent)) / max(1, rest)
    cpu_ms = cpu / max(1, starts) * 1000
    return Found(ratio, took / least, took / 3600, waits, before, cpu_ms, memory, wrong, world.deaths, ends)


def show(found: Found) -> int:
    cuts = quantiles(found.queued, n=100)
    print(f"  builds: {dict(found.ends)}")
    print(f"makespan {found.hours:.2f} h = {found.ratio:.3f} × the bound (limit {LIMIT}); {found.any_order:.3f} of any")
    waits = ", ".join(f"p{at} {cuts[at - 1]:.1f} s" for at in (50, 95, 99))
    print(f"stages waited: {waits}, max {max(found.queued):.0f} s; urgent {found.urgent:.2f} of others")
    print(f"processor time: {found.cpu_ms:.2f} ms a job, simulation included; memory at most {found.memory_mb:.0f} MB")
    print("; ".join(f"{name}: {count}" for name, count in found.wrong.items()))
    return int(found.ratio > LIMIT or any(found.wrong.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--stages", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", type=float, default=0.85)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--burst", action="store_true", help="all builds come in at the beginning")
    options = parser.parse_args()
    calm_collector()
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        return show(asyncio.run(run(options, Path(name) / "home")))


if __name__ == "__main__":
    sys.exit(main())
