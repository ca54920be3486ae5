"""The worker process: one a home, started by fronts, alive as long as there is work and a while longer.

Where machines share the store it is one of several, and one that was started by hand stays.
"""

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from mcp_server import __version__, process_log
from mcp_server.clock import Clock, SystemClock
from mcp_server.config import Config, load_config
from mcp_server.engine.dispatch.base import Dispatch
from mcp_server.engine.dispatch.local import Local
from mcp_server.engine.housekeeping import keep_house
from mcp_server.engine.installed import Installed
from mcp_server.engine.services import Services
from mcp_server.engine.signals import WAKE, Signal, announce, make_wake, open_fifo, write_signal
from mcp_server.engine.start import HANDOVER_S, LEAVE, LOCK, ON_DEMAND, lock_holder, lock_text, newer, poke
from mcp_server.engine.transfer import clear_staging
from mcp_server.errors import OrchestratorError, StoreError
from mcp_server.heaps import keep_giving_back, steady_heaps
from mcp_server.home import machine_id
from mcp_server.hosts.registry import Hosts
from mcp_server.loading import calm_collector
from mcp_server.log_masking import Masking
from mcp_server.store import builds, leases, queue
from mcp_server.store.builds import OpenBuild
from mcp_server.store.callbacks import ADDED, next_time
from mcp_server.store.database import Store

log = logging.getLogger(__name__)

SCAN_S = 1  # finds what no poke told of: a front may die between its commit and its poke
SHARED_SCAN_S = 5  # where each commit tells of itself, however its front ends
LOOK_S = 60  # all open rows are read so often; at the other wakes only what is new
IDLE_S = 900  # then the worker leaves
GATHER_S = 0.05  # others' commits, each of which wakes us: between two looks at the least


class Worker:
    """Serves one home until it is idle for long, asked to leave, replaced by a newer version, or installed anew.

    One that a front started, `on_demand`, gives way to one that was started by hand or as a service.
    """

    def __init__(
        self, config: Config, store: Store, clock: Clock, installed: Installed | None = None, *, on_demand: bool = True
    ) -> None:
        self.config, self.store, self.clock, self._installed = config, store, clock, installed
        self._on_demand, self._stays = on_demand, store.is_shared and not on_demand
        self.replaced = False
        self.told_to_leave = False
        self.leaving = False

    async def serve(self) -> None:
        """Run builds; returns when it is time to leave. Jobs that run are left running."""
        machine = await asyncio.to_thread(machine_id, self.config.home) if self.store.is_shared else None
        services = Services(self.config, self.store, self.clock, Hosts(self.config, os.environ), machine=machine)
        wake = Signal(open_fifo(make_wake(self.config.home)))
        dispatch: Dispatch | None = None
        self._leave_on_signals(wake)
        house: list[asyncio.Task[None]] = []
        try:
            now = self.clock.now()
            await services.store.write(lambda c: leases.release_ended(c, now))
            house = [asyncio.create_task(keep_house(services)), asyncio.create_task(services.callbacks.run())]
            house.append(asyncio.create_task(services.uploads.run()))
            house.append(asyncio.create_task(services.traces.run()))
            house.append(asyncio.create_task(keep_giving_back(self.clock)))
            if machine is None:
                dispatch = Local(services, await services.store.read(queue.served))
                await self._serve(dispatch, wake, services)
            else:
                dispatch = await self._team(services, machine, wake)
                async with self.store.commits.watch(lambda words: self._hear(words, services, wake)):
                    await self._serve(dispatch, wake, services)
        finally:
            for task in house:
                task.cancel()
            if house:
                await asyncio.wait(house)
            if dispatch is not None:
                await dispatch.aclose()
            await services.aclose()
            wake.close()

    async def _team(self, services: Services, machine: str, wake: Signal) -> Dispatch:
        from mcp_server.engine.dispatch.team import Team  # noqa: PLC0415 - of an extra

        name = os.environ.get("BUILD_ORCHESTRATOR_WORKER_NAME", "")
        team = Team(services, machine, name, wake.set, lambda: self._leave(wake))
        await team.start(os.getpid())
        return team

    def _hear(self, words: Collection[str] | None, services: Services, wake: Signal) -> None:
        services.leases.hear(words)
        if words is None or ADDED in words:
            services.callbacks.wake()
        wake.set()

    async def _serve(self, dispatch: Dispatch, wake: Signal, services: Services) -> None:
        idle_since = looked = refreshed = self.clock.monotonic()
        newest: int | None = None  # of the builds that were seen
        while not self.leaving:
            if not self._stays and self.clock.monotonic() - idle_since >= IDLE_S:
                if not await services.callbacks.waiting():
                    break
                idle_since = self.clock.monotonic()  # for a day at most: then they are given up
            if self.clock.monotonic() - looked >= LOOK_S:
                newest, looked = None, self.clock.monotonic()
            if dispatch.held_back and self.clock.monotonic() - refreshed >= SCAN_S:
                await services.refresh()  # its limits may be others now
                refreshed = self.clock.monotonic()
            read = self.clock.monotonic()
            rows = await self._rows(newest)
            if rows is not None:
                newest = max([newest or 0, *(row.id for row in rows)])
                dispatch.dispatch(rows)
            if dispatch.busy:
                idle_since = self.clock.monotonic()
            told = self.store.is_shared and self.store.commits.hears and not dispatch.held_back
            with contextlib.suppress(TimeoutError):
                await self.clock.within(SHARED_SCAN_S if told else SCAN_S, wake.wait())
            if self.store.is_shared:
                await self.clock.sleep(max(0.0, read + GATHER_S - self.clock.monotonic()))
            lines = wake.take_lines()
            if any(newer(line, __version__) for line in lines):
                log.info("a newer version asks: leaving, jobs run on")
                self.replaced = self.leaving = True
            if self._on_demand and LEAVE in lines:
                log.info("a worker that was started as a service asks: leaving, jobs run on")
                self.replaced = self.leaving = True
            if self._installed and await asyncio.to_thread(self._installed.replaced, self.clock.monotonic()):
                log.info("its program was installed anew: leaving, jobs run on")
                self.leaving = True

    async def _rows(self, newest: int | None) -> Sequence[OpenBuild] | None:
        """Open builds: all, or what is to be known by who has seen those up to `newest`. None: the store is away."""
        try:
            if newest is None:
                return await self.store.read(builds.open_builds)
            return await self.store.read(lambda c: queue.new_builds(c, newest))
        except StoreError as error:
            log.warning("%s", error)
            return None

    def _leave_on_signals(self, wake: Signal) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._leave, wake)

    def _leave(self, wake: Signal) -> None:
        self.told_to_leave = self.leaving = True
        wake.set()


