"""What a code agent is told of a failed round: the verdict, the lines around, what was changed and tried; bounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.agents.permission import Policy
from mcp_server.idf.diagnostics import render
from mcp_server.idf.installation import read_text
from mcp_server.model import Stage, StageStatus
from mcp_server.text import clip, one_line, size

MAX_BYTES = 24_000  # about 6,000 tokens
VERDICT_BYTES = 5_000
DIFF_BYTES = 8_000
TRIED_BYTES = 2_000
PLACES = 6  # whose lines are shown
AROUND = 8  # lines before and after
MAX_LINE = 300
MAX_SOURCE_BYTES = 1_000_000

TASK = """\
You mend a project that does not build or does not pass its tests. You work alone, in {folder}, a copy that was made for
this: edit files there and nowhere else. When you have made your change, stop: it is built and tested then, and if it
still fails you are told of what. Nothing that you say counts, only the files you leave.

Make the smallest change that removes the first cause. Leave formatting, names and comments alone that have nothing to
do with it. Never remove, skip or weaken a test, an assertion or an error check; never switch a warning off instead of
mending the code. ESP-IDF itself, managed_components/ and build/ are not the project's source."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to: its rows, and the fix that followed it, if one did."""

    number: int
    rows: Sequence[Stage]
    fix: Stage | None = None


@dataclass(frozen=True, slots=True)
class Brief:
    """Everything that may go into a prompt. `diff` is that of the copy so far, `allowed` the globs of its files."""

    folder: Path
    rounds: Sequence[Round]
    of: int
    diff: str = ""
    allowed: Sequence[str] = ()
    commands: Sequence[str] = ()
    wish: str = ""


def prompt(brief: Brief) -> str:
    """The prompt of a fix, at most MAX_BYTES: what is less needed goes first where it is too much. Reads sources."""
    last = brief.rounds[-1]
    parts = [TASK.format(folder=brief.folder), _limits(brief)]
    if brief.wish:
        parts.append(f"# What the project is to become\n\n{clip(brief.wish, DIFF_BYTES)}")
    parts.append(f"# What failed in round {last.number} of {brief.of}\n\n{_verdicts(last.rows)}")
    if brief.diff:
        parts.append(f"# Changed so far\n\n{clip(brief.diff, DIFF_BYTES)}")
    if tried := _tried(brief.rounds):
        parts.append(f"# What was tried\n\n{clip(tried, TRIED_BYTES)}")
    room = MAX_BYTES - sum(size(part) + 2 for part in parts)
    if around := _around(brief.folder, last.rows, room - 30):
        parts.insert(-1 if len(parts) > 3 else len(parts), f"# The lines around\n\n{around}")
    return clip("\n\n".join(part for part in parts if part), MAX_BYTES)


def _limits(brief: Brief) -> str:
    files = ", ".join(brief.allowed) or "any file of the project"
    commands = ", ".join(brief.commands) or "none"
    return f"Files you may change: {files}. Commands you may run: {commands}."


def _failed(rows: Sequence[Stage]) -> Sequence[Stage]:
    found = [row for row in rows if row.status is StageStatus.FAILED]
    return [row for row in found if row.kind != "qa"] or found


def _verdicts(rows: Sequence[Stage]) -> str:
    told: list[str] = []
    failed = _failed(rows)
    for row in failed:
        told.append(f"stage {row.stage} ({row.kind}): {_verdict(row, VERDICT_BYTES // max(1, len(failed)))}")
    return clip("\n\n".join(told) or "nothing is recorded of it", VERDICT_BYTES)


def _verdict(row: Stage, room: int) -> str:
    verdict = row.verdict
    if verdict is None:
        return row.reason or "failed"
    if verdict.diagnosis and verdict.diagnosis.errors:
        hints = "".join(f"\nhint: {hint}" for hint in verdict.diagnosis.hints[:3])
        return f"{one_line(verdict.summary, 300)}\n{render(verdict.diagnosis, room, build=None)}{hints}".strip()
    panic = verdict.details.get("panic_report")
    if isinstance(panic, list | tuple):
        return "\n".join(str(line) for line in panic)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if issues := verdict.details.get("issues"):
        return "\n".join([verdict.summary, *(f"  {_issue(issue)}" for issue in issues[:20])])
    lines = verdict.details.get("last_lines")
    last = [str(line) for line in lines] if isinstance(lines, list | tuple) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return "\n".join([verdict.summary, *(f"  {line}" for line in last[-12:])])


def _issue(issue: Mapping[str, Any]) -> str:
    place = f"{issue['file']}:{issue.get('line', '')} " if issue.get("file") else ""
    return one_line(f"{issue.get('severity')}: {place}{issue.get('message')} {issue.get('evidence', '')}".strip(), 300)


def _places(rows: Sequence[Stage]) -> list[tuple[str, int]]:
    """Files and lines that the verdicts name, the first causes first."""
    found: dict[tuple[str, int], None] = {}
    for row in [*_failed(rows), *(row for row in rows if row.kind == "qa")]:
        verdict = row.verdict
        for error in verdict.diagnosis.errors if verdict and verdict.diagnosis else ():
            if error.file and error.line:
                found[error.file, error.line] = None
        issues = verdict.details.get("issues", ()) if verdict else ()
        for issue in issues:
            if issue.get("file") and issue.get("line") and issue.get("severity") == "error":
                found[str(issue["file"]), int(issue["line"])] = None
    return list(found)[:PLACES]


def _around(folder: Path, rows: Sequence[Stage], room: int) -> str:
    """Numbered lines around each place, as many places as fit; nothing from outside the folder."""
    told: list[str] = []
    for name, line in _places(rows):
        if Policy(folder).may_touch(name) is not None:
            continue
        text = read_text(folder / name, MAX_SOURCE_BYTES)
        if text is None:
            continue
        lines = text.splitlines()
        first, last = max(1, line - AROUND), min(len(lines), line + AROUND)
        shown = [f"{n:>5} | {lines[n - 1][:MAX_LINE]}" for n in range(first, last + 1)]
        part = "\n".join([f"{name}:", *shown])
        if size(part) + 2 > room:
            break
        room -= size(part) + 2
        told.append(part)
    return "\n\n".join(told)


def _tried(rounds: Sequence[Round]) -> str:
    """One line for each round that was fixed before."""
    told: list[str] = []
    for one in rounds:
        if one.fix is None or one.fix.verdict is None:
            continue
        failed = _failed(one.rows)
        cause = one_line(_verdict(failed[0], 300), 200) if failed else "?"
        told.append(f"round {one.number} failed: {cause}; then: {one_line(one.fix.verdict.summary, 300)}")
    return "\n".join(told)
