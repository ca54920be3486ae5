"""Waiting in line for what only so many may have at once: host slots, build directories, groups of stages."""

import asyncio
import bisect
import logging
from collections.abc import Collection, Container, Coroutine, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from mcp_server import places
from mcp_server.clock import Clock
from mcp_server.engine.fair import Fair
from mcp_server.errors import StoreError
from mcp_server.model import Build, Lease
from mcp_server.store import leases as table
from mcp_server.store.claims import Claim as BuildClaim
from mcp_server.store.claims import Taken, check, current, work_for
from mcp_server.store.database import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """A resource with so many slots. Of several choices the lowest `order` goes first, then the least loaded."""

    resource: str
    slots: int = 1
    order: int = 0


HEIRS_S = 0.02  # between the end of a stage and others' turn
AGAIN_S = 1  # after the store has failed
AT_ONCE = 50  # tickets looked at in one transaction

Claim = Sequence[Choice]
"""One slot of any of these."""


class Gate:
    """At most `limit` holders of leases at a time within one build; None: no limit."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.inside = limit, 0

    def admits(self, entering: int) -> bool:
        return self.limit is None or self.inside + entering < self.limit


@dataclass(eq=False, slots=True)
class _Ticket:
    """`place` is where it stands in the line."""

    priority: int
    build: int
    rank: float
    number: int
    claims: Sequence[Claim]
    stage: str | None
    reason: str
    gate: Gate | None
    granted: asyncio.Future[tuple[Lease, ...]]
    holder: BuildClaim | None
    wanted: frozenset[str] = field(init=False)
    place: tuple[int, int, float, int] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = frozenset(choice.resource for claim in self.claims for choice in claim)
        self.place = self.priority, self.build, -self.rank, self.number


_place = attrgetter("place")


class LeaseLine:
    """Grants leases by priority, then as `fair` says, then to the older build, then to the longer way to go in it.

    All claims of a ticket are granted together or none is, so that nobody waits for one thing while holding another.
    What a build held before a restart it gets back at once.
    """

    def __init__(self, store: Store, clock: Clock, fair: Fair | None = None, machine: str | None = None) -> None:
        """`machine`: where several share the leases, which of them this one is."""
        self._store, self._clock, self._machine = store, clock, machine
        self.fair = fair or Fair()
        self._line: list[_Ticket] = []
        self._count = 0
        self._back: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._granter: asyncio.Task[None] | None = None
        self._freed: set[str] = set()  # to be offered, with those whose gates let more in
        self._gates: set[Gate] = set()
        self._asked: set[str] = set()  # of these somebody wants one since the last grants
        self._full: set[str] = set()  # nothing of these was given back since they were seen taken
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
        claims = [[self._called(choice) for choice in claim] for claim in claims] if self._machine else claims
        ticket = _Ticket(priority, build, rank, self._count, claims, stage, reason, gate, granted, current())
        bisect.insort(self._line, ticket, key=_place)
        if self._may_hold(ticket):
            self.offer(ticket.wanted)
        elif not self._hopeless(ticket):
            self._asked |= ticket.wanted
            self._wake()
        try:
            return await granted
        finally:
            if not granted.done() or granted.cancelled():
                self._leave(ticket)

    async def acquire_one(self, resource: str, *, build: Build) -> Lease:
        """The only slot of `resource`, for the whole build."""
        asked = self.acquire(
            [[Choice(resource)]], build=build.id, stage=None, reason=f"build {build.id}", priority=build.priority
        )
        return (await asked)[0]

    def _called(self, choice: Choice) -> Choice:
        return replace(choice, resource=places.of_all(choice.resource, self._machine or ""))

    async def holder_of(self, resource: str) -> int | None:
        """The build that has a resource now."""
        resource = places.of_all(resource, self._machine) if self._machine else resource
        held = await self._store.read(lambda c: table.held(c, {resource}))
        return held[0][2] if held else None

    def release(self, leases: Iterable[Lease], gate: Gate | None = None, *, heirs: bool = False) -> None:
        """What was given back in the store goes to the next in line.

        With `heirs`, others wait for its holder: they get the time to join the line, as theirs may be the longer way.
        """
        if gate is not None:
            gate.inside -= 1
        freed = {lease.resource for lease in leases}
        if not heirs:
            self.offer(freed, gate)
            return
        self._full -= freed  # who joins from now on looks for itself
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
        self.offer(words if words is not None else {name for ticket in self._line for name in ticket.wanted})

    def offer(self, resources: Iterable[str], gate: Gate | None = None) -> None:
        """Let the next in line have what is free; who gave something back calls this once that is committed."""
        self._freed.update(resources)
        if gate is not None:
            self._gates.add(gate)
        self._wake()

    def _wake(self) -> None:
        if (self._granter is None or self._granter.done()) and (self._freed or self._gates or self._asked):
            self._granter = self._begin(self._grant_all())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _grant_all(self) -> None:
        """Grant until nothing new is free or asked for; what ended, or was asked for, together in one go."""
        work_for(None)  # for whoever is in the line, not for the build that woke this
        while self._freed or self._gates or self._asked:
            await asyncio.sleep(0)  # who was woken by the same end joins first, and the longest way goes first
            freed, gates, asked = self._freed, self._gates, self._asked
            self._freed, self._gates, self._asked = set(), set(), set()
            self._full -= freed  # not sooner, lest a grant that read before that was given back says otherwise
            free = freed | (asked - self._full)
            try:
                if self._left_over is None:
                    self._left_over = {(lease.build, lease.stage) for lease in await self._store.read(table.holders)}
                await self._grant_free(free, gates)
            except StoreError as error:
                log.warning("%s", error)
                self._freed |= free
                self._gates |= gates
                await self._clock.sleep(AGAIN_S)

    async def _grant_free(self, free: Set[str], gates: Container[Gate | None]) -> None:
        asked: set[int] = set()
        while line := self._next(free, gates, asked):
            try:
                granted, room = await self._store.write(lambda c: self._grant(c, line))
            except StoreError:
                raise
            except Exception as error:
                for ticket in line:
                    self._refuse(ticket, error)
                return
            for ticket, leases in granted:
                await self._hand_over(ticket, leases)
            if not room:
                return
            asked |= {ticket.number for ticket in line}

    def comes_back(self, build: int) -> None:
        """A build begins again from the top, and what it holds is its own."""
        self._back.add(build)

    def _may_hold(self, ticket: _Ticket) -> bool:
        return ticket.build in self._back or (ticket.build, ticket.stage) in (self._left_over or ())

    def _hopeless(self, ticket: _Ticket) -> bool:
        """Whether something that it needs is known to be taken, and not by itself before a restart."""
        if self._may_hold(ticket):
            return False
        return any(all(choice.resource in self._full for choice in claim) for claim in ticket.claims)

    def _next(self, free: Set[str], gates: Container[Gate | None], asked: Container[int]) -> Sequence[_Ticket]:
        """The next in line that may go now, as far as their gates admit them."""
        found: list[_Ticket] = []
        entering: dict[Gate | None, int] = {}
        for ticket in self.fair.order(self._line):
            if ticket.number in asked or (ticket.wanted.isdisjoint(free) and ticket.gate not in gates):
                continue
            inside = entering.get(ticket.gate, 0)
            if ticket.gate is None or ticket.gate.admits(inside):
                entering[ticket.gate] = inside + 1
                found.append(ticket)
                if len(found) == AT_ONCE:
                    break
        return found

    async def _hand_over(self, ticket: _Ticket, leases: tuple[Lease, ...]) -> None:
        if ticket.granted.done():  # its waiter left while the rows were written
            await self._store.write(lambda c: self._take_back(c, leases))
            return
        if ticket.gate is not None:
            ticket.gate.inside += 1
        ticket.granted.set_result(leases)
        self._leave(ticket)

    def _refuse(self, ticket: _Ticket, error: Exception) -> None:
        """It cannot be decided what this ticket gets: a mistake of ours, said by whoever waits."""
        self._leave(ticket)
        if not ticket.granted.done():
            ticket.granted.set_exception(error)

    def _grant(self, c: sa.Connection, line: Sequence[_Ticket]) -> tuple[list[tuple[_Ticket, tuple[Lease, ...]]], bool]:
        """Who gets what, and whether any of what they want is still free."""
        now = self._clock.now()
        holdings = _Holdings(table.held(c, {name for ticket in line for name in ticket.wanted}))
        granted: list[tuple[_Ticket, tuple[Lease, ...]]] = []
        for ticket in line:
            if self._is_lost(c, ticket):
                continue
            regains = self._may_hold(ticket)
            leases = [holdings.choose(ticket, claim, now, regains) for claim in ticket.claims]
            if None in leases:
                continue
            got = tuple(lease for lease in leases if lease is not None)
            for lease in got:
                if holdings.hold(lease):
                    table.add(c, lease, now)
            granted.append((ticket, got))
            self.fair.granted(ticket.build)
        slots = {choice.resource: choice.slots for ticket in line for claim in ticket.claims for choice in claim}
        full = {name for name, count in slots.items() if holdings.taken(name) >= count}
        self._full = (self._full - slots.keys()) | full
        return granted, len(full) < len(slots)

    def _is_lost(self, c: sa.Connection, ticket: _Ticket) -> bool:
        """Whether the ticket's build has gone to another worker, which asks for itself."""
        try:
            check(c, ticket.holder)
        except Taken:
            return True
        return False

    def _take_back(self, c: sa.Connection, leases: Sequence[Lease]) -> None:
        for lease in leases:
            table.release(c, lease, self._clock.now())

    def _leave(self, ticket: _Ticket) -> None:
        at = bisect.bisect_left(self._line, ticket.place, key=_place)
        if at < len(self._line) and self._line[at] is ticket:
            del self._line[at]


