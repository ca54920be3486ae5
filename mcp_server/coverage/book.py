"""Adds up what reports say of each source, line by line, so that what several of them say counts once. Bounded."""

import posixpath
import re
from collections.abc import Sequence
from typing import TypeVar

from mcp_server.model import Model

WORST_FILES = 50  # kept of a stage; the totals are of all
PATH_CHARS = 300
NAME_CHARS = 300
MAX_SOURCES = 20_000
MAX_LINE = 1_000_000
MAX_LINES = 32_000_000  # over all sources, a byte each
MAX_PARTS = 500_000  # branches and functions over all sources; about 100 bytes each
MAX_BRANCHES = 1000  # of a line

KNOWN, RAN = 1, 2  # of a line
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

Key = TypeVar("Key")


class Covered(Model):
    """How much of something was run."""

    covered: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.covered / self.total if self.total else 100.0


class FileCoverage(Model):
    """One source, by its path in the project where it lies inside; None: the report does not tell."""

    file: str
    lines: Covered
    branches: Covered | None = None
    functions: Covered | None = None


class Coverage(Model):
    """All reports of a stage together. `files` are those with the most lines that were not run, of `file_count`.

    `sources` are the reports that were read, `note` says in a sentence what was not.
    """

    lines: Covered
    branches: Covered | None = None
    functions: Covered | None = None
    files: tuple[FileCoverage, ...] = ()
    file_count: int = 0
    sources: tuple[str, ...] = ()
    note: str = ""


class Full(Exception):
    """A report holds more than is kept; its sentence says of what."""


def shown(text: str) -> str:
    """A name from outside as any database and reader takes it: without control characters and half letters."""
    return _UNSHOWN.sub("\ufffd", text)


class Source:
    """What is known of one source. Branches and functions are kept by format, as each tool counts them differently."""

    def __init__(self, room: "Room") -> None:
        self.lines = bytearray()
        self.branches: dict[str, dict[int, bool]] = {}
        self.functions: dict[str, dict[str, bool]] = {}
        self._room = room
        self._counted: dict[int, int] = {}

    def line(self, number: int, *, ran: bool) -> None:
        """A line that can be run; whatever is outside of any source is left out."""
        if not 0 < number <= MAX_LINE:
            return
        if (more := number + 1 - len(self.lines)) > 0:
            self._room.take_lines(more)
            self.lines.extend(bytes(more))
        self.lines[number] |= KNOWN | RAN if ran else KNOWN

    def branch(self, form: str, line: int, at: int, *, taken: bool) -> None:
        """One of the ways on from a line: the `at`th."""
        if 0 < line <= MAX_LINE and 0 <= at < MAX_BRANCHES:
            self._add(self.branches.setdefault(form, {}), line * MAX_BRANCHES + at, taken)

    def next_branch(self, form: str, line: int, *, taken: bool) -> None:
        """The next way on from a line, where a report lists them one after the other."""
        at = self._counted.get(line, 0)
        self._counted[line] = at + 1
        self.branch(form, line, at, taken=taken)

    def function(self, form: str, name: str, *, ran: bool) -> None:
        """A function by the name its tool gives it."""
        self._add(self.functions.setdefault(form, {}), name[:NAME_CHARS], ran)

    def _add(self, found: dict[Key, bool], key: Key, holds: bool) -> None:
        if key not in found:
            self._room.take_part()
        found[key] = found.get(key, False) or holds

    def merge(self, other: "Source") -> None:
        """What another report says of it, too."""
        if (more := len(other.lines) - len(self.lines)) > 0:
            self._room.take_lines(more)
            self.lines.extend(bytes(more))
        size = len(self.lines)
        both = int.from_bytes(self.lines, "little") | int.from_bytes(other.lines, "little")
        self.lines = bytearray(both.to_bytes(size, "little"))
        for form, branches in other.branches.items():
            for key, taken in branches.items():
                self._add(self.branches.setdefault(form, {}), key, taken)
        for form, functions in other.functions.items():
            for name, ran in functions.items():
                self._add(self.functions.setdefault(form, {}), name, ran)

    def covered(self, file: str) -> FileCoverage:
        """Its counts; of branches and functions those of the format that found most."""
        ran = self.lines.count(KNOWN | RAN)
        branches = max(map(_count, self.branches.values()), key=_total, default=None)
        functions = max(map(_count, self.functions.values()), key=_total, default=None)
        lines = Covered(covered=ran, total=ran + self.lines.count(KNOWN))
        return FileCoverage(file=file, lines=lines, branches=branches, functions=functions)


