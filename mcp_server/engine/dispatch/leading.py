"""The one worker that leads: whose turn it is, over all that is open."""

from collections.abc import Callable, Collection, Sequence

from mcp_server import places
from mcp_server.engine.dispatch.handover import ANY, Handover
from mcp_server.engine.services import Services
from mcp_server.store import builds, claims, queue, workers
from mcp_server.store.builds import OpenBuild
from mcp_server.store.workers import There
from mcp_server.turns import Limits, Turns, Waiting

RECKON_S = 15.0  # what it believes to be handed over is compared with what is so often
REAP_S = 2.0
CLEAN_S = 3600.0
URGENT = 1_000_000  # what ran before, or is to be cancelled, goes before all that waits
MOST_BESIDE = 8  # transfers at a time


def queue_of(row: OpenBuild) -> str:
    """The engine's queue of a build: what has used a machine's own folders goes on there."""
    return f"{places.MACHINE}{row.machine}" if row.machine and row.place else row.place or ANY


class Unsure(Exception):
    """Another may lead by now, which does not know what this one would hand over."""


class Leader:
    """Whose turn it is, over all that is open. Begins anew with each leader: the tables say what is handed over.

    `sure`: whether nobody else can lead by now.
    """

    def __init__(self, services: Services, engine: Handover, sure: Callable[[], bool]) -> None:
        self._services, self._engine, self._sure = services, engine, sure
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
        self._reckoned = self._reaped = self._cleaned = float("-inf")

    @property
    def held_back(self) -> bool:
        return bool((self._turns is not None and len(self._turns)) or len(self._transfers))

    def know(self, alive: Collection[There]) -> None:
        """Which workers are there."""
        there = {place for one in alive for place in places.places_of_worker(one.home, one.machine)}
        if there - self._there:
            self._new += self._parked.values()
            self._parked.clear()
        if self._there - there - {ANY}:
            self._reckoned = float("-inf")  # what was handed over to it waits there
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
        reaped: Sequence[OpenBuild] = ()
        if now - self._reaped >= REAP_S:
            reaped, self._reaped = await self._open(await self._engine.reap()), now
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

        What waits for a machine that is gone is taken back: it would keep the turn of what others can do.
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
            if not self._sure():
                raise Unsure
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
