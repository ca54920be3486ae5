"""Engines that say which worker runs which build on PostgreSQL, all asked the same: procrastinate, and DBOS if there.

    python -m benchmarks.dispatch [--kills 40] [--workers 2] [--builds 1000] [--engine procrastinate|dbos|both]

A leader hands over build numbers, at most as many as may run; workers of their own processes run them. Measured: from
the hand-over to the run in another process; an idle worker; builds a second that do nothing; and whether every build
ends, none is run by two at a time and the limit is kept while workers are killed (SIGKILL) at random and begin again.
The database is BUILD_ORCHESTRATOR_TEST_POSTGRES (a URL, an empty database), else a server of its own without fsync.
"""

import argparse
import asyncio
import contextlib
import fcntl
import importlib
import importlib.util
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import psutil
import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.worker import Worker

from tests.support import postgres

AT_ONCE = 50  # builds of one worker in the measurement of the rate
BATCH = 20  # builds handed over at once there
LIMIT = 5  # builds of all workers in the kill test
BEAT_S, DEAD_S, POLL_S = 2.0, 8.0, 1.0
NEVER_S = 10.0**8
DBOS_POLL_S = 0.1
ENGINES = ("procrastinate", "dbos")

Run = Callable[[int], Awaitable[None]]


class Engine(Protocol):
    """What the leader and the workers need of an engine."""

    async def open(self, run: Run | None, worker: int) -> None:
        """Begin; with `run` as the worker of that number, of which an earlier process is surely dead."""
        ...

    async def hand_over(self, builds: Sequence[int]) -> None:
        """What is handed over already stays as it is."""
        ...

    async def known(self) -> set[int]:
        """The builds that wait or run; hand-overs to the dead are cleared away before."""
        ...


class Procrastinate:
    """One row is one hand-over: it is deleted when the worker dies, and the leader makes a new one."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        options = {"options": "-c search_path=procrastinate -c synchronous_commit=off"}
        pool: dict[str, Any] = {"conninfo": url, "min_size": 1, "max_size": 4, "timeout": 5, "kwargs": options}
        self._url, self._app = url, App(connector=PsycopgConnector(configure=_autocommit, **pool))
        self._jobs = self._app.job_manager
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, run: Run | None, worker: int) -> None:
        async with await psycopg.AsyncConnection.connect(self._url) as link:
            await link.execute("SELECT pg_advisory_xact_lock(1)")
            await link.execute("CREATE SCHEMA IF NOT EXISTS procrastinate")
            found = await (await link.execute("SELECT to_regclass('procrastinate.procrastinate_jobs')")).fetchone()
            if found == (None,):
                await link.execute("SET LOCAL search_path = procrastinate")
                await link.execute(self._app.schema_manager.get_schema())
        await self._app.open_async()
        if run is not None:
            await self._serve(run, self._folder / f"number-{worker}")

    async def _serve(self, run: Run, mine: Path) -> None:
        async def take(_: JobContext, build: int) -> None:
            await run(build)

        self._app.task(name="build", pass_context=True)(take)
        if mine.exists() and (before := mine.read_text()):
            for job in await self._jobs.list_jobs_async(status="doing", worker_id=int(before)):
                await self._forget(job)
        worker = Worker(
            self._app,
            ["any"],
            concurrency=AT_ONCE,
            delete_jobs="always",
            fetch_job_polling_interval=POLL_S,
            abort_job_polling_interval=NEVER_S,
            install_signal_handlers=False,
            shutdown_graceful_timeout=0,
            update_heartbeat_interval=BEAT_S,
        )
        self._tasks.append(asyncio.create_task(worker.run()))
        while worker.worker_id is None:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.01)
        mine.write_text(str(worker.worker_id))

    async def hand_over(self, builds: Sequence[int]) -> None:
        try:
            await self._jobs.batch_defer_jobs_async([_job(build) for build in builds])
        except AlreadyEnqueued:  # then none of them is handed over
            for build in builds:
                with contextlib.suppress(AlreadyEnqueued):
                    await self._jobs.defer_job_async(_job(build))

    async def known(self) -> set[int]:
        for job in await self._jobs.get_stalled_jobs(seconds_since_heartbeat=DEAD_S):
            await self._forget(job)
        jobs = await self._jobs.list_jobs_async(task="build")
        return {number for job in jobs if isinstance(number := job.task_kwargs["build"], int)}

    async def _forget(self, job: Job) -> None:
        with contextlib.suppress(ConnectorException):
            await self._jobs.finish_job(job, Status.ABORTED, delete_job=True)


def _job(build: int) -> Job:
    name = f"build-{build}"
    return Job(id=None, queue="any", lock=name, queueing_lock=name, task_name="build", task_kwargs={"build": build})


async def _autocommit(link: psycopg.AsyncConnection) -> None:
    await link.set_autocommit(True)


class Dbos:
    """One workflow is one build; a worker that begins again takes up its own ones."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._dbos = url, importlib.import_module("dbos")
        self._run: Run | None = None

    async def open(self, run: Run | None, worker: int) -> None:
        dbos = self._dbos
        name = {"name": "bench", "executor_id": f"worker-{worker}", "application_version": "1"}
        dbos.DBOS(config={**name, "system_database_url": self._url, "log_level": "ERROR"})
        plain = dbos.WorkflowSerializationFormat.PORTABLE

        async def build(number: int) -> None:
            assert run is not None
            await run(number)

        options = {"name": "build", "max_recovery_attempts": None, "serialization_type": plain}
        self._build = dbos.DBOS.workflow(**options)(build)
        if run is None:
            dbos.DBOS.listen_queues([])  # the leader only hands over
        dbos.DBOS.launch()
        await dbos.DBOS.register_queue_async("builds", worker_concurrency=AT_ONCE, polling_interval_sec=DBOS_POLL_S)

    async def hand_over(self, builds: Sequence[int]) -> None:
        async def one(build: int) -> None:
            with self._dbos.SetWorkflowID(f"build-{build}"):
                await self._dbos.DBOS.enqueue_workflow_async("builds", self._build, build)

        await asyncio.gather(*(one(build) for build in builds))

    async def known(self) -> set[int]:
        asked = {"status": ["ENQUEUED", "PENDING"], "load_input": False, "load_output": False}
        found = await self._dbos.DBOS.list_workflows_async(**asked)
        return {int(row.workflow_id.removeprefix("build-")) for row in found}


