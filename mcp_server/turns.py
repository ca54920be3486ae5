"""Whose turn it is: which of the builds that wait is taken next. No database, no time: the worker and fronts ask alike.

May import: nothing of this package.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Key = tuple[int, int, int, int]  # priority, running builds of the project, when it was last served, number


@dataclass(frozen=True, slots=True)
class Limits:
    """How many builds run at a time: of all projects, and of each (None: as many as there may be)."""

    builds: int | None = None
    per_project: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A build that waits. A lower `priority` goes first. `pool` is what it needs a slot of; "" is never full."""

    id: int
    project: str
    priority: int = 10
    pool: str = ""


class Turns:
    """By priority, then the project with fewest builds running, then the one longest unserved, then by number.

    So within a priority every project comes to its turn, however many builds another one has waiting. `caps` limits
    single projects further, `pools` says how many slots a pool has. Each call costs O(log n) of the builds waiting.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        served: Iterable[str] = (),
        caps: Mapping[str, int] | None = None,
        pools: Mapping[str, int] | None = None,
    ) -> None:
        """`served`: projects that builds were taken of before, the longest ago first."""
        self.limits = limits
        self.running = 0
        self._caps, self._pools = caps or {}, pools or {}
        self._of: Counter[str] = Counter()  # running builds by project
        self._in: Counter[str] = Counter()  # and by pool
        self._turn = itertools.count(1)
        self._served = {project: next(self._turn) for project in served}
        self._waiting: dict[int, Waiting] = {}
        self._lines: dict[tuple[str, str], list[tuple[int, int]]] = {}  # of a project and pool: priority, number
        self._pools_of: dict[str, set[str]] = {}
        self._heaps: dict[str, list[tuple[Key, str]]] = {}  # by pool; what is not in `_keys` is out of date
        self._keys: dict[tuple[str, str], Key] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __contains__(self, build: object) -> bool:
        return build in self._waiting

    def running_of(self, project: str) -> int:
        """How many builds of a project run."""
        return self._of[project]

    def add(self, build: Waiting) -> None:
        """One more waits; nothing happens where it does already."""
        if build.id in self._waiting:
            return
        self._waiting[build.id] = build
        heapq.heappush(self._lines.setdefault((build.project, build.pool), []), (build.priority, build.id))
        self._pools_of.setdefault(build.project, set()).add(build.pool)
        self._rank(build.project, build.pool)

    def remove(self, build: int) -> None:
        """One waits no more; nothing happens where it does not."""
        if (gone := self._waiting.pop(build, None)) is not None:
            self._rank(gone.project, gone.pool)

    def begin(self, project: str, pool: str = "") -> None:
        """A build runs that was not waiting here: it counts, whatever the limits say."""
        self.running += 1
        self._of[project] += 1
        self._in[pool] += 1
        self._served[project] = next(self._turn)
        self._rank_all(project)

    def count(self, project: str, running: int, pool: str = "") -> None:
        """So many more builds of a project run; it was not served just now."""
        self.running += running
        self._of[project] += running
        self._in[pool] += running
        self._rank_all(project)

    def end(self, project: str, pool: str = "") -> None:
        """A build that ran is over."""
        self.running -= 1
        self._of[project] -= 1
        self._in[pool] -= 1
        self._rank_all(project)

    def limit(self, limits: Limits) -> None:
        """Other limits from now on: what runs goes on, also above them."""
        if limits != self.limits:
            self.limits = limits
            for project in list(self._pools_of):
                self._rank_all(project)

    def next(self) -> Waiting | None:
        """The one whose turn it is, which runs now; None where none waits or the limits leave no room."""
        if self.limits.builds is not None and self.running >= self.limits.builds:
            return None
        best: tuple[Key, str, str] | None = None
        for pool, heap in self._heaps.items():
            if self._in[pool] >= self._pools.get(pool, 1 << 60):
                continue
            while heap and self._keys.get((heap[0][1], pool)) != heap[0][0]:
                heapq.heappop(heap)
            if heap and (best is None or heap[0][0] < best[0]):
                best = *heap[0], pool
        if best is None:
            return None
        found = self._waiting.pop(best[0][3])
        self.begin(found.project, found.pool)
        return found

    def full(self, project: str) -> int | None:
        """How many of a project may run, where so many do; else None."""
        most = self._most(project)
        return most if most is not None and self._of[project] >= most else None

    def _most(self, project: str) -> int | None:
        limits = [most for most in (self.limits.per_project, self._caps.get(project)) if most is not None]
        return min(limits, default=None)

    def _rank_all(self, project: str) -> None:
        for pool in self._pools_of.get(project, ()):
            self._rank(project, pool)

    def _rank(self, project: str, pool: str) -> None:
        """Put the first of a line where it belongs among the others; not at all where its project is full."""
        place, line = (project, pool), self._lines[project, pool]
        while line and line[0][1] not in self._waiting:
            heapq.heappop(line)
        if not line or self.full(project) is not None:
            self._keys.pop(place, None)
            return
        key = (line[0][0], self._of[project], self._served.get(project, 0), line[0][1])
        if self._keys.get(place) != key:
            self._keys[place] = key
            heapq.heappush(self._heaps.setdefault(pool, []), (key, project))
