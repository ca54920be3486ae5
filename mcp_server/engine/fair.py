"""Whose stage goes first where several wait for the same slot: builds that began, then projects turn by turn."""

from collections import Counter
from collections.abc import Callable, Iterator


class Begun:
    """Builds of which a stage began. Who listens is told of each that is new (True) or gone (False)."""

    def __init__(self) -> None:
        self._builds: set[int] = set()
        self._listeners: list[Callable[[int, bool], None]] = []

    def add(self, build: int) -> None:
        if build not in self._builds:
            self._builds.add(build)
            self._tell(build, True)

    def discard(self, build: int) -> None:
        if build in self._builds:
            self._builds.discard(build)
            self._tell(build, False)

    def listen(self, listener: Callable[[int, bool], None]) -> None:
        self._listeners.append(listener)

    def _tell(self, build: int, new: bool) -> None:
        for listener in self._listeners:
            listener(build, new)

    def __contains__(self, build: object) -> bool:
        return build in self._builds

    def __iter__(self) -> Iterator[int]:
        return iter(self._builds)

    def __len__(self) -> int:
        return len(self._builds)


class Fair:
    """Knows the projects of builds, how many of each began, and when each was last served."""

    def __init__(self, begun: Begun | None = None) -> None:
        self.begun = Begun() if begun is None else begun
        self.turn = 0
        self.running: Counter[str | None] = Counter()  # builds that began, by project
        self._project: dict[int, str] = {}
        self._counted: dict[int, str | None] = {}  # under which project a build is in `running`
        self._served: dict[str | None, int] = {}  # which turn was a project's last one
        for build in self.begun:
            self._changed(build, True)
        self.begun.listen(self._changed)

    def _changed(self, build: int, new: bool) -> None:
        if new:
            self._counted[build] = self._project.get(build)
            self.running[self._counted[build]] += 1
        elif build in self._counted:
            self._take_off(self._counted.pop(build))

    def _take_off(self, project: str | None) -> None:
        self.running[project] -= 1
        if not self.running[project]:
            del self.running[project]

    def belongs(self, build: int, project: str) -> None:
        """A build of a project is here."""
        self._project[build] = project
        if build in self._counted:
            self._take_off(self._counted[build])
            self._changed(build, True)

    def gone(self, build: int) -> None:
        """It is over."""
        self._project.pop(build, None)

    def project_of(self, build: int) -> str | None:
        """The project that a build belongs to, as far as that was said."""
        return self._project.get(build)

    def served(self, project: str | None) -> int:
        """The turn that was a project's last one, 0: it had none."""
        return self._served.get(project, 0)

    def granted(self, build: int) -> None:
        """A stage of a build got its place."""
        if build not in self.begun and (project := self._project.get(build)) is not None:
            self.turn += 1
            self._served[project] = self.turn
