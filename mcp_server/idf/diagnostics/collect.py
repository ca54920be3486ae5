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

    def add(self, finding: Finding) -> None:
        key = (finding.kind, finding.file, finding.message)
        known = self._kept.get(key)
        if known is not None:
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
        """By rank, then by step; within a step what lies in the project before what does not."""
        for finding in self._kept.values():
            for place in (finding.file, *(place.file for place in finding.via)):
                if place:
                    paths.guess(place)
        return sorted(self._kept.values(), key=lambda f: (f.rank, f.step, not _is_own(f, paths), f.order))


def _position(finding: Finding) -> str:
    return f"{finding.line}:{finding.column}" if finding.column else f"{finding.line or ''}"


def _is_own(finding: Finding, paths: Paths) -> bool:
    if finding.file is None:
        return True
    return paths.in_project(finding.file) or any(paths.in_project(place.file) for place in finding.via)


def finish(finding: Finding, paths: Paths) -> Diagnostic:
    """The finding as others see it: at the user's own line where the tool named one, paths short."""
    notes = [_note(note, paths) for note in finding.notes]
    file, line, column, source = finding.file, finding.line, finding.column, finding.source
    own = _own_place(finding, paths)
    foreign = file is not None and not paths.in_project(file)
    if foreign and own is not None:
        if finding.kind != "cmake":
            at = f"{paths.short(file or '')}:{line}" if line else paths.short(file or "")
            notes.insert(0, f"in {at}: {source}" if source and finding.kind == "compile" else f"in {at}")
        file, line, column, source = own.file, own.line, own.column, None
    elif foreign and finding.kind == "cmake":
        file, line, column = None, None, None
    elif (
        own is not None
        and file is not None
        and finding.kind == "compile"
        and paths.short(own.file) != paths.short(file)
    ):
        notes.append(f"{own.what or 'from'} {paths.short(own.file)}:{own.line}")
    if finding.also:
        notes.append("also at " + ", ".join(finding.also))
    if finding.subject and file is None and "CMakeFiles/" not in finding.subject and finding.subject != "build.ninja":
        notes.append(f"while making {paths.short(finding.subject)}")
    return Diagnostic(
        severity="error",
        kind=finding.kind,
        message=shorten(readable(paths.shorten_in(finding.message)), 600) or finding.kind,
        file=paths.short(file) if file else None,
        line=line,
        column=column,
        source=shorten(readable(source), 200) if source else None,
        notes=tuple(shorten(readable(paths.shorten_in(note)), 240) for note in notes[:8] if note),
        count=finding.count,
    )


def _own_place(finding: Finding, paths: Paths) -> Place | None:
    """The place in the project that led to the error. `CMakeLists.txt:5 (project)` leads to every error: it tells nothing."""
    own = [place for place in finding.via if paths.in_project(place.file)]
    if finding.kind == "cmake":
        return next((place for place in own if place.what not in ("project", "include")), None)
    users = [place for place in own if not place.what.startswith("included")]
    return next(iter(users or own), None)


def _note(note: str, paths: Paths) -> str:
    file, _, rest = note.partition("\0")
    line, _, text = rest.partition("\0")
    return f"{paths.short(file)}{':' + line if line else ''}: {text}" if file else text
