"""A build as a framed table: a title, a line a stage, a foot with counts and ETA."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from mcp_server.cli.words import one_line
from mcp_server.model import BuildStatus, Stage, StageSpec, StageStatus
from mcp_server.report import duration, eta_s

if TYPE_CHECKING:
    from mcp_server.orchestrator import BuildView

ROOMY = 64  # columns from which host, message and the word Stage have room
BAR, SHORT_BAR = 10, 6
COLOURS = {
    "success": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "waiting": "dim",
    "pending": "dim",
    "skipped": "dim",
}


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    width: int
    ascii: bool = False

    @property
    def roomy(self) -> bool:
        return self.width >= ROOMY


def framed(view: "BuildView", now: datetime, style: Style) -> list[Text]:
    """The frame's lines, none wider than the style's width."""
    inner = style.width - 4
    body = [_fit(line, inner) for line in _stage_lines(view, now, style, inner)]
    foot = _fit(Text(_foot(view, now, style)), inner)
    top, middle, bottom, side, dash = ("+", "+", "+", "|", "-") if style.ascii else ("┌┐", "├┤", "└┘", "│", "─")
    return [
        _title(view, style, top, dash),
        *(_between(line, side) for line in body),
        Text(middle[0] + dash * (style.width - 2) + middle[-1], "dim"),
        _between(foot, side),
        Text(bottom[0] + dash * (style.width - 2) + bottom[-1], "dim"),
    ]


def newest_rows(view: "BuildView") -> list[tuple[StageSpec, Stage | None]]:
    """Each stage of the plan with its newest attempt in the build's round; the fix where it was begun."""
    rows = {row.stage: row for row in sorted(view.stages, key=lambda row: row.attempt) if row.round == view.build.round}
    plan = view.build.plan
    fix = [plan.fix] if plan.fix and plan.fix.name in rows else []
    return [(spec, rows.get(spec.name)) for spec in [*plan.stages, *fix]]


def elapsed_s(view: "BuildView", now: datetime) -> float:
    """Seconds since the build began, or that it took."""
    if view.build.duration is not None:
        return view.build.duration
    return max(0.0, (now - (view.build.started_at or view.build.created_at)).total_seconds())


def stage_s(row: Stage, now: datetime) -> float | None:
    """Seconds that an attempt took or has taken so far; None before it began."""
    if row.started_at is None:
        return None
    return max(0.0, ((row.ended_at or now) - row.started_at).total_seconds())


def counts(view: "BuildView") -> tuple[int, int]:
    """Errors and warnings that the build's round has shown so far."""
    found = [row.verdict.diagnosis for _, row in newest_rows(view) if row and row.verdict and row.verdict.diagnosis]
    return sum(d.error_count for d in found), sum(d.warning_count for d in found)


def name_of(view: "BuildView") -> str:
    """`build 42 · greenhouse · linux`."""
    target = view.build.target or view.project.target
    return " · ".join(
        [f"build {view.build.id}", one_line(view.project.name, 60), *([one_line(target, 20)] if target else [])]
    )


def bar(done: float, total: float, wide: int, style: Style) -> str:
    """`[██████░░░░]`."""
    full, empty = ("#", ".") if style.ascii else ("█", "░")
    filled = min(wide, int(wide * done / total)) if total > 0 else 0
    return f"[{full * filled}{empty * (wide - filled)}]"


def _title(view: "BuildView", style: Style, corners: str, dash: str) -> Text:
    build = view.build
    state = "cancelling" if build.cancel_requested and build.status.is_open else str(build.status)
    rounds = f" · round {build.round} of {build.plan.max_rounds}" if build.plan.max_rounds > 1 and style.roomy else ""
    right = Text(f" {state}{rounds} {dash}", COLOURS.get(build.status, ""))
    left = Text(f"{dash} {name_of(view)} ")
    left.truncate(style.width - 2 - right.cell_len, overflow="ellipsis")
    gap = style.width - 2 - right.cell_len - left.cell_len
    return Text.assemble(corners[0], left, (dash * gap, "dim"), right, corners[-1])