class Room:
    """How much is still kept of all reports."""

    def __init__(self) -> None:
        self._lines, self._parts = MAX_LINES, MAX_PARTS

    def take_lines(self, count: int) -> None:
        """Full: there are too many."""
        self._lines -= count
        if self._lines < 0:
            raise Full(f"more than {MAX_LINES:,} lines of sources")

    def take_part(self) -> None:
        """Room for a branch or a function. Full: there are too many."""
        self._parts -= 1
        if self._parts < 0:
            raise Full(f"more than {MAX_PARTS:,} branches and functions")


class Book:
    """Sources by their path. `root` is the folder that the paths are told from, absolute on the host of the stage."""

    def __init__(self, root: str) -> None:
        self.root = posixpath.normpath(root or "/")
        self._room = Room()
        self.sources: dict[str, Source] = {}

    def source(self, path: str, base: str = "") -> Source:
        """The source of this path, which is told from `base` where it is relative. Full: too many sources."""
        name = self._named(path, base)
        found = self.sources.get(name)
        if found is None:
            if len(self.sources) >= MAX_SOURCES:
                raise Full(f"more than {MAX_SOURCES:,} sources")
            found = self.sources[name] = Source(self._room)
        return found

    def _named(self, path: str, base: str) -> str:
        below = self.root.rstrip("/") + "/"
        whole = posixpath.normpath(posixpath.join(below, base, path)).replace("//", "/")
        if not whole.startswith(below) and not path.startswith("/") and not base.startswith("/"):
            # Told from a folder that nobody knows, such as where the compiler ran: what it lies in is the project.
            whole = below + posixpath.normpath(path).lstrip("./")
        return shown(whole.removeprefix(below)[-PATH_CHARS:])

    def unfinished(self) -> Source:
        """A source that is not in the book yet: `add` puts it there once all of it was read."""
        return Source(self._room)

    def add(self, path: str, found: Source, base: str = "") -> None:
        """What a report says of a source, which is this book's from then on. Full: too many sources."""
        name = self._named(path, base)
        if name in self.sources:
            self.sources[name].merge(found)
        elif len(self.sources) >= MAX_SOURCES:
            raise Full(f"more than {MAX_SOURCES:,} sources")
        else:
            self.sources[name] = found

    def merge(self, other: "Book") -> None:
        """Everything that another book of the same root has."""
        for name, source in other.sources.items():
            self.source(name).merge(source)

    def coverage(self, sources: Sequence[str], note: str) -> Coverage | None:
        """All together; None: no source has a line that can be run."""
        every = [source.covered(name) for name, source in self.sources.items()]
        files = [one for one in every if one.lines.total]
        if not files:
            return None
        files.sort(key=lambda one: (one.lines.covered - one.lines.total, one.lines.percent, one.file))
        return Coverage(
            lines=_sum([one.lines for one in files]) or Covered(covered=0, total=0),
            branches=_sum([one.branches for one in files]),
            functions=_sum([one.functions for one in files]),
            files=tuple(files[:WORST_FILES]),
            file_count=len(files),
            sources=tuple(sources),
            note=note,
        )


def _count(found: dict[int, bool] | dict[str, bool]) -> Covered:
    return Covered(covered=sum(found.values()), total=len(found))


def _total(found: Covered) -> int:
    return found.total


def _sum(found: Sequence[Covered | None]) -> Covered | None:
    known = [one for one in found if one is not None]
    if not known:
        return None
    return Covered(covered=sum(one.covered for one in known), total=sum(one.total for one in known))
