"""Hands builds to procrastinate, which says which worker takes which: a table, FOR UPDATE SKIP LOCKED and NOTIFY.

A row of it is one hand-over. It is never retried: where its worker died, it is dropped and another one is made, so that
a worker which was only frozen finds its row gone, and cannot end another's.

What it takes to be sure of the engine, each tried: it beats and looks after its LISTEN only as long as something is
periodic in it; one question that fails ends its worker, which is begun anew then; and it keeps no note of the version
of its tables.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy as sa
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.schema import SchemaManager, migrations_path
from procrastinate.worker import Worker
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from mcp_server.clock import Clock
from mcp_server.errors import StoreError
from mcp_server.store.postgres import LOCK_WAIT_S, WRITERS, conninfo

log = logging.getLogger(__name__)

SCHEMA = "procrastinate"  # its tables are in one of their own
TASK = "build"  # rows name it: it stays as it is
ANY = "any"  # the queue of what every worker can do
SELDOM = "0 0 29 2 *"
LONGEST_QUEUE = 40  # bytes: the server takes no longer name of a channel
POLL_S = 1.0  # what no NOTIFY told of is found so late
UNUSED_S = 2.0  # so old a connection may have been closed by the server
AWAY_S = 5.0  # a question waits so long for a connection
NEVER_S = 10.0**8
OLD_H = 1  # after so many hours a row of a build that is over is dropped, if it was left
_LOST = (ConnectorException, PoolTimeout, psycopg.Error, OSError)

RunBuild = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Handed:
    """A build that is handed over: in which queue, and the number of the worker that took it (None: it waits)."""

    row: int
    build: int
    queue: str
    worker: int | None


class Handover:
    """The engine of one worker. StoreError from all that asks the database, where that is away."""

    def __init__(
        self, url: sa.URL, run_build: RunBuild, queues: Sequence[str], at_once: int, lost_s: float, clock: Clock
    ) -> None:
        self._url, self._run_build, self._at_once, self._lost_s = url, run_build, at_once, lost_s
        self._queues = [short(name) for name in queues]
        self._clock = clock
        self.number: int | None = None
        self._rows: dict[int, int] = {}  # of what is run here, the build of each
        self._odd: set[int] = set()
        self._serving: asyncio.Task[None] | None = None
        self._app = App(
            connector=PsycopgConnector(
                conninfo=conninfo(url),
                min_size=1,
                max_size=4,
                timeout=AWAY_S,
                configure=_configure,
                pool_factory=_pool,
                # A row that a crash of the server loses is missed by the leader, and handed over again.
                kwargs={"options": f"-c search_path={SCHEMA} -c synchronous_commit=off"},
            )
        )
        self._jobs = self._app.job_manager
        self._app.task(name=TASK, queue=ANY, pass_context=True)(self._take)
        self._app.periodic(cron=SELDOM)(self._app.task(name="never", queue=ANY)(_never))

    async def start(self) -> None:
        """Make the engine's tables, and take from now on what is handed over."""
        async with _asked():
            await _make_tables(conninfo(self._url))
            await self._app.open_async()
        self._serving = asyncio.create_task(self._serve())

    async def stop(self) -> Sequence[int]:
        """Take nothing any more; the builds that this worker had. Their rows are gone, where the database is there."""
        mine = list(self._rows.values())
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
        return mine

    async def aclose(self) -> None:
        """Let the database go."""
        await self.stop()
        with contextlib.suppress(*_LOST):
            await self._app.close_async()

    # -- the leader's ------------------------------------------------------------------------------------------------

    async def hand_over(self, builds: Collection[tuple[int, str, int]]) -> None:
        """Hand over builds: number, queue, urgency (greater ones first). One that waits there already stays."""
        jobs = [_job(*one) for one in builds]
        async with _asked():
            try:
                await self._jobs.batch_defer_jobs_async(jobs)
            except AlreadyEnqueued:
                for job in jobs:
                    with contextlib.suppress(AlreadyEnqueued):
                        await self._jobs.defer_job_async(job)

    async def known(self) -> Mapping[int, Handed]:
        """What is handed over and not over, by build."""
        async with _asked():
            jobs = list(await self._jobs.list_jobs_async(task=TASK))
        return {one.build: one for job in jobs if job.status in ("todo", "doing") and (one := _handed(job))}

    async def reap(self) -> Sequence[int]:
        """Drop the hand-overs to workers that are dead; their builds, which are to be handed over anew."""
        async with _asked():
            dead = list(await self._jobs.get_stalled_jobs(task_name=TASK, seconds_since_heartbeat=self._lost_s))
            for job in dead:
                await self._drop(job.id)
        return _builds(dead)

    async def bury(self, number: int) -> Sequence[int]:
        """The same for one worker that is known to be dead."""
        async with _asked():
            dead = list(await self._jobs.list_jobs_async(task=TASK, status="doing", worker_id=number))
            for job in dead:
                await self._drop(job.id)
            await self._jobs.unregister_worker(number)
        return _builds(dead)

    async def withdraw(self, served: Collection[str], known: Iterable[Handed]) -> Sequence[int]:
        """Drop the hand-overs that wait in queues of which nobody serves any; their builds."""
        there = {short(name) for name in served}
        stuck = [one for one in known if one.worker is None and one.queue not in there]
        async with _asked():  # not one that somebody has taken meanwhile
            return [one.build for one in stuck if await self._jobs.cancel_job_by_id_async(one.row, delete_job=True)]

    async def clean(self) -> None:
        """Drop what dead workers have left of themselves, and old rows."""
        async with _asked():
            await self._jobs.prune_stalled_workers(3600)
            await self._jobs.delete_old_jobs(OLD_H, include_failed=True, include_cancelled=True, include_aborted=True)

    # -- each worker's -----------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Say that this worker is there. A row that is ours, and that nobody here runs, is dropped."""
        if (number := self.number) is None:
            return
        async with _asked():
            await self._jobs.update_heartbeat(number)
            mine = {job.id for job in await self._jobs.list_jobs_async(task=TASK, status="doing", worker_id=number)}
            odd = {row for row in mine if row is not None and row not in self._rows}
            for row in odd & self._odd:  # seen twice: it is not just being taken
                await self._drop(row)
            self._odd = odd - self._odd

    async def _take(self, context: JobContext, build: int) -> None:
        row = context.job.id
        assert row is not None
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # its row may be gone: no news
        self._rows[row] = build
        try:
            await self._run_build(build)
        except Exception:  # a mistake of ours: the engine says nothing of it, and the leader hands it over again
            log.exception("build %d", build)
            raise
        finally:
            self._rows.pop(row, None)

    async def _drop(self, row: int | None) -> None:
        if row is None:
            return
        with contextlib.suppress(ConnectorException):  # it ended meanwhile, or somebody else did this
            await self._jobs.finish_job_by_id_async(row, Status.ABORTED, delete_job=True)

    async def _serve(self) -> None:
        while True:
            worker = Worker(
                self._app,
                self._queues,
                name=None,
                concurrency=self._at_once,
                delete_jobs="always",
                fetch_job_polling_interval=POLL_S,
                abort_job_polling_interval=NEVER_S,
                shutdown_graceful_timeout=0,
                install_signal_handlers=False,
                update_heartbeat_interval=NEVER_S,  # `beat` does it: only as long as the rest of us is alive, too
                stalled_worker_timeout=NEVER_S,
            )
            running = asyncio.create_task(worker.run())
            try:
                await self._begun(worker, running)
                await asyncio.wait({running})
            finally:
                running.cancel()
                ended = (await asyncio.gather(running, return_exceptions=True))[0]
            log.warning("the engine and the database were apart, it begins again: %s", type(ended).__name__)
            await self._clock.sleep(POLL_S)

    async def _begun(self, worker: Worker, running: "asyncio.Task[None]") -> None:
        """Return once the engine's worker is known to the database; the one that was before it is dead."""
        while worker.worker_id is None and not running.done():
            await asyncio.wait({running}, timeout=0.02)  # it has no event for this
        before, self.number = self.number, worker.worker_id
        if before is not None and self.number is not None:
            with contextlib.suppress(StoreError):
                await self.bury(before)