def make(engine: str, url: str, folder: Path) -> Engine:
    return Procrastinate(url, folder) if engine == "procrastinate" else Dbos(url, folder)


# --- a worker's process


async def work(engine: str, url: str, folder: Path, number: int) -> None:
    """Run what the engine brings: a build tells that it began, holds its lock as long as `build-N` says, and ends."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.connect(str(folder / "told"))

    async def run(build: int) -> None:
        if not (order := folder / f"build-{build}").exists():
            told.send(f"{build} {time.time()}".encode())
            return
        with order.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                (folder / f"twice-{build}").touch()
                return
            if not (folder / f"end-{build}").exists():
                await asyncio.sleep(float(lock.read()))  # a build that is begun again begins from its start
                (folder / f"end-{build}").touch()

    made = make(engine, url, folder)
    await made.open(run, number)
    (folder / f"ready-{number}").touch()
    await asyncio.Event().wait()


class Workers:
    """Processes that are begun again when they have ended."""

    def __init__(self, engine: str, url: str, folder: Path, count: int) -> None:
        self._command = [sys.executable, "-m", "benchmarks.dispatch", "--engine", engine, "--work"]
        self._end, self._folder = [url, str(folder)], folder
        self.all = [self._begin(number) for number in range(count)]

    def _begin(self, number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._command, str(number), *self._end])

    def kill_one(self) -> bool:
        """Kill a worker that is ready, and begin it again."""
        number = random.randrange(len(self.all))
        if not (ready := self._folder / f"ready-{number}").exists():
            return False
        ready.unlink()
        self.all[number].send_signal(signal.SIGKILL)
        self.all[number].wait()
        self.all[number] = self._begin(number)
        return True

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            for number in range(len(self.all)):
                while not (self._folder / f"ready-{number}").exists():  # noqa: ASYNC110 - another process makes it
                    await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)  # DBOS has a queue's thread up to a second later

    def close(self) -> None:
        for worker in self.all:
            worker.kill()
            worker.wait()


# --- the leader's side


class Told:
    """What workers tell: a build's number and the moment it began."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "told"))
        self._socket.setblocking(False)

    async def next(self) -> tuple[int, float]:
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, 100), 60)
        build, moment = data.decode().split()
        return int(build), float(moment)


