"""The dispatch where several workers share a store: one of them leads and says whose turn it is, an engine who does it.

The leader holds the limits and the turns over all that is open, as `Local` does for its home, and hands over what goes
next; see handover. Whoever takes a build makes it its own (store.claims), so that a worker which was frozen or cut off
cannot write for it any more.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from mcp_server import __version__, places
from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.dispatch.handover import ANY, Handover
from mcp_server.engine.services import Services
from mcp_server.errors import StoreError
from mcp_server.store import builds, claims, queue, workers
from mcp_server.store.builds import OpenBuild
from mcp_server.store.claims import Claim
from mcp_server.turns import Limits, Turns, Waiting

log = logging.getLogger(__name__)

LOOK_S = 1.0  # the leader looks so often where nothing wakes it
RECKON_S = 15.0  # what it believes to be handed over is compared with what is so often
CLEAN_S = 3600.0
URGENT = 1_000_000  # what ran before, or is to be cancelled, goes before all that waits
MOST_BESIDE = 8  # transfers at a time
AGAIN_S = 1.0
BEATS = 4  # in the time after which a worker counts as lost


@dataclass(frozen=True, slots=True)
class _Run:
    run: BuildRun
    task: asyncio.Task[None]
    project: str


class Team:
    """One worker of several. `changed` is called when something came of the dispatch itself."""

    def __init__(self, services: Services, machine: str, name: str, changed: Callable[[], None]) -> None:
        self.id = uuid4().hex
        self._services, self._machine, self._changed = services, machine, changed
        self._facts: dict[str, Any] = {
            "id": self.id,
            "machine": machine,
            "name": name or socket.gethostname(),
            "home": str(services.config.home),
            "version": __version__,
        }
        self._places = places.places_of_worker(str(services.config.home), machine)
        at_once = services.config.queue.per_worker
        url = services.store.engine.url
        self._lost_s = services.config.queue.lost_after
        self._engine = Handover(url, self._run_build, [ANY, *self._places], at_once, self._lost_s, services.clock)
        self._runs: dict[int, _Run] = {}
        self._leads = False
        self._leader = _Leader(services, self._engine)
        self._look = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def start(self, pid: int) -> None:
        """Be there for the others, and take what is handed over. StoreError: the database is away."""
        self._facts["pid"] = pid
        dead = await self._services.store.write(self._predecessors)
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

    def _predecessors(self, c: sa.Connection) -> Sequence[int]:
        """What the engine calls earlier workers of this very home. They are dead: its lock is ours."""
        dead = [row for row in workers.list_workers(c) if row.machine == self._machine and row.id != self.id]
        for row in dead:
            workers.leave(c, row.id)
        return [row.number for row in dead if row.number is not None]

    async def _open(self, numbers: Collection[int]) -> Sequence[OpenBuild]:
        return await self._services.store.read(lambda c: builds.open_among(c, numbers)) if numbers else ()

    async def _live(self) -> None:
        while True:
            await self._services.clock.sleep(self._lost_s / BEATS)
            try:
                await self._beat()
                await self._engine.beat()
            except StoreError as error:
                log.warning("%s", error)

    async def _beat(self) -> None:
        """Say that this worker is there, learn whether it leads, and let go of what it has no more."""
        state = "leaving" if self._closed else "serving"
        mine = list(self._runs)

        def statements(c: sa.Connection) -> tuple[bool, set[int], Collection[tuple[str, str, str]]]:
            workers.beat(c, {**self._facts, "state": state, "number": self._engine.number}, self._lost_s)
            return workers.lead(c, self.id), workers.lost(c, self.id, mine), workers.alive(c)

        leads, lost, alive = await self._services.store.write(statements)
        for build in lost & self._runs.keys():
            log.warning("build %d was taken over by another worker", build)
            self._runs[build].task.cancel()
        self._leader.know(alive)
        if leads != self._leads:
            log.info("this worker %s", "leads now" if leads else "leads no more")
            self._leader.forget()
        self._leads = self._services.leads = leads
        self._look.set()

    async def _lead(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await self._services.clock.within(LOOK_S, self._look.wait())
            self._look.clear()
            if not self._leads:
                continue
            try:
                await self._leader.look()
            except StoreError as error:
                log.warning("%s", error)
                self._leader.forget()
                await self._services.clock.sleep(AGAIN_S)

    # -- a build of ours ---------------------------------------------------------------------------------------------

    async def _run_build(self, build: int) -> None:
        """What the engine calls. A build goes on where the engine lets go of it, as long as it is ours."""
        known = self._runs.get(build)
        if known is None:
            taken = await self._take(build)
            if taken is None or self._closed:
                return
            known = self._begin(*taken)
        await asyncio.wait({known.task})

    def _begin(self, claim: Claim, row: OpenBuild) -> _Run:
        run = BuildRun(self._services, row.id)
        if row.cancel_requested:
            run.stop.set()
        leases = self._services.leases
        leases.fair.belongs(row.id, row.project_id)
        leases.comes_back(row.id)
        if row.running:
            self._services.begun.add(row.id)
        known = self._runs[row.id] = _Run(run, asyncio.create_task(_run(run, claim)), row.project_id)
        known.task.add_done_callback(lambda _: self._over(row.id))
        return known

    def _over(self, build: int) -> None:
        self._runs.pop(build, None)
        self._services.begun.discard(build)
        self._services.leases.fair.gone(build)
        self._changed()

    async def _take(self, build: int) -> tuple[Claim, OpenBuild] | None:
        """Make a build this worker's; None: it is over."""

        def statements(c: sa.Connection) -> tuple[Claim, OpenBuild] | None:
            claim = claims.take(c, build, self.id, self._machine)
            return None if claim is None else (claim, builds.open_among(c, [build])[0])

        while True:
            try:
                return await self._services.store.write(statements)
            except StoreError as error:
                log.warning("build %d: %s", build, error)
                await self._services.clock.sleep(AGAIN_S)


