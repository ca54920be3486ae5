"""When builds that wait will begin: the queue played through with what earlier builds took.

May import: turns. Never: anything else of ours.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mcp_server.turns import Limits, Turns, Waiting

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A build that is not over. `pool` is what its first stage needs a slot of, `directory` what it builds in.

    `began` is None while it waits. `usual_s`: what such builds of its project take, None where none passed yet.
    """

    id: int
    project: str
    project_name: str
    priority: int
    began: datetime | None
    pool: str
    directory: str | None
    usual_s: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the queue a build is: `position` from 1 `of` so many; when it will begin, None where nobody knows."""

    position: int
    of: int
    expected_start: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Room:
    """What the builds share: limits, slots by pool, and who was served when, the longest ago first."""

    limits: Limits
    pools: Mapping[str, int] | None = None
    served: Sequence[str] = ()


def places(rows: Sequence[OpenRow], room: Room, now: datetime) -> Mapping[int, Place]:
    """The place of each build that waits, by number, in the order in which they will be taken.

    A build whose duration nobody knows is taken to run on while others end: who waits for it knows no time.
    """
    running = [row for row in rows if row.began is not None and row.priority >= 0]
    first = sorted(row.id for row in rows if row.began is None and row.priority < 0)  # they wait for nothing
    waiting = {row.id: row for row in rows if row.began is None and row.priority >= 0}
    turns = Turns(room.limits, served=room.served, caps=_caps(rows), pools=room.pools)
    for row in running:
        turns.count(row.project, 1, row.pool)
    why = _Reasons(running, room, turns)
    starts = [(number, 0.0, True) for number in first] + _play(waiting, running, turns, now)
    found: dict[int, Place] = {}
    for position, (number, after_s, at_once) in enumerate(starts, 1):
        begin = None if after_s == NEVER else now + timedelta(seconds=after_s)
        reason = "begins now" if at_once else why.of(waiting[number], position)
        found[number] = Place(position, len(starts), begin, reason)
    return found


def _play(
    waiting: Mapping[int, OpenRow], running: Iterable[OpenRow], turns: Turns, now: datetime
) -> list[tuple[int, float, bool]]:
    """Of each that waits, in that order: number, seconds until it begins, and whether it need not wait for an end."""
    ends: list[tuple[float, int, OpenRow]] = []
    for row in running:
        spent = (now - (row.began or now)).total_seconds()
        ends.append((NEVER if row.usual_s is None else max(row.usual_s - spent, 0.0), row.id, row))
    heapq.heapify(ends)
    for row in waiting.values():
        turns.add(Waiting(row.id, row.project, row.priority, row.pool))
    starts: list[tuple[int, float, bool]] = []
    clock, at_once = 0.0, True
    while len(starts) < len(waiting):
        while (taken := turns.next()) is not None:
            row = waiting[taken.id]
            starts.append((row.id, clock, at_once))
            heapq.heappush(ends, (NEVER if row.usual_s is None else clock + row.usual_s, row.id, row))
        if not ends:
            break
        clock, _, over = heapq.heappop(ends)
        turns.end(over.project, over.pool)
        at_once = False
    return starts


def _caps(rows: Iterable[OpenRow]) -> Mapping[str, int]:
    """How many builds of a project can run at a time at most, as two never share a directory."""
    found: dict[str, set[str | None]] = {}
    for row in rows:
        if row.priority >= 0:
            found.setdefault(row.project, set()).add(row.directory)
    return {project: len(directories) for project, directories in found.items() if None not in directories}


class _Reasons:
    """Why a build waits, in words; by what runs now."""

    def __init__(self, running: Sequence[OpenRow], room: Room, turns: Turns) -> None:
        self._room = room
        self._running = len(running)
        self._full = {row.project: most for row in running if (most := turns.full(row.project)) is not None}
        self._of = Counter(row.project for row in running)
        self._in = Counter(row.pool for row in running)
        self._builder: dict[str | None, int] = {row.directory: row.id for row in running if row.directory}

    def of(self, row: OpenRow, position: int) -> str:
        """`project blink has 2 of 2 builds running`, `after 3 others`."""
        each, most = self._room.limits.per_project, self._room.limits.builds
        if row.project in self._full and each is not None and self._of[row.project] >= each:
            return f"project {row.project_name} has {self._of[row.project]} of {each} builds running"
        if row.project in self._full and (builder := self._builder.get(row.directory)) is not None:
            return f"build {builder} runs in the same directory"
        if position > 1:
            return f"after {position - 1} other{'s' if position > 2 else ''}"
        if most is not None and self._running >= most:
            return f"{self._running} of {most} builds run"
        slots = (self._room.pools or {}).get(row.pool)
        if slots is not None and self._in[row.pool] >= slots:
            return f"host {row.pool} has {self._in[row.pool]} of {slots} slots taken"
        return "is next"