async def hand_overs(engine: Engine, told: Told) -> str:
    took: list[float] = []
    for build in range(1, 51):
        await asyncio.sleep(0.07)
        began = time.time()
        await engine.hand_over([build])
        took.append(1000 * ((await told.next())[1] - began))
    took.sort()
    return f"{median(took):.1f} / {took[47]:.1f} / {took[-1]:.1f} ms"


async def idle(workers: Sequence[subprocess.Popen[bytes]]) -> str:
    seen = psutil.Process(workers[0].pid)
    before = sum(seen.cpu_times()[:2])
    await asyncio.sleep(6)
    share = (sum(seen.cpu_times()[:2]) - before) / 6
    return f"{share:.1%} of a core, {seen.memory_info().rss / 1e6:.0f} MB, {seen.num_threads()} threads"


async def rate(engine: Engine, told: Told, count: int) -> str:
    async def feed() -> None:
        for first in range(0, count, BATCH):
            await engine.hand_over(range(1000 + first, 1000 + min(first + BATCH, count)))

    began = time.perf_counter()
    feeding = asyncio.create_task(feed())
    for _ in range(count):
        await told.next()
    await feeding
    return f"{count / (time.perf_counter() - began):.0f} builds/s"


async def kills(engine: Engine, workers: Workers, folder: Path, wanted: int) -> str:
    """Builds come as long as kills do; then all must end."""
    done, most, newest, began = 0, 0, 100_000, time.monotonic()
    open_builds: set[int] = set()
    due = began
    while done < wanted or open_builds:
        if time.monotonic() - began > 30 + 5 * wanted:
            break
        open_builds = {build for build in open_builds if not (folder / f"end-{build}").exists()}
        while done < wanted and len(open_builds) < LIMIT:
            newest += 1
            (folder / f"build-{newest}").write_text(f"{random.uniform(0.1, 4):.2f}")
            open_builds.add(newest)
        known = await engine.known()
        if missing := sorted(open_builds - known):
            await engine.hand_over(missing)
        most = max(most, len(open_builds))
        if done < wanted and time.monotonic() >= due and workers.kill_one():
            done += 1
            due = time.monotonic() + random.uniform(0, 2)
        await asyncio.sleep(0.1)
    twice = len(list(folder.glob("twice-*")))
    what = f"{newest - 100_000} builds, {len(open_builds)} left open, {twice} run by two at a time, most open {most}"
    return f"{done} kills in {time.monotonic() - began:.0f} s: {what}"


async def measure(name: str, url: str, folder: Path, options: argparse.Namespace) -> dict[str, str]:
    told, engine = Told(folder), make(name, url, folder)
    await engine.open(None, -1)
    workers = Workers(name, url, folder, options.workers)
    try:
        await workers.ready()
        return {
            "hand-over, median / p95 / most": await hand_overs(engine, told),
            "idle worker": await idle(workers.all),
            f"nothing to do, {options.workers} workers": await rate(engine, told, options.builds),
            "killed at random": await kills(engine, workers, folder, options.kills),
        }
    finally:
        workers.close()


@contextlib.contextmanager
def database() -> Generator[str]:
    if url := os.environ.get("BUILD_ORCHESTRATOR_TEST_POSTGRES"):
        yield url.replace("+psycopg", "")
        return
    with postgres.running() as server, server.database() as name:
        yield server.url(name).replace("+psycopg", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    for name, default in (("kills", 40), ("workers", 2), ("builds", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for noisy in ("procrastinate", "psycopg.pool"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    if options.work:
        number, url, folder = options.work
        asyncio.run(work(options.engine, url, Path(folder), int(number)))
        return
    wanted = ENGINES if options.engine == "both" else (options.engine,)
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed")
            continue
        with database() as url, tempfile.TemporaryDirectory() as folder:
            for what, figure in asyncio.run(measure(name, url, Path(folder), options)).items():
                print(f"{name}: {what}: {figure}", flush=True)
        print(f"{name}: load of the machine now: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