def take_lock(home: Path, handed_down: int | None, *, shared: bool = False) -> int | None:
    """A descriptor that holds this home's worker lock, or None where another worker does."""
    on_demand = handed_down is not None
    lock = handed_down if handed_down is not None else os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, False)  # a job that had it would hold the home
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.pwrite(lock, lock_text(os.getpid(), shared=shared, on_demand=on_demand), 0)
    return lock


def take_over(home: Path, *, shared: bool = False) -> int | None:
    """The lock of a worker that was started on demand, which is asked to leave; None: another one has it. Blocks."""
    deadline = time.monotonic() + HANDOVER_S
    while (holder := lock_holder(home)) in (None, "starting") or (holder or "").endswith(ON_DEMAND):
        if (lock := take_lock(home, None, shared=shared)) is not None or time.monotonic() > deadline:
            return lock
        write_signal(home / WAKE, f"{LEAVE}\n".encode())
        time.sleep(0.02)  # a lock that another process lets go of gives no other sign
    return None


def run(handed_down: int | None = None) -> int:
    """The whole life of a worker process; its exit code."""
    config, installed = load_config(), Installed()
    process_log.configure_worker(
        config.logs_dir / "worker.log",
        config.log_level,
        json_lines=config.log_format == "json",
        mask=Masking(config, os.environ).text,
    )
    config.make_home()
    clock = SystemClock()
    store = Store(config.database_url, config.home, lambda: announce(config.home), clock.agree)
    lock = take_lock(config.home, handed_down, shared=store.is_shared)
    if lock is None and handed_down is None:
        lock = take_over(config.home, shared=store.is_shared)
    if lock is None:
        sys.stderr.write(f"another worker runs {config.home} already\n")
        return 2
    log.info(
        "version %s serves %s, on %s database", __version__, config.home, "a shared" if store.is_shared else "its own"
    )
    try:
        store.migrate()
        clear_staging(config.artifacts_dir)
        worker = Worker(config, store, clock, installed, on_demand=handed_down is not None)
        steady_heaps()
        calm_collector()
        asyncio.run(worker.serve())
        log.info("left; its jobs run on")
    finally:
        os.close(lock)
    # A row that came while this worker was leaving saw the lock held; nobody else would look at it.
    if not worker.replaced and not worker.told_to_leave and (store.look(builds.open_builds) or store.look(next_time)):
        poke(config.home, store)
    store.engine.dispose()
    return 0


def main() -> int:
    """`python -m mcp_server.engine.worker [--lock-fd N]`."""
    parser = argparse.ArgumentParser(prog="build-orchestrator worker")
    parser.add_argument("--lock-fd", type=int)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it has eight lines to say of each channel
    logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what it says as an error we say ourselves
    try:
        return run(options.lock_fd)
    except OrchestratorError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
