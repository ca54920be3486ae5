"""Whose stage goes first where several wait for the same slot: builds that began, then projects turn by turn."""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Protocol, TypeVar


class Asks(Protocol):
    """What a waiting stage tells of itself. `priority`: a lower one goes first."""

    @property
    def priority(self) -> int: ...
    @property
    def build(self) -> int: ...


T = TypeVar("T", bound=Asks)


class Fair:
    """Knows the projects of builds. `begun`: builds of which a stage began; it is somebody else's set, and grows."""

    def __init__(self, begun: Set[int] = frozenset()) -> None:
        self.begun = begun
        self._project: dict[int, str] = {}
        self._served: dict[str | None, int] = {}  # which turn was a project's last one
        self._turn = 0

    def belongs(self, build: int, project: str) -> None:
        """A build of a project is here."""
        self._project[build] = project

    def gone(self, build: int) -> None:
        """It is over."""
        self._project.pop(build, None)

    def granted(self, build: int) -> None:
        """A stage of a build got its place."""
        if build not in self.begun and (project := self._project.get(build)) is not None:
            self._turn += 1
            self._served[project] = self._turn

    def order(self, line: Sequence[T]) -> Iterable[T]:
        """A line, sorted by priority and build, as it is served: within a priority first those of builds that began.

        They hold what others wait for, so they go to their ends first. Then the project with fewest builds begun, as
        `Turns` has it; here only the first few are ever looked at, a thousand times a second.
        """
        if len({self._project.get(one.build) for one in line}) < 2:
            return line
        return self._ordered(line)

    def _ordered(self, line: Sequence[T]) -> Iterator[T]:
        running = Counter(self._project.get(build) for build in self.begun)
        served, turn = dict(self._served), self._turn
        for _, group in itertools.groupby(line, key=lambda one: one.priority):
            new: dict[str | None, deque[T]] = {}
            for one in group:
                if one.build in self.begun:
                    yield one
                else:
                    new.setdefault(self._project.get(one.build), deque()).append(one)
            heads = [(running[name], served.get(name, 0), of[0].build, name) for name, of in new.items()]
            heapq.heapify(heads)
            while heads:
                _, _, build, name = heads[0]
                waiting = new[name]
                while waiting and waiting[0].build == build:
                    yield waiting.popleft()
                turn += 1
                running[name] += 1
                served[name] = turn
                if waiting:
                    heapq.heapreplace(heads, (running[name], turn, waiting[0].build, name))
                else:
                    heapq.heappop(heads)