def _stage_lines(view: "BuildView", now: datetime, style: Style, inner: int) -> list[Text]:
    rows = newest_rows(view)
    names = min(max((len(spec.name) for spec, _ in rows), default=0), 20 if style.roomy else 12)
    hosts = min(max((len(spec.host) for spec, _ in rows), default=0), 14)
    lines: list[Text] = []
    for number, (spec, row) in enumerate(rows, 1):
        label = f"Stage {number}: " if style.roomy else f"{number} "
        line = Text(f"{label}{_cell(spec.name, names)}  ")
        if style.roomy:
            line.append(f"{_cell(spec.host, hosts)}  ", "dim")
        line.append_text(_state(row, style))
        took = stage_s(row, now) if row else None
        right = duration(took) if took is not None else ""
        message = Text(f"  {_message(row)}", "dim") if style.roomy and row else Text()
        space = inner - line.cell_len - len(right) - 1
        message.truncate(max(space, 0), overflow="ellipsis", pad=True)
        lines.append(Text.assemble(line, message, " ", right))
    return lines


def _state(row: Stage | None, style: Style) -> Text:
    """A bar and its per cent, or the state in brackets; always equally wide."""
    wide = BAR if style.roomy else SHORT_BAR
    status = row.status if row else StageStatus.WAITING
    if status is StageStatus.SUCCESS:
        text = f"{bar(1, 1, wide, style)} 100%"
    elif status is StageStatus.RUNNING and row and row.progress and row.progress.total > 0:
        done, total = row.progress.done, row.progress.total
        text = f"{bar(done, total, wide, style)} {min(99, 100 * done // total):3d}%"
    else:
        text = f"[{status}]"
    return Text(f"{text:<{wide + 7}}", COLOURS.get(status, ""))


def _message(row: Stage) -> str:
    if row.status.is_open and row.progress:
        steps = f"{row.progress.done}/{row.progress.total} " if row.progress.total else ""
        return steps + one_line(row.progress.message, 200)
    if row.status in (StageStatus.SUCCESS, StageStatus.FAILED, StageStatus.CANCELLED):
        return evidence(row)
    return ""


def evidence(row: Stage) -> str:
    """What an attempt came to, in a few words: its counts, else the first line of its verdict."""
    if row.verdict is None:
        return row.reason or ""
    found = row.verdict.diagnosis
    if found and (found.error_count or found.warning_count):
        return f"errors {found.error_count}, warnings {found.warning_count}"
    return one_line(row.verdict.summary.strip().partition("\n")[0], 200)


def _foot(view: "BuildView", now: datetime, style: Style) -> str:
    errors, warnings = counts(view)
    parts = [f"Errors: {errors}", f"Warnings: {warnings}"]
    if view.build.status is BuildStatus.PENDING and view.blocked_by:
        parts.append(f"waits for build {view.blocked_by[0].build}")
    left = eta_s(dataclasses.replace(view, elapsed_s=elapsed_s(view, now)))
    if left is not None and view.build.status is BuildStatus.RUNNING:
        parts.append(f"ETA: {duration(left)}")
    if style.roomy or not view.build.status.is_open:
        parts.append(f"{'Elapsed' if view.build.status.is_open else 'Took'}: {duration(elapsed_s(view, now))}")
    return ("  " if style.roomy else " ").join(parts)


def _cell(text: str, wide: int) -> str:
    cell = Text(one_line(text, 200))
    cell.truncate(wide, overflow="ellipsis", pad=True)
    return cell.plain


def _fit(line: Text, wide: int) -> Text:
    line.truncate(wide, overflow="ellipsis", pad=True)
    return line


def _between(line: Text, side: str) -> Text:
    return Text.assemble((f"{side} ", "dim"), line, (f" {side}", "dim"))