@contextlib.asynccontextmanager
async def _asked() -> AsyncGenerator[None]:
    try:
        yield
    except _LOST as error:
        if isinstance(error, AlreadyEnqueued):
            raise
        raise StoreError(f"the engine of the shared database cannot be asked: {type(error).__name__}") from error


def _job(build: int, queue: str, urgency: int) -> Job:
    name = f"build-{build}"
    return Job(
        id=None,
        queue=short(queue),
        priority=urgency,
        lock=name,  # two hand-overs of one build never run at once
        queueing_lock=name,
        task_name=TASK,
        task_kwargs={"build": build},
    )


def _builds(jobs: Iterable[Job]) -> Sequence[int]:
    return [one.build for job in jobs if (one := _handed(job)) is not None]


def _handed(job: Job) -> Handed | None:
    build = job.task_kwargs.get("build")
    if not isinstance(build, int) or job.id is None:
        return None
    return Handed(job.id, build, job.queue, job.worker_id if job.status == "doing" else None)


def short(queue: str) -> str:
    """A queue's name, as far as the server takes it."""
    if len(queue.encode()) <= LONGEST_QUEUE:
        return queue
    return f"{queue.partition(':')[0][:16]}:{hashlib.sha256(queue.encode()).hexdigest()[:16]}"