async def _run(run: BuildRun, claim: Claim) -> None:
    claims.work_for(claim)
    await run.run()


def queue_of(row: OpenBuild) -> str:
    """The engine's queue of a build: what has used a machine's own folders goes on there."""
    return f"{places.MACHINE}{row.machine}" if row.machine and row.place else row.place or ANY


class _Leader:
    """Whose turn it is, over all that is open. Begins anew with each leader: the tables say what is handed over."""

    def __init__(self, services: Services, engine: Handover) -> None:
        self._services, self._engine = services, engine
        self._there: frozenset[str] = frozenset()
        self.forget()

    def forget(self) -> None:
        """Know nothing any more: somebody else led meanwhile, or the database was away."""
        self._turns: Turns | None = None
        self._transfers = Turns(Limits(builds=MOST_BESIDE))
        self._handed: dict[int, tuple[OpenBuild, Turns | None]] = {}
        self._rows: dict[int, OpenBuild] = {}  # of those that wait for their turn
        self._parked: dict[int, OpenBuild] = {}  # where they can be done nobody is
        self._new: list[OpenBuild] = []
        self._reckoned = self._cleaned = float("-inf")

    @property
    def held_back(self) -> bool:
        return bool((self._turns is not None and len(self._turns)) or len(self._transfers))

    def know(self, alive: Collection[tuple[str, str, str]]) -> None:
        """Which workers are there: id, machine, home."""
        there = {place for _, machine, home in alive for place in places.places_of_worker(home, machine)}
        if there - self._there:
            self._new += self._parked.values()
            self._parked.clear()
        if self._there - {ANY, *there}:
            self._reckoned = float("-inf")
        self._there = frozenset({ANY, *there})

    def note(self, rows: Sequence[OpenBuild]) -> None:
        """Builds that are open; to be looked at once this worker leads."""
        if self._turns is not None:
            self._new += rows

    async def look(self) -> None:
        """Hand over what may go. Repeating it changes nothing."""
        now = self._services.clock.monotonic()
        if self._turns is None:
            await self._begin()
        assert self._turns is not None
        if now - self._reckoned >= RECKON_S:
            await self._reckon()
            self._reckoned = now
        if now - self._cleaned >= CLEAN_S:
            await self._engine.clean()
            await self._services.store.write(workers.forget)
            self._cleaned = now
        await self._note_ends()
        reaped = await self._open(await self._engine.reap())
        await self._hand_over([*await self._placed(reaped), *await self._sorted(), *self._next()])

    async def _begin(self) -> None:
        queue_ = self._services.config.queue
        self._turns = Turns(
            Limits(queue_.builds, queue_.per_project), served=await self._services.store.read(queue.served)
        )
        known = await self._engine.known()
        for row in await self._services.store.read(builds.open_builds):
            if row.id in known:
                self._count(row)
            else:
                self._new.append(row)

    async def _reckon(self) -> None:
        """What is believed to be handed over and is not goes once more; it may just have ended.

        So does what waits in the queue of a machine that is away.
        """
        known = await self._engine.known()
        lost = [build for build in self._handed if build not in known]
        lost += await self._engine.withdraw(self._there, known.values())
        await self._hand_over(await self._placed(await self._open(lost)))

    async def _open(self, numbers: Collection[int]) -> Sequence[OpenBuild]:
        return await self._services.store.read(lambda c: builds.open_among(c, numbers)) if numbers else ()

    async def _note_ends(self) -> None:
        if not self._handed:
            return
        handed = list(self._handed)
        for build in await self._services.store.read(lambda c: workers.over(c, handed)):
            row, line = self._handed.pop(build)
            if line is not None:
                line.end(row.project_id)

    async def _sorted(self) -> Sequence[OpenBuild]:
        """Of what is new: what goes at once. The rest waits for its turn, or for somebody who can do it."""
        assert self._turns is not None
        rows, self._new = {row.id: row for row in self._new if row.id not in self._handed}, []
        at_once: list[OpenBuild] = []
        for row in await self._placed(list(rows.values())):
            line = self._line(row)
            if row.cancel_requested:
                line.remove(row.id)
                self._rows.pop(row.id, None)
                self._handed[row.id] = row, None
                at_once.append(row)
            elif row.running:
                self._count(row)
                at_once.append(row)
            else:
                line.add(Waiting(row.id, row.project_id, row.priority))
                self._rows[row.id] = row
        return at_once

    def _next(self) -> Sequence[OpenBuild]:
        assert self._turns is not None
        queue_ = self._services.config.queue
        self._turns.limit(Limits(queue_.builds, queue_.per_project))
        found: list[OpenBuild] = []
        for line in (self._transfers, self._turns):
            while (turn := line.next()) is not None:
                row = self._rows.pop(turn.id)
                self._handed[row.id] = row, line
                found.append(row)
        return found

    async def _hand_over(self, rows: Sequence[OpenBuild]) -> None:
        if rows:
            urgent = {row.id for row in rows if row.running or row.cancel_requested}
            await self._engine.hand_over(
                [(row.id, queue_of(row), URGENT if row.id in urgent else -row.priority) for row in rows]
            )

    def _count(self, row: OpenBuild) -> None:
        """It is handed over, and counted whatever the limits say: its jobs are there."""
        line = self._line(row)
        line.begin(row.project_id)
        self._handed[row.id] = row, line

    def _line(self, row: OpenBuild) -> Turns:
        assert self._turns is not None
        return self._transfers if row.priority < 0 else self._turns

    async def _placed(self, rows: Sequence[OpenBuild]) -> Sequence[OpenBuild]:
        """Those that somebody can do now. One whose machine is away, and that has begun nothing there, may go on."""
        away = [row for row in rows if queue_of(row) not in self._there]
        bound = [row.id for row in away if row.machine or row.cancel_requested]
        if bound:
            freed = await self._services.store.write(lambda c: claims.unbind(c, bound))
            rows = [row for row in rows if row.id not in freed]
            rows += await self._services.store.read(lambda c: builds.open_among(c, freed))
        found: list[OpenBuild] = []
        for row in rows:
            if queue_of(row) in self._there:
                self._parked.pop(row.id, None)
                found.append(row)
            else:
                self._parked[row.id] = row
                if (handed := self._handed.pop(row.id, None)) is not None and handed[1] is not None:
                    handed[1].end(row.project_id)
        return found
