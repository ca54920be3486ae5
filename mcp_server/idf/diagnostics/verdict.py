"""From everything found in a log to its diagnosis: failed or not, what caused it, what helps."""

from pathlib import Path

from mcp_server.idf.diagnostics import requirements
from mcp_server.idf.diagnostics.advice import advise
from mcp_server.idf.diagnostics.collect import Collector, finish
from mcp_server.idf.diagnostics.finding import Finding, Rank
from mcp_server.idf.diagnostics.generic import from_lines
from mcp_server.idf.diagnostics.hints import Hints
from mcp_server.idf.diagnostics.paths import Paths
from mcp_server.idf.diagnostics.steps import Step
from mcp_server.idf.diagnostics.text import readable, shorten
from mcp_server.model import Diagnosis

MAX_HINTS = 4
_HINTED = 8  # hints are looked for on this many of the first findings


class Evidence:
    """What a log says about its end, for logs that come without an exit code."""

    def __init__(self) -> None:
        self.failed = False
        self.step_failed = False
        self.complete = False

    def completed(self, paths: Paths) -> None:
        """`Project build complete` was printed."""
        self.complete = True


def conclude(
    found: Collector,
    steps: list[Step],
    tail: list[str],
    *,
    paths: Paths,
    evidence: Evidence,
    exit_code: int | None,
    warnings: int,
    hints: Hints,
    printed_hints: list[str],
    project: Path | None,
) -> Diagnosis:
    """The diagnosis of a finished log. The exit code is not 0, or unknown."""
    ordered = found.ordered(paths)
    if exit_code is None and not _looks_failed(ordered, evidence):
        return Diagnosis(warning_count=warnings)
    causes = [finding for finding in ordered if finding.rank <= Rank.ERROR]
    causes = causes or [finding for finding in ordered if finding.rank == Rank.RESULT]
    count = found.count
    open_steps = [step.finding() for step in steps if not step.explained and (step.speaks or not causes)]
    if causes:
        chosen = [*causes, *open_steps[:3], *_telling_wrappers(ordered, paths)]
    else:
        chosen = _without_causes(ordered, open_steps, tail, exit_code)
        count = 0
    count += len(open_steps) if causes else max(1, sum(f.rank <= Rank.STATED for f in chosen))
    errors = tuple(finish(finding, paths) for finding in chosen)
    return Diagnosis(
        errors=errors,
        error_count=count,
        warning_count=warnings,
        hints=_hints(chosen[:_HINTED], hints, printed_hints, paths, project),
        more_may_follow=evidence.step_failed and any(finding.kind in ("compile", "cmake") for finding in chosen),
    )


def _looks_failed(ordered: list[Finding], evidence: Evidence) -> bool:
    if evidence.failed:
        return True
    worst = min((finding.rank for finding in ordered), default=Rank.LAST)
    return not evidence.complete and worst <= Rank.STATED


def _telling_wrappers(ordered: list[Finding], paths: Paths) -> list[Finding]:
    """`CMake Error at main/CMakeLists.txt:5 (execute_process)` says where the failed script was run from."""
    return [f for f in ordered if f.rank == Rank.WRAPPER and f.file is not None and paths.in_project(f.file)][:2]


def _without_causes(
    ordered: list[Finding], open_steps: list[Finding], tail: list[str], exit_code: int | None
) -> list[Finding]:
    """No rule knew the cause: the failed steps' own words, lines that call themselves errors, wrappers, the last lines."""
    stated = [finding for finding in ordered if finding.rank == Rank.STATED]
    if len(stated) > 4:
        stated = [*stated[-3:], stated[0]]
    chosen = [*open_steps[:3], *stated]
    if not chosen:
        chosen += [finding for finding in ordered if finding.rank == Rank.WRAPPER]
    if not open_steps and (last := from_lines(tail, "")):
        chosen.append(last)
    if not chosen:
        chosen += [finding for finding in ordered if finding.rank == Rank.LAST]
    if not chosen:
        chosen.append(Finding("unknown", f"the command ended with exit code {exit_code} and named no cause"))
    unique: dict[str, Finding] = {}
    for finding in chosen:
        unique.setdefault(finding.message, finding)
    return list(unique.values())


def _hints(
    found: list[Finding], hints: Hints, printed: list[str], paths: Paths, project: Path | None
) -> tuple[str, ...]:
    texts: list[str] = []
    printed_headers = [text for text in printed if " is in component " in text]
    for finding in found:
        build_dirs = _build_dirs(paths, project)
        if requirements.missing_header(finding) and not printed_headers:
            texts += [text for build_dir in build_dirs if (text := requirements.advise(finding, build_dir))][:1]
        if text := advise(finding):
            texts.append(text)
        texts += hints.for_text(finding.raw + ("\n" + finding.source if finding.source else ""))
    texts += printed
    unique: dict[str, str] = {}
    for text in texts:
        clean = shorten(readable(paths.shorten_in(text)), 600)
        unique.setdefault(clean[:60].lower(), clean)
    return tuple(unique.values())[:MAX_HINTS]


def _build_dirs(paths: Paths, project: Path | None) -> list[Path]:
    """Where project_description.json may lie: in the project's build directory, or one that the log names inside it."""
    if project is None:
        return []
    root = project.resolve()
    named = [Path(build) for build in paths.builds]
    return [*(path for path in named if path.is_relative_to(root)), root / "build"]