async def _never(timestamp: int) -> None:
    """Due on the 29th of February."""


class _Pool(AsyncConnectionPool[AsyncConnection[Any]]):
    """Asks a connection whether it is still there only where it was not used for a while: each asking is a trip."""

    _used: ClassVar[WeakKeyDictionary[AsyncConnection[Any], float]] = WeakKeyDictionary()

    @classmethod
    async def check_if_old(cls, link: AsyncConnection[Any]) -> None:
        now = monotonic()
        if now - cls._used.get(link, float("-inf")) > UNUSED_S:
            await cls.check_connection(link)
        cls._used[link] = now


def _pool(**given: Any) -> _Pool:
    given["check"] = _Pool.check_if_old
    return _Pool(**given)


async def _configure(link: AsyncConnection[Any]) -> None:
    await link.set_autocommit(True)  # else BEGIN and COMMIT are trips of their own


async def _make_tables(where: str) -> None:
    """Its tables, or what a newer version adds to them; which of its files they have seen is noted beside them."""
    whole, files = await asyncio.to_thread(_statements)
    async with await psycopg.AsyncConnection.connect(where) as link:  # one transaction
        await link.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'".encode())
        await link.execute(f"SELECT pg_advisory_xact_lock({WRITERS})".encode())
        await link.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}; SET LOCAL search_path = {SCHEMA}".encode())
        await link.execute(b"CREATE TABLE IF NOT EXISTS applied (name text PRIMARY KEY)")
        noted = {str(row[0]) for row in await (await link.execute(b"SELECT name FROM applied")).fetchall()}
        if not noted:
            await link.execute(whole)
        for name, statements in files.items():
            if name in noted:
                continue
            if noted:
                await link.execute(statements)
            await link.execute(b"INSERT INTO applied VALUES (%s)", (name,))


def _statements() -> tuple[bytes, Mapping[str, bytes]]:
    """What all its files together come to, and each of them by name, in their order."""
    files = sorted(migrations_path.glob("*.sql"))
    return SchemaManager.get_schema().encode(), {file.name: file.read_bytes() for file in files}
