"""Keeps the first findings of a log, folds the same ones, counts them all, and puts the causes first."""

from mcp_server.idf.diagnostics.finding import Finding, Place, Rank
from mcp_server.idf.diagnostics.paths import Paths
from mcp_server.idf.diagnostics.text import readable, shorten
from mcp_server.model import Diagnostic

MAX_KEPT = 50
PRINT_EVERY_CASE = ("compile", "link")  # each case counts; of other tools only different texts do


class Collector:
    """Findings of one run, at most MAX_KEPT; `count` is exact."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Rank, 0)
        self._kept: dict[tuple[str, str | None, str], Finding] = {}
        self._order = 0

    @property
    def count(self) -> int:
        """Errors so far: causes, or what follows from them where they are not there."""
        return self.counts[Rank.ROOT] + self.counts[Rank.ERROR] or self.counts[Rank.RESULT]

    def clear(self) -> None:
        self.counts = dict.fromkeys(Rank, 0)
        self._kept.clear()

    def set_back(self) -> None:
        """What comes from now on is told first, as more likely the cause."""
        for finding in self._kept.values():
            finding.earlier = True

    def add(self, finding: Finding) -> None:
        key = (finding.kind, finding.file, finding.message)
        known = self._kept.get(key)
        if known is not None:
            known.earlier = False
            if finding.kind in PRINT_EVERY_CASE:
                self.counts[known.rank] += 1
                known.count += 1
                position = _position(finding)
                if position and position != _position(known) and position not in known.also and len(known.also) < 4:
                    known.also.append(position)
            return
        self.counts[finding.rank] += 1
        self._order += 1
        finding.order = self._order
        if len(self._kept) >= MAX_KEPT:
            worst = max(self._kept.items(), key=lambda item: (item[1].rank, item[1].order))
            if worst[1].rank <= finding.rank:
                return
            del self._kept[worst[0]]
        self._kept[key] = finding

    def __len__(self) -> int:
        return len(self._kept)

    def ordered(self, paths: Paths) -> list[Finding]:
        """By rank, the last action's first, then by step; within a step the project's own before others'."""
        for finding in self._kept.values():
            for place in (finding.file, *(place.file for place in finding.via)):
                if place:
                    paths.guess(place)
        return sorted(self._kept.values(), key=lambda f: (f.rank, f.earlier, f.step, not _is_own(f, paths), f.order))


def _position(finding: Finding) -> str:
    return f"{finding.line}:{finding.column}" if finding.column else f"{finding.line or ''}"


def _is_own(finding: Finding, paths: Paths) -> bool:
    if finding.file is None:
        return True
    return paths.in_project(finding.file) or _own_place(finding, paths) is not None


def finish(finding: Finding, paths: Paths) -> Diagnostic:
    """The finding as others see it: at the user's own line where the tool named one, paths short."""
    notes = [_note(note, paths) for note in finding.notes]
    place, source = _told_place(finding, paths, notes)
    if finding.also:
        notes.append("also at " + ", ".join(finding.also))
    if finding.subject and place is None and "CMakeFiles/" not in finding.subject and finding.subject != "build.ninja":
        notes.append(f"while making {paths.short(finding.subject)}")
    return Diagnostic(
        severity="error",
        kind=finding.kind,
        message=shorten(readable(paths.shorten_in(finding.message)), 600) or finding.kind,
        file=paths.short(place.file) if place else None,
        line=place.line if place else None,
        column=place.column if place else None,
        source=_window(source, finding.column),
        notes=tuple(shorten(readable(paths.shorten_in(note)), 240) for note in notes[:8] if note),
        count=finding.count,
    )


def _told_place(finding: Finding, paths: Paths, notes: list[str]) -> tuple[Place | None, str | None]:
    """Where the error is for a reader, and its source line; the other end of the way there goes into `notes`."""
    if finding.file is None:
        return None, finding.source
    place = Place(finding.file, finding.line, finding.column)
    foreign = not paths.in_project(place.file) or (finding.kind == "cmake" and place.file.startswith("../"))
    own = _own_place(finding, paths)
    if foreign and finding.kind == "cmake":
        return own, None
    if foreign and own is not None:
        at = f"in {_write(place, paths)}"
        notes.insert(0, f"{at}: {finding.source}" if finding.source and finding.kind == "compile" else at)
        return own, None
    user = own or _includer(finding, paths)
    if finding.kind == "compile" and user is not None and paths.short(user.file) != paths.short(place.file):
        notes.insert(0 if foreign else len(notes), f"{user.what or 'from'} {_write(user, paths)}")
    return place, finding.source


def _write(place: Place, paths: Paths) -> str:
    return f"{paths.short(place.file)}:{place.line}" if place.line else paths.short(place.file)


def _own_place(finding: Finding, paths: Paths) -> Place | None:
    """The place in the project that led to the error. `CMakeLists.txt:5 (project)` leads to all: it tells nothing."""
    own = [place for place in finding.via if paths.in_project(place.file)]
    if finding.kind == "cmake":
        told = (place for place in own if place.what not in ("project", "include") and not place.file.startswith("../"))
        return next(told, None)
    return next((place for place in own if not place.what.startswith("included")), None)


def _includer(finding: Finding, paths: Paths) -> Place | None:
    """The project's file that includes the one with the error, if that is another."""
    own = (place for place in finding.via if place.what.startswith("included") and paths.in_project(place.file))
    return next((place for place in own if place.file != finding.file), None)


def _window(source: str | None, column: int | None) -> str | None:
    """A long source line as the part around the error's column."""
    if not source:
        return None
    plain = source.lstrip()
    column = column - (len(source) - len(plain)) if column else None
    source = plain
    if column and len(source) > 100:
        start = max(0, min(column - 60, len(source) - 100))
        source = ("…" if start else "") + source[start : start + 100] + ("…" if start + 100 < len(source) else "")
    return shorten(readable(source), 200)


def _note(note: str, paths: Paths) -> str:
    file, _, rest = note.partition("\0")
    line, _, text = rest.partition("\0")
    return f"{paths.short(file)}{':' + line if line else ''}: {text}" if file else text
