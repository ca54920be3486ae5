"""Who waits for what, so that the next ones are found without a look at all: by what they want, then in fair order."""

import asyncio
import bisect
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

from mcp_server.engine.fair import Fair
from mcp_server.engine.holdings import Pool
from mcp_server.model import Lease
from mcp_server.store.claims import Claim as BuildClaim

K = TypeVar("K")
V = TypeVar("V")

MOST_IDLE = 100  # lanes in which nobody stands that are kept: to know again what a tag means costs a look at its hosts


class Gate:
    """At most `limit` holders of leases at a time within one build; None: no limit."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.inside = limit, 0

    def admits(self, entering: int) -> bool:
        return self.limit is None or self.inside + entering < self.limit


@dataclass(eq=False, slots=True)
class Ticket:
    """`place` is where it stands among those of its build and priority; `holder`: by which claim the build is ours."""

    priority: int
    build: int
    rank: float
    number: int
    claims: Sequence[Pool]
    stage: str | None
    reason: str
    gate: Gate | None
    granted: asyncio.Future[tuple[Lease, ...]]
    holder: BuildClaim | None = None
    place: tuple[int, int, float, int] = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.priority, self.build, -self.rank, self.number


_place, _build = attrgetter("place"), attrgetter("build")


class _Group:
    """The tickets of one build, and of one gate, in a lane and priority."""

    def __init__(self, ticket: Ticket, lane: "Lane", level: "_Level", project: str | None) -> None:
        self.build, self.gate, self.lane, self.level, self.project = ticket.build, ticket.gate, lane, level, project
        self.tickets: list[Ticket] = []
        self.began = False


class _Level:
    """One priority of a lane: groups of builds that began, and of others by project; both by build."""

    def __init__(self) -> None:
        self.groups: dict[tuple[int, Gate | None], _Group] = {}
        self.begun: list[_Group] = []
        self.new: dict[str | None, list[_Group]] = {}

    def put(self, group: _Group, began: bool) -> None:
        group.began = began
        bisect.insort(self.begun if began else self.new.setdefault(group.project, []), group, key=_build)

    def take(self, group: _Group) -> None:
        line = self.begun if group.began else self.new[group.project]
        at = bisect.bisect_left(line, group.build, key=_build)
        while line[at] is not group:
            at += 1
        del line[at]
        if not line and not group.began:
            del self.new[group.project]


class Lane:
    """All who want the same."""

    def __init__(self, claims: Sequence[Pool]) -> None:
        self.claims = claims
        self.levels: dict[int, _Level] = {}
        self.names = frozenset[str]().union(*(pool.names for pool in claims))


Key = tuple[object, ...]


class Line:
    """Tickets by what they want. Within a priority first those of builds that began, as they hold what others wait for.

    Then those of the project with fewest builds begun, then of the one longest unserved; of a build the longest way.
    """

    def __init__(self, fair: Fair) -> None:
        self._fair = fair
        self._lanes: dict[Key, Lane] = {}
        self._of_name: dict[str, set[Lane]] = {}
        self._of_build: dict[int, set[_Group]] = {}
        self._of_gate: dict[Gate, set[_Group]] = {}
        self._idle: dict[Key, Lane] = {}
        fair.begun.listen(self._changed)

    def add(self, ticket: Ticket) -> Lane:
        """It waits from now on; with whom."""
        key = _key(ticket.claims)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(ticket.claims)
            for name in lane.names:
                self._of_name.setdefault(name, set()).add(lane)
        self._idle.pop(key, None)
        level = lane.levels.setdefault(ticket.priority, _Level())
        group = level.groups.get((ticket.build, ticket.gate))
        if group is None:
            group = _Group(ticket, lane, level, self._fair.project_of(ticket.build))
            level.groups[ticket.build, ticket.gate] = group
            self._of_build.setdefault(ticket.build, set()).add(group)
            if ticket.gate is not None:
                self._of_gate.setdefault(ticket.gate, set()).add(group)
            level.put(group, ticket.build in self._fair.begun)
        bisect.insort(group.tickets, ticket, key=_place)
        return lane

    def remove(self, ticket: Ticket) -> None:
        """It waits no more; nothing happens where it did not."""
        lane = self._lanes.get(key := _key(ticket.claims))
        level = lane.levels.get(ticket.priority) if lane else None
        group = level.groups.get((ticket.build, ticket.gate)) if level else None
        if lane is None or level is None or group is None:
            return
        at = bisect.bisect_left(group.tickets, ticket.place, key=_place)
        if at == len(group.tickets) or group.tickets[at] is not ticket:
            return
        del group.tickets[at]
        if group.tickets:
            return
        level.take(group)
        del level.groups[ticket.build, ticket.gate]
        _discard(self._of_build, ticket.build, group)
        if ticket.gate is not None:
            _discard(self._of_gate, ticket.gate, group)
        if not level.groups:
            del lane.levels[ticket.priority]
        if not lane.levels:
            self._idle[key] = lane
            if len(self._idle) > MOST_IDLE:
                self._drop(next(iter(self._idle)))

    def _drop(self, key: Key) -> None:
        lane = self._idle.pop(key)
        del self._lanes[key]
        for name in lane.names:
            _discard(self._of_name, name, lane)

    def _changed(self, build: int, new: bool) -> None:
        for group in self._of_build.get(build, ()):
            group.level.take(group)
            group.level.put(group, new)

    def names(self) -> set[str]:
        """All that anybody wants."""
        return {name for lane in self._lanes.values() if lane.levels for name in lane.names}

    def lanes_for(self, names: Iterable[str]) -> set[Lane]:
        """Those in which somebody wants one of these."""
        found: set[Lane] = set()
        for name in names:
            found |= self._of_name.get(name, set())
        return {lane for lane in found if lane.levels}

    def lanes_behind(self, gates: Iterable[Gate]) -> set[Lane]:
        """Those in which somebody waits behind one of these gates."""
        return {group.lane for gate in gates for group in self._of_gate.get(gate, ())}

    def all(self) -> Iterator[Ticket]:
        """Everybody, in no order."""
        for groups in self._of_build.values():
            for group in groups:
                yield from group.tickets

    def order(self, lanes: Iterable[Lane], entering: Mapping[Gate | None, int]) -> Iterator[Ticket]:
        """All in these lanes as they are served, but for those whose gate lets nobody in; `entering` may change."""
        lanes, turns = list(lanes), _Turns(self._fair)
        for priority in sorted({priority for lane in lanes for priority in lane.levels}):
            levels = [lane.levels[priority] for lane in lanes if priority in lane.levels]
            yield from heapq.merge(*(_tickets(level.begun, entering) for level in levels), key=_place)
            yield from _by_turns(levels, entering, turns)


class _Turns:
    """What `Fair` will say once all that was found so far is granted."""

    def __init__(self, fair: Fair) -> None:
        self._fair, self._turn = fair, fair.turn
        self._more: Counter[str | None] = Counter()
        self._served: dict[str | None, int] = {}

    def key(self, project: str | None, build: int) -> tuple[int, int, int]:
        """The lowest goes first."""
        served = self._served.get(project) or self._fair.served(project)
        return self._fair.running[project] + self._more[project], served, build

    def serve(self, project: str | None) -> None:
        self._turn += 1
        self._more[project] += 1
        self._served[project] = self._turn


def _by_turns(levels: Sequence[_Level], entering: Mapping[Gate | None, int], turns: _Turns) -> Iterator[Ticket]:
    """Those of builds that did not begin, one build after another."""
    lines: dict[str | None, list[list[_Group]]] = {}
    for level in levels:
        for project, groups in level.new.items():
            lines.setdefault(project, []).append(groups)
    waiting = {project: heapq.merge(*of, key=_build) for project, of in lines.items()}
    first = {project: next(groups) for project, groups in waiting.items()}
    heads = [(turns.key(name, group.build), name) for name, group in first.items()]
    heapq.heapify(heads)
    while heads:
        (_, _, build), name = heads[0]
        of_build: list[_Group] = []
        group: _Group | None = first[name]
        while group is not None and group.build == build:
            of_build.append(group)
            group = next(waiting[name], None)
        yield from heapq.merge(*(_tickets([one], entering) for one in of_build), key=_place)
        turns.serve(name)
        if group is None:
            heapq.heappop(heads)
        else:
            first[name] = group
            heapq.heapreplace(heads, (turns.key(name, group.build), name))


def _tickets(groups: Sequence[_Group], entering: Mapping[Gate | None, int]) -> Iterator[Ticket]:
    for group in groups:
        gate = group.gate
        for ticket in group.tickets:
            if gate is not None and not gate.admits(entering.get(gate, 0)):
                break
            yield ticket


def _discard(index: dict[K, set[V]], key: K, value: V) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]


def _key(claims: Sequence[Pool]) -> Key:
    return tuple(pool.key for pool in claims)
