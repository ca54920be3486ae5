"""The real scheduler, store and stages on simulated hosts, in simulated time: an hour takes milliseconds.

Time moves on by itself whenever nothing else can happen, so a run is the same each time.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from sqlalchemy import event

from mcp_server.config import Config, Server, load_config
from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.services import Services
from mcp_server.errors import BadInput, HostUnreachable, NotFound
from mcp_server.hosts.base import Exit, ExitReason, Host, JobId, JobSpec, JobState, JobStatus
from mcp_server.hosts.registry import Hosts
from mcp_server.model import Build, Plan, Stage
from mcp_server.store import builds
from mcp_server.store.database import Store
from tests.support.moved_clock import MovedClock
from tests.support.postgres import given_database

T = TypeVar("T")


def _without_the_disk(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


class IdleClock(MovedClock):
    """Goes on to the next alarm whenever no task can run."""

    async def drive(self) -> NoReturn:
        """Move time until cancelled."""
        ready: Collection[object] = asyncio.get_running_loop()._ready  # pyright: ignore
        while True:
            await asyncio.sleep(0)
            if ready:
                continue
            if (when := self.next_alarm()) is not None:
                self.advance(max(0.0, when - self.monotonic()))
            else:
                await asyncio.sleep(0.001)  # a thread works, or nothing is left to do


@dataclass
class Outcome:
    """What a simulated job does: lasts `seconds`, then ends so."""

    seconds: float = 0.0
    code: int = 0
    reason: ExitReason = ExitReason.EXIT
    log: bytes = b""


@dataclass
class _Job:
    spec: JobSpec
    outcome: Outcome
    started_at: float
    over: asyncio.Event = field(default_factory=asyncio.Event)
    killed: bool = False


class SimulatedHost:
    """The Host port without a machine. `outcome` says what a job does, from its id's stage, round and attempt."""

    def __init__(self, name: str, clock: MovedClock, outcome: Callable[[str, str, int], Outcome]) -> None:
        self.name, self._clock, self._outcome = name, clock, outcome
        self.jobs: dict[JobId, _Job] = {}
        self.reachable = True
        self.loses_answers = False  # the next start is done, and its answer does not arrive
        self.most_at_once = 0
        self.asked_in_vain = 0
        self._running = 0

    async def directory(self) -> str:
        self._reach()
        return f"/jobs/{self.name}"

    async def start(self, job: JobSpec) -> bool:
        self._reach()
        if job.id in self.jobs:
            return False
        _, _, rest = job.id.split("-", 2)
        stage, _, attempt = rest.rsplit("-", 2)
        made = self.jobs[job.id] = _Job(job, self._outcome(self.name, stage, int(attempt)), self._clock.monotonic())
        made.over = asyncio.Event()
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        asyncio.get_running_loop().create_task(self._run(made))
        if self.loses_answers:
            self.loses_answers = False
            raise HostUnreachable(self.name, "connection reset")
        return True

    async def _run(self, job: _Job) -> None:
        await self._clock.sleep(job.outcome.seconds)
        self._over(job)

    def _over(self, job: _Job) -> None:
        self._running -= not job.over.is_set()
        job.over.set()

    async def status(self, job_id: JobId) -> JobStatus:
        self._reach()
        job = self.jobs.get(job_id)
        if job is None:
            return JobStatus(JobState.ABSENT)
        state = JobState.ENDED if job.over.is_set() else JobState.RUNNING
        return JobStatus(state, job.spec.sha256(), self._exit(job) if job.over.is_set() else None)

    async def wait(self, job_id: JobId) -> Exit:
        self._reach()
        if job_id not in self.jobs:
            raise NotFound(f"job {job_id} was never started on {self.name}")
        await self.jobs[job_id].over.wait()
        self._reach()
        return self._exit(self.jobs[job_id])

    def _exit(self, job: _Job) -> Exit:
        if job.killed:
            return Exit(ExitReason.CANCELLED, 143, log_size=0)
        lost = job.outcome.reason is ExitReason.LOST
        return Exit(job.outcome.reason, None if lost else job.outcome.code, log_size=len(job.outcome.log))

    async def read_log(self, job_id: JobId, offset: int, max_bytes: int = 65_536) -> bytes:
        self._reach()
        return self.jobs[job_id].outcome.log[offset:][:max_bytes]

    async def log_hole(self, job_id: JobId) -> tuple[int, int] | None:
        return None

    async def follow(self, job_id: JobId, offset: int = 0) -> AsyncIterator[bytes]:
        self._reach()
        await self.jobs[job_id].over.wait()
        self._reach()
        if log := self.jobs[job_id].outcome.log[offset:]:
            yield log

    async def kill(self, job_id: JobId, grace_s: float = 1) -> JobStatus:
        self._reach()
        job = self.jobs[job_id]
        job.killed = job.killed or not job.over.is_set()
        self._over(job)
        return await self.status(job_id)

    async def remove(self, job_id: JobId) -> None:
        self.jobs.pop(job_id, None)

    async def clean(self, store: str, keep_s: float, spare: Collection[JobId] = ()) -> int:
        return 0

    @asynccontextmanager
    async def channel(self, script: object, op: str, *args: str) -> AsyncGenerator[Any]:
        raise AssertionError("a simulated host moves no files")
        yield

    async def aclose(self) -> None:
        pass

    def _reach(self) -> None:
        if not self.reachable:
            self.asked_in_vain += 1
            raise HostUnreachable(self.name, "connection refused")


