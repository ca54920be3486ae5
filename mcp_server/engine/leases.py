"""Waiting in line for what only so many may have at once: host slots, build directories, groups of stages."""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Sequence, Set
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server import places
from mcp_server.clock import Clock
from mcp_server.engine.fair import Fair
from mcp_server.engine.holdings import Choice, Claim, Holdings, Pool
from mcp_server.engine.line import Gate, Lane, Line, Ticket
from mcp_server.errors import StoreError
from mcp_server.model import Build, Lease
from mcp_server.store import leases as table
from mcp_server.store.claims import current, stale, work_for
from mcp_server.store.database import Store

__all__ = ["Choice", "Claim", "Gate", "LeaseLine", "Pool"]

log = logging.getLogger(__name__)

HEIRS_S = 0.02  # between the end of a stage and others' turn
AGAIN_S = 1  # after the store has failed
AT_ONCE = 50  # tickets looked at in one transaction


Grants = list[tuple[Ticket, tuple[Lease, ...]]]


class LeaseLine:
    """Grants leases by priority, then as `fair` says, then to the older build, then to the longer way to go in it.

    All claims of a ticket are granted together or none is, so that nobody waits for one thing while holding another.
    What a build held before a restart it gets back at once.
    """

    def __init__(self, store: Store, clock: Clock, fair: Fair | None = None, machine: str | None = None) -> None:
        """`machine`: where several share the leases, which of them this one is."""
        self._store, self._clock, self._machine = store, clock, machine
        self.fair = fair or Fair()
        self._line = Line(self.fair)
        self._holdings = Holdings()
        self._count = 0
        self._back: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._granter: asyncio.Task[None] | None = None
        self._freed: Counter[str] = Counter()  # to be offered, with those whose gates let more in
        self._gates: set[Gate] = set()
        self._asked: list[Lane] = []  # in these somebody wants one since the last grants
        self._returning: list[Ticket] = []  # it may have what it wants, however much is taken
        self._tried: set[str] = set()  # by a transaction of which one has not heard yet
        self._left_over: set[tuple[int, str | None]] | None = None  # held when this worker began

    async def acquire(
        self,
        claims: Sequence[Claim],
        *,
        build: int,
        stage: str | None,
        reason: str,
        priority: int,
        rank: float = 0,
        gate: Gate | None = None,
    ) -> tuple[Lease, ...]:
        """One lease a claim, when it is this ticket's turn. Cancelling leaves the line; nothing stays taken.

        `rank` is the time from this stage to the end of its build: the longest goes first. Give all of it back with
        `release`.
        """
        self._count += 1
        granted: asyncio.Future[tuple[Lease, ...]] = asyncio.get_running_loop().create_future()
        pools = [Pool.of(claim) for claim in claims]
        ticket = Ticket(priority, build, rank, self._count, pools, stage, reason, gate, granted, current())
        lane = self._line.add(ticket)
        if self._may_hold(ticket):
            self._holdings.forget(lane.names)  # its leases may have been another worker's doing
            self._returning.append(ticket)
            self._asked.append(lane)
            self._wake()
        elif self._holdings.hopeful(pools):
            self._asked.append(lane)
            self._wake()
        try:
            return await granted
        finally:
            if not granted.done() or granted.cancelled():
                self._line.remove(ticket)

    async def acquire_one(self, resource: str, *, build: Build) -> Lease:
        """The only slot of `resource`, for the whole build."""
        asked = self.acquire(
            [[Choice(self._called(resource))]],
            build=build.id,
            stage=None,
            reason=f"build {build.id}",
            priority=build.priority,
        )
        return (await asked)[0]

    def _called(self, resource: str) -> str:
        return places.of_all(resource, self._machine) if self._machine else resource

    async def holder_of(self, resource: str) -> int | None:
        """The build that has a resource now."""
        called = self._called(resource)
        held = await self._store.read(lambda c: table.held(c, {called}))
        return held[0][2] if held else None

    def release(self, leases: Iterable[Lease], gate: Gate | None = None, *, heirs: bool = False) -> None:
        """What was given back in the store goes to the next in line.

        With `heirs`, others wait for its holder: they get the time to join the line, as theirs may be the longer way.
        """
        if gate is not None:
            gate.inside -= 1
        freed = [lease.resource for lease in leases]
        if not heirs:
            self.offer(freed, gate)
            return
        self._holdings.forget(freed)  # who joins from now on looks for itself
        self._begin(self._offer_later(freed, gate))

    async def _offer_later(self, resources: Collection[str], gate: Gate | None) -> None:
        work_for(None)
        await self._clock.sleep(HEIRS_S)
        self.offer(resources, gate)

    async def aclose(self) -> None:
        """Offer nothing any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def hear(self, words: Collection[str] | None) -> None:
        """What others have given back, of those who share the leases; None: nobody knows, so anything."""
        self.offer(words if words is not None else self._line.names())
        if words is None:
            self._holdings.forget_all()

    def offer(self, resources: Iterable[str], gate: Gate | None = None) -> None:
        """Let the next in line have what is free; who gave something back calls this once that is committed."""
        resources = list(resources)
        self._holdings.forget(resources)
        self._freed.update(resources)
        if gate is not None and gate.limit is not None:
            self._gates.add(gate)
        self._wake()

    def _wake(self) -> None:
        if (self._granter is None or self._granter.done()) and self._pending:
            self._granter = self._begin(self._grant_all())

    @property
    def _pending(self) -> bool:
        return bool(self._freed or self._gates or self._asked or self._returning)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _grant_all(self) -> None:
        """Grant until nothing new is free or asked for; what ended, or was asked for, together in one go."""
        work_for(None)  # for whoever is in the line, not for the build that woke this
        while self._pending:
            await asyncio.sleep(0)  # who was woken by the same end joins first, and the longest way goes first
            freed, gates, asked, returning = self._freed, self._gates, self._asked, self._returning
            self._freed, self._gates, self._asked, self._returning = Counter(), set(), [], []
            try:
                if self._left_over is None:
                    await self._load()
                    returning = [ticket for ticket in self._line.all() if self._may_hold(ticket)]
                most = min(AT_ONCE, freed.total() + len(gates) + len(asked) + len(returning))
                await self._grant_free(self._concerned(freed, gates, asked), returning, most)
            except StoreError as error:
                log.warning("%s", error)
                self._freed += freed
                self._gates |= gates
                self._asked += asked
                self._returning += returning
                await self._clock.sleep(AGAIN_S)

    async def _load(self) -> None:
        held = await self._store.read(table.holders)
        self._holdings.load((one.resource, one.slot, one.build, one.stage, one.taken_at) for one in held)
        self._left_over = {(lease.build, lease.stage) for lease in held}

    def _concerned(self, freed: Collection[str], gates: Collection[Gate], asked: Sequence[Lane]) -> Set[Lane]:
        """Who waits for what is free now; also for what is kept for heirs, once somebody else asks for it."""
        lanes = self._line.lanes_for(freed) | self._line.lanes_behind(gates) | set(asked)
        kept = (name for name in self._holdings.stale() if any(name in lane.names for lane in asked))
        return lanes | self._line.lanes_for(kept)

    async def _grant_free(self, lanes: Collection[Lane], returning: Sequence[Ticket], most: int) -> None:
        if back := [ticket for ticket in returning if not ticket.granted.done()]:
            await self._give(back, own=True)
        asked: set[int] = set()
        while line := self._next(lanes, asked, most):
            if not await self._give(line, own=False):
                return
            asked |= {ticket.number for ticket in line}
            most = AT_ONCE

    async def _give(self, line: Sequence[Ticket], *, own: bool) -> bool:
        """Let these have what is free; `own`: what was theirs. False: of none of them it can be decided."""
        try:
            granted = await self._store.write(lambda c: self._grant(c, line, own))
        except StoreError:
            raise
        except Exception as error:
            for ticket in line:
                self._refuse(ticket, error)
            return False
        self._tried = set()
        for ticket, leases in granted:
            await self._hand_over(ticket, leases)
        return True

    def comes_back(self, build: int) -> None:
        """A build begins again from the top, and what it holds is its own."""
        self._back.add(build)

    def _may_hold(self, ticket: Ticket) -> bool:
        return ticket.build in self._back or (ticket.build, ticket.stage) in (self._left_over or ())

    def _next(self, lanes: Collection[Lane], asked: Set[int], most: int) -> Sequence[Ticket]:
        """The next in line that may go now, as far as their gates admit them."""
        found: list[Ticket] = []
        entering: Counter[Gate | None] = Counter()
        open_ = [lane for lane in lanes if lane.levels and self._holdings.hopeful(lane.claims)]
        for ticket in self._line.order(open_, entering):
            if len(found) >= most:
                break
            if ticket.number not in asked and (ticket.gate is None or ticket.gate.admits(entering[ticket.gate])):
                entering[ticket.gate] += 1
                found.append(ticket)
        return found

    async def _hand_over(self, ticket: Ticket, leases: tuple[Lease, ...]) -> None:
        if ticket.granted.done():  # its waiter left while the rows were written
            await self._store.write(lambda c: self._take_back(c, leases))
            self.offer(lease.resource for lease in leases)
            return
        if ticket.gate is not None:
            ticket.gate.inside += 1
        self.fair.granted(ticket.build)
        ticket.granted.set_result(leases)
        self._line.remove(ticket)

    def _refuse(self, ticket: Ticket, error: Exception) -> None:
        """It cannot be decided what this ticket gets: a mistake of ours, said by whoever waits."""
        self._line.remove(ticket)
        if not ticket.granted.done():
            ticket.granted.set_exception(error)

    def _grant(self, c: sa.Connection, line: Sequence[Ticket], own: bool) -> Grants:
        """Who gets what. What is chosen is looked at once more: another worker may have taken it."""
        self._holdings.forget(self._tried)  # it is not known what became of it
        gone = stale(c, {ticket.holder for ticket in line if ticket.holder is not None})  # they ask for themselves
        line = [ticket for ticket in line if ticket.holder not in gone]
        now, sure = self._clock.now(), self._holdings.take_stale()
        if sure:
            self._holdings.see(sure, table.held(c, sure))
        while True:
            granted, new = self._choose(line, now, own)
            for lease in new:
                self._holdings.drop(lease.resource, lease.slot)
            unsure = {lease.resource for lease in new} - sure
            self._tried |= unsure | sure
            if not unsure or not self._holdings.see(unsure, table.held(c, unsure)):
                break
            sure.update(*(pool.names for ticket in line for pool in ticket.claims))  # one is outdated, so others may be
            self._holdings.see(sure, table.held(c, sure))
        for lease in new:
            self._holdings.hold(lease.resource, lease.slot, (lease.build, lease.stage, lease.taken_at))
            table.add(c, lease, now)
        return granted

    def _choose(self, line: Sequence[Ticket], now: datetime, own: bool) -> tuple[Grants, list[Lease]]:
        """Who gets what as far as one knows, and what of it is new; it is noted as held."""
        granted: Grants = []
        new: list[Lease] = []
        for ticket in line:
            had = [self._had(ticket, pool) for pool in ticket.claims] if self._may_hold(ticket) else []
            if own and not any(had):
                continue
            kept = had or [None] * len(ticket.claims)
            leases = [old or self._free(ticket, pool, now) for old, pool in zip(kept, ticket.claims, strict=True)]
            got = tuple(lease for lease in leases if lease is not None)
            if len(got) < len(leases):
                continue
            for lease in got:
                if self._holdings.hold(lease.resource, lease.slot, (lease.build, lease.stage, lease.taken_at)):
                    new.append(lease)
            granted.append((ticket, got))
        return granted, new

    def _had(self, ticket: Ticket, pool: Pool) -> Lease | None:
        """What the ticket's holder had before a restart."""
        for choice in pool:
            for slot, (build, stage, taken_at) in self._holdings.holders(choice.resource).items():
                if (build, stage) == (ticket.build, ticket.stage):
                    return _lease(ticket, choice.resource, slot, taken_at)
        return None

    def _free(self, ticket: Ticket, pool: Pool, now: datetime) -> Lease | None:
        """A free slot of the best choice; None: all are taken."""
        best = self._holdings.best(pool)
        if best is None:
            return None
        taken = self._holdings.holders(best.resource)
        return _lease(ticket, best.resource, next(slot for slot in range(best.slots) if slot not in taken), now)

    def _take_back(self, c: sa.Connection, leases: Sequence[Lease]) -> None:
        for lease in leases:
            table.release(c, lease, self._clock.now())


def _lease(ticket: Ticket, resource: str, slot: int, taken_at: datetime) -> Lease:
    return Lease(
        resource=resource,
        slot=slot,
        build=ticket.build,
        stage=ticket.stage,
        reason=ticket.reason,
        taken_at=taken_at,
    )
