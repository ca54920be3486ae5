"""From everything found in a log to its diagnosis: failed or not, what caused it, what helps."""

import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.idf.diagnostics import manifest, requirements
from mcp_server.idf.diagnostics.advice import advise
from mcp_server.idf.diagnostics.collect import Collector, finish
from mcp_server.idf.diagnostics.finding import Finding, Rank
from mcp_server.idf.diagnostics.generic import from_lines
from mcp_server.idf.diagnostics.hints import Hints
from mcp_server.idf.diagnostics.paths import Paths
from mcp_server.idf.diagnostics.steps import Step
from mcp_server.idf.diagnostics.text import decode, readable, shorten
from mcp_server.model import Diagnosis, Diagnostic

MAX_HINTS = 4
MAX_WARNINGS = 20  # distinct ones that are listed; all are counted
TAIL_LINES = 60  # where nothing else tells the cause, the last lines must
_CONFIG = re.compile(r"\bCONFIG_(\w{1,100})")
_MAKE_AT = re.compile(r"^\[(?P<file>[^:\]]{1,300}):(?P<line>\d{1,6}): (?P<target>[^\]]{1,200})\] (?P<how>.{1,80})$")
_OF_IDF = re.compile(r"ESP-IDF|idf\.py|menuconfig|SRCS|REQUIRES|IRAM|sdkconfig|CONFIG_")  # advice for its projects only
_HINTED = 8  # hints are looked for on this many of the first findings


@dataclass
class Reading:
    """What was read of a log so far. All of it is bounded."""

    paths: Paths
    found: Collector = field(default_factory=Collector)
    steps: list[Step] = field(default_factory=list[Step])
    tail: deque[bytes] = field(default_factory=lambda: deque[bytes](maxlen=TAIL_LINES))
    warnings: int = 0
    hints: dict[str, None] = field(default_factory=dict[str, None])  # printed ones
    remarks: dict[str, None] = field(default_factory=dict[str, None])
    failed_in: set[str] = field(default_factory=set[str])  # build directories whose build failed for good
    complete: bool = False
    foreign: bool = False  # another build tool than idf.py is at work
    warned: dict[tuple[str | None, int | None, str], Finding] = field(
        default_factory=dict[tuple[str | None, int | None, str], Finding]
    )

    def keep_warning(self, warning: Finding) -> None:
        """The first distinct warnings, each with how often it came."""
        key = (warning.file, warning.line, warning.message)
        if known := self.warned.get(key):
            known.count += 1
        elif len(self.warned) < MAX_WARNINGS:
            self.warned[key] = warning

    def told_warnings(self) -> tuple[Diagnostic, ...]:
        told = (finish(warning, self.paths) for warning in self.warned.values())
        return tuple(one.model_copy(update={"severity": "warning"}) for one in told)


def conclude(reading: Reading, exit_code: int | None, hints: Hints, project: Path | None) -> Diagnosis:
    """The diagnosis of a finished log. The exit code is not 0, or unknown."""
    paths, steps = reading.paths, reading.steps
    ordered = reading.found.ordered(paths)
    if exit_code is None and not _looks_failed(ordered, reading):
        return Diagnosis(warning_count=reading.warnings, warnings=reading.told_warnings())
    causes = [finding for finding in ordered if finding.rank <= Rank.ERROR]
    causes = causes or [finding for finding in ordered if finding.rank == Rank.RESULT]
    told_in = {finding.step for finding in ordered if finding.rank <= Rank.STATED}
    silent = [step for step in steps if not step.explained and not step.speaks and step.number not in told_in]
    speaking = [step for step in steps if not step.explained and step.speaks]
    open_steps = [step.finding() for step in (speaking if causes else [*speaking, *silent])]
    if causes:
        chosen = [*causes, *open_steps[:3], *_telling_wrappers(ordered, paths)]
        count = reading.found.count + len(open_steps)
    else:
        chosen = _without_causes(ordered, open_steps, [decode(line) for line in reading.tail], exit_code)
        chosen += [wrapper for wrapper in _telling_wrappers(ordered, paths) if wrapper not in chosen]
        count = max(1, sum(finding.rank <= Rank.STATED for finding in chosen))
    told = [*_recall(chosen, ordered, list(reading.remarks)), *reading.hints]
    errors = tuple(finish(finding, paths) for finding in chosen)
    return Diagnosis(
        errors=errors,
        error_count=count,
        warning_count=reading.warnings,
        warnings=reading.told_warnings(),
        hints=_hints(chosen[:_HINTED], hints, told, paths, project, idf=not reading.foreign or bool(paths.idf)),
        more_may_follow=bool(steps) and any(finding.kind in ("compile", "cmake") for finding in chosen),
    )


