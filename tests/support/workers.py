"""A home's worker: run inside this process, or ended, with everything it left."""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine import start
from mcp_server.engine.signals import announce
from mcp_server.engine.worker import Worker, take_lock
from mcp_server.model import Plan
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds
from mcp_server.store.database import Store
from tests.support.faults import processes_with, worker_pid


@contextlib.asynccontextmanager
async def worker_inside(home: Path) -> AsyncGenerator[None]:
    """Whatever would start this home's worker as a process starts it as a task here: the same worker, 0.5 s cheaper.

    It holds the home's lock under our own pid, so it has to be gone before anybody ends the home's worker.
    """
    loop = asyncio.get_running_loop()
    running: list[tuple[asyncio.Task[None], Store, int]] = []

    def begin(handed_down: int) -> None:
        lock = take_lock(home, handed_down, shared=not load_config().database_url.startswith("sqlite"))
        assert lock is not None
        config = load_config()
        store = Store(config.database_url, home, lambda: announce(home))
        running.append((loop.create_task(Worker(config, store, SystemClock()).serve()), store, lock))

    process = start._start_worker

    def start_inside(at: Path, lock: int, *, shared: bool) -> None:
        if at == home:
            loop.call_soon_threadsafe(begin, os.dup(lock))
        else:
            process(at, lock, shared=shared)

    start._start_worker = start_inside
    try:
        yield
    finally:
        start._start_worker = process
        for task, store, lock in running:
            task.cancel()
            await asyncio.wait({task})
            await store.aclose()
            os.close(lock)
            if not task.cancelled():
                task.result()


async def something_open(orchestrator: Orchestrator) -> None:
    """A build that nobody was told of: where machines share the store, a worker starts only for one."""
    store, now = await orchestrator.store(), orchestrator.clock.now()

    def statements(c: sa.Connection) -> None:
        project = builds.ensure_project(c, "/nowhere", "nowhere", now)
        builds.insert_build(c, project, Plan(stages=()), name="n", args_key="", now=now)

    await store.write(statements)


def end_worker(home: Path, number: int = signal.SIGTERM) -> None:
    """Signal this home's worker and return once it is gone; nothing happens where there is none."""
    if not home.is_dir() or (pid := worker_pid(home)) is None:
        return
    assert _left(pid, number), f"worker {pid} did not leave"
    for (
        child,
        _,
    ) in start._started:  # ours, too, where we are the front: it looks after them when it next pokes, or never
        child.poll()


def end_everything(home: Path) -> None:
    """End the worker, then every job that a test left, and its supervisor; a test that cares asserts before."""
    end_worker(home)
    for pid in processes_with(f"BO_JOB={home}"):
        _left(pid, signal.SIGKILL)
    for pid in processes_with(str(home / "jobs")):  # a supervisor writes its job's end and leaves
        _left(pid)


def all_have_left(text: str) -> None:
    """Return once no process carries this text in its environment or command line."""
    left = [pid for pid in processes_with(text) if not _left(pid)]
    assert not left, f"processes with {text} are left: {left}"


def _left(pid: int, number: int = 0) -> bool:
    """Whether a process ended within ten seconds of this signal."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return bool(select.select([fd], [], [], 10)[0])
    finally:
        os.close(fd)
