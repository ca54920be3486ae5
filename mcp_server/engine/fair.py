"""Whose stage goes first where several wait for the same slot: builds that began, then projects turn by turn."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from typing import Protocol, TypeVar

from mcp_server.turns import Turns, Waiting


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
        self._served: dict[str, None] = {}  # the longest ago first

    def belongs(self, build: int, project: str) -> None:
        """A build of a project is here."""
        self._project[build] = project

    def gone(self, build: int) -> None:
        """It is over."""
        self._project.pop(build, None)

    def granted(self, build: int) -> None:
        """A stage of a build got its place."""
        if build not in self.begun and (project := self._project.get(build)) is not None:
            self._served.pop(project, None)
            self._served[project] = None

    def order(self, line: Sequence[T]) -> Sequence[T]:
        """A line, sorted by priority and build, as it is served: within a priority first those of builds that began.

        They hold what others wait for, so they go to their ends first. Then the project with fewest builds begun.
        """
        if len({self._project.get(one.build) for one in line}) < 2:
            return line
        new = {one.build: one for one in line if one.build not in self.begun}
        place = {build: number for number, build in enumerate(self._by_turns(new.values()))}
        return sorted(line, key=lambda one: (one.priority, place.get(one.build, -1)))

    def _by_turns(self, waiting: Iterable[Asks]) -> Iterable[int]:
        turns = Turns(served=self._served)
        for project, count in Counter(self._project.get(build, "") for build in self.begun).items():
            turns.count(project, count)
        for one in waiting:
            turns.add(Waiting(one.build, self._project.get(one.build, ""), one.priority))
        return (one.id for one in iter(turns.next, None))