def _looks_failed(ordered: list[Finding], reading: Reading) -> bool:
    """By a log without an exit code: it says so, or it has errors and never says that the build is complete."""
    if reading.failed_in:
        return True
    first = min((finding.rank for finding in ordered if not finding.earlier), default=Rank.LAST)
    return not reading.complete and first <= Rank.STATED


def _telling_wrappers(ordered: list[Finding], paths: Paths) -> list[Finding]:
    """`CMake Error at main/CMakeLists.txt:5 (execute_process)` says where the failed script was run from."""
    return [f for f in ordered if f.rank == Rank.WRAPPER and f.file is not None and paths.in_project(f.file)][:2]


def _without_causes(
    ordered: list[Finding], open_steps: list[Finding], tail: list[str], exit_code: int | None
) -> list[Finding]:
    """No rule knew the cause: the failed steps' own words, lines that call themselves errors, the last lines."""
    stated = [finding for finding in ordered if finding.rank == Rank.STATED]
    if len(stated) > 4:
        stated = [*stated[-3:], stated[0]]
    chosen = [*open_steps[:3], *stated]
    if not chosen:
        chosen += [finding for finding in ordered if finding.rank == Rank.WRAPPER]
    if not open_steps and (last := from_lines(tail, "")):
        chosen.append(_made(ordered, last))
    if not chosen:
        chosen += [finding for finding in ordered if finding.rank == Rank.LAST]
    if not chosen:
        chosen.append(Finding("unknown", f"the command ended with exit code {exit_code} and named no cause"))
    unique: dict[str, Finding] = {}
    for finding in chosen:
        unique.setdefault(finding.message, finding)
    return list(unique.values())


def _made(ordered: list[Finding], last: Finding) -> Finding:
    """The rule of the innermost make that failed, where the last words are no error: with them as notes."""
    makes = sorted((finding for finding in ordered if finding.kind == "make"), key=lambda finding: finding.order)
    found = next((at for finding in makes if (at := _MAKE_AT.search(finding.message))), None)
    if last.rank <= Rank.STATED or found is None:
        return last
    text = f"make {found['target']}: {found['how']}"
    notes = [*last.notes, f"\0\0{last.message}"][-3:]
    return Finding("make", text, Rank.LAST, file=found["file"], line=int(found["line"]), notes=notes, raw=makes[0].raw)


def _hints(
    found: list[Finding], hints: Hints, printed: list[str], paths: Paths, project: Path | None, *, idf: bool
) -> tuple[str, ...]:
    texts: list[str] = []
    printed_headers = [text for text in printed if " is in component " in text]
    for finding in found:
        build_dirs = _build_dirs(paths, project)
        if requirements.missing_header(finding) and not printed_headers:
            texts += [text for build_dir in build_dirs if (text := requirements.advise(finding, build_dir))][:1]
        if project is not None and (text := manifest.advise(finding, project)):
            texts.append(text)
        if (text := advise(finding)) and (idf or not _OF_IDF.search(text)):
            texts.append(text)
        texts += hints.for_text(finding.raw + ("\n" + finding.source if finding.source else ""))
    texts += printed
    unique: dict[str, str] = {}
    for text in texts:
        clean = shorten(readable(paths.shorten_in(text)), 600)
        unique.setdefault(clean[:60].lower(), clean)
    return tuple(unique.values())[:MAX_HINTS]


def _recall(chosen: list[Finding], ordered: list[Finding], remarks: list[str]) -> list[str]:
    """Remarks that explain an error: a failed kconfgen's as notes, one on a CONFIG_ that the compiler misses."""
    if any(finding.kind == "kconfig" for finding in chosen) or any("kconfgen" in finding.raw for finding in ordered):
        chosen[0].notes += [f"\0\0{text}" for text in remarks[:3]]
        return []
    missed = {name for finding in chosen[:_HINTED] for name in _CONFIG.findall(finding.message)}
    return [text for text in remarks if any(f"'{name}'" in text or f" {name} " in text for name in missed)][:2]


def _build_dirs(paths: Paths, project: Path | None) -> list[Path]:
    """Where project_description.json may lie: in the project's build directory, or one that the log names inside it."""
    if project is None:
        return []
    root = project.resolve()
    named = [Path(build) for build in paths.builds]
    return [*(path for path in named if path.is_relative_to(root)), root / "build"]