class _Holdings:
    """Who holds what while one group of grants is decided."""

    def __init__(self, held: Iterable[table.Held]) -> None:
        self._held: dict[str, dict[int, tuple[int, str | None, datetime]]] = {}
        for resource, slot, build, stage, taken_at in held:
            self._held.setdefault(resource, {})[slot] = (build, stage, taken_at)

    def choose(self, ticket: _Ticket, claim: Claim, now: datetime, regains: bool) -> Lease | None:
        """What the ticket's holder had before a restart, else a free slot of the best choice; None: all are taken."""
        for choice in claim if regains else ():
            for slot, (build, stage, taken_at) in self._held.get(choice.resource, {}).items():
                if (build, stage) == (ticket.build, ticket.stage):
                    return self._lease(ticket, choice.resource, slot, taken_at)
        free = [choice for choice in claim if self.taken(choice.resource) < choice.slots]
        if not free:
            return None
        best = min(free, key=lambda choice: (choice.order, self.taken(choice.resource) / choice.slots))
        taken = self._held.get(best.resource, {})
        slot = next(number for number in range(best.slots) if number not in taken)
        return self._lease(ticket, best.resource, slot, now)

    def taken(self, resource: str) -> int:
        return len(self._held.get(resource, ()))

    def hold(self, lease: Lease) -> bool:
        """Note a lease; False where it was held before."""
        slots = self._held.setdefault(lease.resource, {})
        new = lease.slot not in slots
        slots[lease.slot] = (lease.build, lease.stage, lease.taken_at)
        return new

    def _lease(self, ticket: _Ticket, resource: str, slot: int, taken_at: datetime) -> Lease:
        return Lease(
            resource=resource,
            slot=slot,
            build=ticket.build,
            stage=ticket.stage,
            reason=ticket.reason,
            taken_at=taken_at,
        )
