"""The dispatch where several workers share a store: one of them leads and says whose turn it is, an engine who does it.

The leader holds the limits and the turns over all that is open, as `Local` does for its home, and hands over what goes
next; see handover. Whoever takes a build makes it its own (store.claims), so that a worker which was frozen or cut off
cannot write for it any more.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from mcp_server import __version__, places
from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.dispatch.handover import ANY, Handover
from mcp_server.engine.dispatch.leading import URGENT, Leader, Unsure, queue_of
from mcp_server.engine.dispatch.peers import MOST_BEAT_S, Configs, bury
from mcp_server.engine.services import Services
from mcp_server.engine.start import lock_id
from mcp_server.errors import StoreError
from mcp_server.store import builds, claims, workers
from mcp_server.store.builds import OpenBuild
from mcp_server.store.claims import Claim, Hold
from mcp_server.store.schema import Newer
from mcp_server.store.workers import There, Twin

log = logging.getLogger(__name__)

LOOK_S = 2.0  # the leader looks so often where nothing wakes it
AGAIN_S = 1.0
FRESH_S = 1.0  # what was read longer ago is read again: this worker may have been frozen, and the build another's
BEATS = 4  # in the time after which a worker counts as lost


@dataclass(frozen=True, slots=True)
class _Run:
    run: BuildRun
    task: asyncio.Task[None]
    project: str


class Team:
    """One worker of several. `changed` is called when something came of the dispatch itself, `leave` when it must end.

    The lock of its home is held.
    """

    def __init__(
        self, services: Services, machine: str, name: str, changed: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        self.id = uuid4().hex
        self._services, self._machine, self._changed, self._leave = services, machine, changed, leave
        self._facts: dict[str, Any] = {
            "id": self.id,
            "machine": machine,
            "name": name or socket.gethostname(),
            "home": str(services.config.home),
            "version": __version__,
        }
        self._configs = Configs(services)
        self._places = places.places_of_worker(str(services.config.home), machine)
        at_once = services.config.queue.per_worker
        url = services.store.engine.url
        self._lost_s = services.config.queue.lost_after
        self._engine = Handover(url, self._run_build, [ANY, *self._places], at_once, self._lost_s, services.clock)
        self._runs: dict[int, _Run] = {}
        self._leads = self._anew = False
        self._sure_until = float("-inf")  # by our own clock: as long, others think that we are there
        self._leader = Leader(services, self._engine, lambda: self._leads and self._is_sure)
        self._look = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def start(self, pid: int) -> None:
        """Be there for the others, and take what is handed over. StoreError: the database is away, or Twin."""
        home = self._services.config.home
        lock = await asyncio.to_thread(lock_id, home)
        self._facts |= {"pid": pid, "lock": lock}
        dead = await bury(self._services.store, self._services.clock, self._machine, str(home), lock)
        await self._engine.start()
        for number in dead:
            rows = await self._open(await self._engine.bury(number))
            await self._engine.hand_over([(row.id, queue_of(row), URGENT) for row in rows])
        await self._beat()
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._lead())]

    def dispatch(self, open_builds: Sequence[OpenBuild]) -> None:
        for row in open_builds:
            if row.cancel_requested and row.id in self._runs:
                self._runs[row.id].run.stop.set()
        self._leader.note(open_builds)
        self._look.set()

    @property
    def busy(self) -> bool:
        return bool(self._runs) or (self._leads and self.held_back)

    @property
    def held_back(self) -> bool:
        return self._leads and self._leader.held_back

    async def aclose(self) -> None:
        """Let go of all builds, and have others take them at once; their jobs run on."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        mine = await self._engine.stop()
        await self._stop_all()
        with contextlib.suppress(StoreError):
            rows = await self._open(mine)
            await self._engine.hand_over([(row.id, queue_of(row), URGENT) for row in rows])
            await self._services.store.write(lambda c: workers.leave(c, self.id))
        await self._engine.aclose()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop_all(self) -> None:
        running = [one.task for one in self._runs.values()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    # -- being there -------------------------------------------------------------------------------------------------

    async def _open(self, numbers: Collection[int]) -> Sequence[OpenBuild]:
        return await self._services.store.read(lambda c: builds.open_among(c, numbers)) if numbers else ()

    @property
    def _is_sure(self) -> bool:
        """Whether nobody can have taken us for dead. One that was frozen knows by this alone that it was."""
        return self._services.clock.monotonic() < self._sure_until

    async def _live(self) -> None:
        while True:
            await self._services.clock.sleep(min(self._lost_s / BEATS, MOST_BEAT_S))
            try:
                await self._beat()
                await self._engine.beat()
            except (Twin, Newer) as error:
                log.error("%s", error)
                self._leave()
            except StoreError as error:
                log.warning("%s", error)
            except Exception:  # a fault of ours costs this beat, not every later one
                log.exception("the beat of this worker")

    async def _beat(self) -> None:
        """Say that this worker is there, learn whether it leads, and let go of what it has no more."""
        state = "leaving" if self._closed else "serving"
        facts = {**self._facts, "state": state, "config": self._configs.mine()}
        mine = list(self._runs)

        def statements(c: sa.Connection) -> tuple[bool, set[int], Sequence[There]]:
            workers.beat(c, {**facts, "number": self._engine.number}, self._lost_s)
            return workers.lead(c, self.id), workers.lost(c, self.id, mine), workers.alive(c)

        began = self._services.clock.monotonic()
        leads, lost, alive = await self._services.store.write(statements)
        self._sure_until = began + self._lost_s
        for build in lost & self._runs.keys():
            log.warning("build %d was taken over by another worker", build)
            self._runs[build].task.cancel()
        self._leader.know(alive)
        if leads != self._leads:
            log.info("this worker %s", "leads now" if leads else "leads no more")
            self._anew = True
        self._leads = self._services.leads = leads
        if leads:
            self._configs.compare(alive)
        if self._anew:
            self._services.callbacks.wake()
        self._look.set()

    async def _lead(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await self._services.clock.within(LOOK_S, self._look.wait())
            self._look.clear()
            if self._anew or not self._leads:
                self._leader.forget()  # only here: not while it looks
                self._anew = False
            if not self._leads:
                continue
            try:
                held_back = self.held_back
                await self._leader.look()
                if self.held_back and not held_back:
                    self._changed()  # from now on it waits for less than a commit
                continue
            except Unsure:
                log.warning("this worker may lead no more: it was frozen, or the database did not answer")
            except StoreError as error:
                log.warning("%s", error)
            except Exception:  # a fault of ours must not leave all builds of the team waiting
                log.exception("whose turn it is")
            self._leader.forget()
            await self._services.clock.sleep(AGAIN_S)

    # -- a build of ours ---------------------------------------------------------------------------------------------

    async def _run_build(self, build: int) -> None:
        """What the engine calls. A build goes on where the engine lets go of it, as long as it is ours."""
        known = self._runs.get(build)
        if known is None:
            known = await self._take_and_begin(build)
        if known is not None:
            await asyncio.wait({known.task})

    async def _take_and_begin(self, build: int) -> _Run | None:
        """None: it is over, or this worker leaves."""
        began = self._services.clock.monotonic()
        hold = await self._take(build)
        if hold is None or self._closed:
            return None
        fresh = self._services.clock.monotonic() - began < FRESH_S
        return self._begin(hold, hold.row if fresh and not hold.left else None)

    def _begin(self, hold: Hold, known: Mapping[str, Any] | None) -> _Run:
        """Run it; `known` is its row, where that need not be read again."""
        row = hold.open
        run = BuildRun(self._services, row.id, known)
        if row.cancel_requested:
            run.stop.set()
        leases = self._services.leases
        leases.fair.belongs(row.id, row.project_id)
        if hold.left:
            leases.comes_back(row.id)
        if row.running:
            self._services.begun.add(row.id)
        begun = self._runs[row.id] = _Run(run, asyncio.create_task(_run(run, hold.claim)), row.project_id)
        begun.task.add_done_callback(lambda _: self._over(row.id))
        return begun

    def _over(self, build: int) -> None:
        self._runs.pop(build, None)
        self._services.begun.discard(build)
        self._services.leases.fair.gone(build)
        self._changed()

    async def _take(self, build: int) -> Hold | None:
        """Make a build this worker's; None: it is over."""

        def statements(c: sa.Connection) -> Hold | None:
            return claims.take(c, build, self.id, self._machine)

        while True:
            try:
                return await self._services.store.write(statements)
            except StoreError as error:
                log.warning("build %d: %s", build, error)
                await self._services.clock.sleep(AGAIN_S)


async def _run(run: BuildRun, claim: Claim) -> None:
    claims.work_for(claim)
    await run.run()
