"""A thousand simulated hosts that go away and come back, and workers that die in the middle of anything."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import event

from mcp_server.config import Config, Server, load_config
from mcp_server.engine.dispatch.local import Local
from mcp_server.engine.services import Services
from mcp_server.errors import HostUnreachable, NotFound
from mcp_server.hosts.base import Exit, ExitReason, Host, JobId, JobSpec, JobState, JobStatus
from mcp_server.hosts.registry import Hosts
from mcp_server.store import builds, leases, queue
from mcp_server.store.database import Statements, Store
from tests.support.simulation import IdleClock, _inline, _without_the_disk

T = TypeVar("T")

LOOK_S = 60  # as the worker: all open rows are read so often, at other wakes what is new
REBORN_S = 2  # until another worker is there
LOST, FAILED = 0.003, 0.02  # of all attempts
ERROR_LOG = b"main.c:3:5: error: expected ';' before '}' token\n    3 |     x()\n"


@dataclass(slots=True)
class Job:
    """What a host keeps of a job."""

    sha256: str
    seconds: float
    began: float
    code: int = 0
    reason: ExitReason = ExitReason.EXIT
    ended: float | None = None
    over: asyncio.Event | None = field(default_factory=asyncio.Event)

    def exit(self) -> Exit:
        size = len(ERROR_LOG) if self.code == 1 else 0
        return Exit(self.reason, None if self.reason is ExitReason.LOST else self.code, log_size=size)


@dataclass
class Ledger:
    """What the hosts saw, whatever anybody wrote down. Seconds of `seconds` are those of a stage that goes well."""

    seed: int
    calm: bool = False  # no job is lost or fails
    seconds: dict[tuple[int, str], float] = field(default_factory=dict[tuple[int, str], float])
    starts: Counter[JobId] = field(default_factory=Counter[JobId])  # over all hosts
    lost: set[JobId] = field(default_factory=set[JobId])
    running: int = 0
    most_running: int = 0
    work: dict[int, dict[str, float]] = field(default_factory=dict[int, dict[str, float]])  # build, host: seconds
    at_once_broken: int = 0  # starts on a host that had no slot left

    def make(self, job: JobSpec, now: float) -> Job:
        """How it will go: the same for each id, in each run of this seed."""
        _, number, rest = job.id.split("-", 2)
        stage = rest.rsplit("-", 2)[0]
        made = Job(job.sha256(), self.seconds[int(number), stage], now)
        dice = random.Random(f"{self.seed} {number} {rest}")
        roll = 1.0 if self.calm else dice.random()
        if roll < LOST:
            made.seconds, made.reason = made.seconds * dice.random(), ExitReason.LOST
            self.lost.add(job.id)
        elif roll < LOST + FAILED:
            made.seconds, made.code = made.seconds * dice.random(), 1
        return made


class FleetHost:
    """The Host port without a machine, small enough for a thousand. What breaks is said by who runs the fleet."""

    def __init__(self, name: str, clock: IdleClock, ledger: Ledger, slots: int) -> None:
        self.name, self._clock, self._ledger, self._slots = name, clock, ledger, slots
        self.jobs: dict[JobId, Job] = {}
        self.running = 0
        self._away = False
        self._cut = asyncio.Event()  # who waits on a host that goes away loses the connection

    def leave(self) -> None:
        """It cannot be reached; jobs run on."""
        self._away = True
        self._cut.set()

    def come_back(self) -> None:
        """It answers again."""
        self._away, self._cut = False, asyncio.Event()

    def _reach(self) -> None:
        if self._away:
            raise HostUnreachable(self.name, "connection refused")

    async def directory(self) -> str:
        self._reach()
        return f"/jobs/{self.name}"

    async def start(self, job: JobSpec) -> bool:
        self._reach()
        if job.id in self.jobs:
            return False
        made = self.jobs[job.id] = self._ledger.make(job, self._clock.monotonic())
        self._ledger.starts[job.id] += 1
        self.running += 1
        self._ledger.running += 1
        self._ledger.most_running = max(self._ledger.most_running, self._ledger.running)
        self._ledger.at_once_broken += self.running > self._slots
        self._clock.call_later(made.seconds, lambda: self._end(job.id))
        return True

    def _end(self, job_id: JobId, *, killed: bool = False) -> None:
        job = self.jobs[job_id]
        if job.over is None:
            return
        if killed:
            job.reason, job.code = ExitReason.CANCELLED, 143
        job.ended = self._clock.monotonic()
        job.over.set()
        job.over = None
        self.running -= 1
        self._ledger.running -= 1
        of = self._ledger.work.setdefault(int(job_id.split("-", 2)[1]), {})
        of[self.name] = of.get(self.name, 0.0) + job.ended - job.began

    async def status(self, job_id: JobId) -> JobStatus:
        self._reach()
        job = self.jobs.get(job_id)
        if job is None:
            return JobStatus(JobState.ABSENT)
        over = job.over is None
        return JobStatus(JobState.ENDED if over else JobState.RUNNING, job.sha256, job.exit() if over else None)

    async def wait(self, job_id: JobId) -> Exit:
        self._reach()
        if job_id not in self.jobs:
            raise NotFound(f"job {job_id} was never started on {self.name}")
        await self._until_over(self.jobs[job_id])
        return self.jobs[job_id].exit()

    async def _until_over(self, job: Job) -> None:
        if job.over is None:
            return
        ways = [asyncio.ensure_future(job.over.wait()), asyncio.ensure_future(self._cut.wait())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        self._reach()

    async def read_log(self, job_id: JobId, offset: int, max_bytes: int = 65_536) -> bytes:
        self._reach()
        return ERROR_LOG[offset:][:max_bytes] if self.jobs[job_id].code == 1 else b""

    async def log_hole(self, job_id: JobId) -> tuple[int, int] | None:
        return None

    async def follow(self, job_id: JobId, offset: int = 0) -> AsyncIterator[bytes]:
        self._reach()
        await self._until_over(self.jobs[job_id])
        if self.jobs[job_id].code == 1 and (log := ERROR_LOG[offset:]):
            yield log

    async def kill(self, job_id: JobId, grace_s: float = 1) -> JobStatus:
        self._reach()
        if job_id not in self.jobs:  # kept from ever starting
            self.jobs[job_id] = Job("", 0, self._clock.monotonic(), 143, ExitReason.CANCELLED, 0, None)
        else:
            self._end(job_id, killed=True)
        return await self.status(job_id)

    async def aclose(self) -> None:
        pass


class Life:
    """One worker's: after its end nothing that it still does reaches the store or a host."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._left: int | None = None

    def end_after(self, acts: int) -> None:
        """Die right after so many more commits and starts of jobs, before the answer is known."""
        self._left = acts

    def acted(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.over.set()

    def check(self) -> None:
        if self.over.is_set():
            raise asyncio.CancelledError


class MortalStore(Store):
    """A worker's store."""

    def __init__(self, config: Config, life: Life) -> None:
        super().__init__(config.database_url, config.home, life.acted)
        event.listen(self.engine, "connect", _without_the_disk)
        self._life = life

    async def read(self, statements: Statements[T]) -> T:
        self._life.check()
        return await super().read(statements)

    async def write(self, statements: Statements[T]) -> T:
        self._life.check()
        result = await super().write(lambda c: (self._life.check(), statements(c))[1])  # it may wait for others
        self._life.check()
        return result


class MortalHost:
    """A host as one worker has it."""

    def __init__(self, host: FleetHost, life: Life) -> None:
        self._host, self._life = host, life
        self.name = host.name

    async def start(self, job: JobSpec) -> bool:
        self._life.check()
        started = await self._host.start(job)
        self._life.acted()
        self._life.check()
        return started

    async def kill(self, job_id: JobId, grace_s: float = 1) -> JobStatus:
        self._life.check()
        status = await self._host.kill(job_id, grace_s)
        self._life.acted()
        self._life.check()
        return status

    async def aclose(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:  # what changes nothing
        self._life.check()
        return getattr(self._host, name)


class FleetHosts(Hosts):
    """The registry of one worker, over simulated hosts."""

    def __init__(self, config: Config, hosts: Mapping[str, FleetHost], life: Life) -> None:
        super().__init__(config, {})
        self._fleet, self._life = hosts, life

    def _make(self, name: str, server: Server) -> Host:
        return cast(Host, MortalHost(self._fleet[name], self._life))


class Fleet:
    """Hosts, a store, and one worker after another. `async with fleet(...)`."""

    def __init__(self, config: Config, environment: Mapping[str, str], seed: int, calm: bool) -> None:
        self.config, self.environment = config, environment
        self.clock, self.ledger = IdleClock(), Ledger(seed, calm)
        self.hosts = {
            name: FleetHost(name, self.clock, self.ledger, server.slots or 1) for name, server in config.servers.items()
        }
        self.store = Store(config.database_url, config.home)  # of who orders
        event.listen(self.store.engine, "connect", _without_the_disk)
        self.store.migrate()
        self.life = Life()
        self.services: Services | None = None
        self.wake = asyncio.Event()
        self.deaths = self.aways = self.most_open = 0

    async def order(self, statements: Statements[T]) -> T:
        """What a front does: it writes, then it wakes the worker."""
        done = await self.store.write(statements)
        self.wake.set()
        return done

    async def work(self) -> None:
        """Workers, until cancelled: each until it dies."""
        while True:
            self.life = Life()
            store = MortalStore(self.config, self.life)
            registry = FleetHosts(self.config, self.hosts, self.life)
            services = self.services = Services(self.config, store, self.clock, registry, self.environment)
            serving = asyncio.create_task(self._serve(services))
            dying = asyncio.create_task(self.life.over.wait())
            try:
                await asyncio.wait({serving, dying}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done() and not self.life.over.is_set():
                    serving.result()
            finally:
                self.life.over.set()
                for task in (serving, dying):
                    task.cancel()
                await asyncio.wait({serving, dying})
                await services.aclose()
                store.engine.dispose()
            self.deaths += 1
            await self.clock.sleep(REBORN_S)

    async def _serve(self, services: Services) -> None:
        """As `Worker.serve` does."""
        now = self.clock.now()
        await services.store.write(lambda c: leases.release_ended(c, now))
        dispatch = Local(services, await services.store.read(queue.served))
        newest, looked = 0, self.clock.monotonic()
        try:
            dispatch.dispatch(await services.store.read(builds.open_builds))
            while True:
                self.wake.clear()
                if self.clock.monotonic() - looked >= LOOK_S:
                    newest, looked = 0, self.clock.monotonic()
                rows = await services.store.read(
                    lambda c, n=newest: builds.open_builds(c) if not n else queue.new_builds(c, n)
                )
                if not newest:
                    self.most_open = max(self.most_open, len(rows))
                newest = max([newest, *(row.id for row in rows)])
                dispatch.dispatch(rows)
                with contextlib.suppress(TimeoutError):
                    await self.clock.within(LOOK_S, self.wake.wait())
        finally:
            await dispatch.aclose()


@contextlib.asynccontextmanager
async def fleet(
    home: Path, servers: Mapping[str, Server], seed: int, at_once: int, *, calm: bool = False
) -> AsyncGenerator[Fleet]:
    """Servers that work off what is ordered, at most `at_once` builds at a time. No thread is used."""
    environment = {"BUILD_ORCHESTRATOR_HOME": str(home), "HOME": str(home), "PATH": "/usr/bin:/bin"}
    home.mkdir(parents=True, exist_ok=True)
    said = {name: {"host": one.host, "tags": list(one.tags), "slots": one.slots} for name, one in servers.items()}
    lines = [f"  {name}: {json.dumps(of)}" for name, of in said.items()]
    (home / "config.yaml").write_text("\n".join([f"queue: {{builds: {at_once}}}", "servers:", *lines, ""]))
    config = load_config(environment)
    config.make_home()
    inline, original = _inline, asyncio.to_thread
    asyncio.to_thread = inline
    made = Fleet(config, environment, seed, calm)
    driver, working = asyncio.create_task(made.clock.drive()), asyncio.create_task(made.work())
    try:
        yield made
    finally:
        for task in (working, driver):
            task.cancel()
            await asyncio.wait({task})
        asyncio.to_thread = original
        made.store.engine.dispose()
        if not working.cancelled():
            working.result()


__all__ = ["Fleet", "FleetHost", "Ledger", "fleet"]