class SimulatedHosts:
    """The registry over simulated hosts."""

    def __init__(self, hosts: Mapping[str, SimulatedHost], servers: Mapping[str, Server]) -> None:
        self._hosts, self._servers = hosts, servers

    def names(self) -> Sequence[str]:
        return list(self._hosts)

    def resolve(self, reference: str) -> Sequence[str]:
        named = [name for name, server in self._servers.items() if reference in (name, server.alias, *server.tags)]
        if not named:
            raise BadInput("host", f"{reference!r} is not known")
        return named

    def server(self, name: str) -> Server:
        return self._servers[name]

    def get(self, name: str) -> Host:
        return self._hosts[name]

    def opened(self) -> Mapping[str, Host]:
        return dict(self._hosts)

    def slots(self, name: str) -> int:
        return self._servers[name].slots or 3

    def update(self, config: Config) -> None:
        pass

    async def aclose(self) -> None:
        pass


def succeed(host: str, stage: str, attempt: int) -> Outcome:
    """Every job ends well, at once."""
    return Outcome()


class Simulation:
    """One store, one worker's services, some hosts. `async with simulation(...)`."""

    def __init__(self, services: Services, clock: IdleClock, hosts: Mapping[str, SimulatedHost]) -> None:
        self.services, self.clock, self.hosts = services, clock, hosts

    async def add(self, plan: Plan, name: str = "pipeline") -> int:
        """A pending build's number."""

        def statements(c: builds.sa.Connection) -> int:
            now = self.clock.now()
            project = builds.ensure_project(c, "far:/ws", "ws", now)
            key = f"{name} {now.timestamp()}"
            return builds.insert_build(c, project, plan, name=name, args_key=key, now=now)[0].id

        return await self.services.store.write(statements)

    async def run(self, plan: Plan) -> tuple[Build, Sequence[Stage]]:
        """A whole build; its rows at the end."""
        number = await self.add(plan)
        await BuildRun(self.services, number).run()
        return await self.rows(number)

    async def rows(self, number: int) -> tuple[Build, Sequence[Stage]]:
        return await self.services.store.read(lambda c: (builds.get_build(c, number), builds.stages_of(c, number)))


@asynccontextmanager
async def simulation(
    home: Path,
    servers: Mapping[str, Server],
    outcome: Callable[[str, str, int], Outcome] = succeed,
) -> AsyncGenerator[Simulation]:
    """A worker's services over simulated `servers`. Threads are not used, but for the notifier's own."""
    environment = {"BUILD_ORCHESTRATOR_HOME": str(home), "HOME": str(home), "PATH": "/usr/bin:/bin"}
    config = load_config({**environment, **given_database()})
    config.make_home()
    store = Store(config.database_url, config.home)
    if not store.is_shared:
        event.listen(store.engine, "connect", _without_the_disk)
    store.migrate()
    clock = IdleClock()
    hosts = {name: SimulatedHost(name, clock, outcome) for name in servers}
    services = Services(config, store, clock, cast(Hosts, SimulatedHosts(hosts, servers)), environment)
    inline, original = _inline, asyncio.to_thread
    asyncio.to_thread = inline
    driver = asyncio.create_task(clock.drive())
    try:
        yield Simulation(services, clock, hosts)
    finally:
        driver.cancel()
        await asyncio.wait({driver})
        asyncio.to_thread = original
        await services.aclose()
        await store.aclose()  # also what comes back later, of a read whose asker has gone


async def _inline(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    return function(*args, **kwargs)


__all__ = ["Outcome", "SimulatedHost", "Simulation", "simulation", "succeed"]
