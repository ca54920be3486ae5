"""A build as a framed table: a title, a line a stage, a foot with counts and ETA."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from mcp_server.cli.stage_choice import Choice, choose, newest_rows
from mcp_server.cli.words import one_line
from mcp_server.config_rules import LOCAL
from mcp_server.model import BuildStatus, Stage, StageSpec, StageStatus
from mcp_server.report import eta_s
from mcp_server.report_parts import SINGLE, counted, errors_and_warnings, not_run, passed_late, queue_words

if TYPE_CHECKING:
    from mcp_server.views import BuildView

WIDE = 96  # columns from which errors and warnings of a stage are written out
ROOMY = 64  # columns from which host, message and the word Stage have room
BAR, SHORT_BAR = 10, 6
TIME = 8  # columns for how long a stage took, with the gap before it
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
    rows: int = 40  # lines for stages; of more than that only those that matter are shown

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
    found = [counted(row) for _, row in newest_rows(view) if row]
    return sum(errors for errors, _ in found), sum(warnings for _, warnings in found)


def name_of(view: "BuildView") -> str:
    """`build 42 · greenhouse · linux`, `build 42 · ccu2-full-build · workspace`."""
    build = view.build
    target = build.target or view.project.target
    pipeline = one_line(build.name, 60) if len(build.plan.stages) > 1 and build.name != SINGLE else ""
    words = (f"build {build.id}", pipeline, one_line(view.project.name, 60), one_line(target, 20) if target else "")
    return " · ".join(word for word in words if word)


def short(seconds: float) -> str:
    """`0.4s`, `45s`, `3m20s`, `1h05m`: at most six columns up to four days."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


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


@dataclass(frozen=True, slots=True)
class _Columns:
    """How wide a stage's number, name and host are; no host where there is no room for it."""

    digits: int
    names: int
    hosts: int


def _columns(choice: Choice, style: Style, inner: int) -> _Columns:
    rows = choice.shown
    digits = len(str(max((number for number, _, _ in rows), default=1)))
    names = min(max((cell_len(one_line(spec.name, 200)) for _, spec, _ in rows), default=0), 20 if style.roomy else 12)
    hosts = min(max((cell_len(_host(spec, row)) for _, spec, row in rows), default=0), 14) if style.roomy else 0
    others = len(_label(1, digits, style)) + names + 2 + (BAR if style.roomy else SHORT_BAR) + 7 + TIME
    return _Columns(digits, names, hosts if others + hosts + 2 <= inner else 0)


def _label(number: int, digits: int, style: Style) -> str:
    return f"Stage {number:>{digits}}: " if style.roomy else f"{number:>{digits}} "


def _stage_lines(view: "BuildView", now: datetime, style: Style, inner: int) -> list[Text]:
    choice = choose(newest_rows(view), style.rows)
    wide = _columns(choice, style, inner)
    lines: list[Text] = []
    for number, spec, row in choice.shown:
        line = Text(f"{_label(number, wide.digits, style)}{_cell(spec.name, wide.names)}  ")
        if wide.hosts:
            line.append(f"{_cell(_host(spec, row), wide.hosts)}  ", "dim")
        line.append_text(_state(row, style, over=not view.build.status.is_open))
        took = stage_s(row, now) if row and row.status is not StageStatus.SKIPPED else None
        right = f" {short(took)}" if took is not None else ""
        over = row is None and not view.build.status.is_open  # it waits for nothing any more
        message = (
            Text("" if over else f"  {_message(view, spec, row, choice, style)}", "dim") if style.roomy else Text()
        )
        message.truncate(max(inner - line.cell_len - len(right), 0), overflow="ellipsis", pad=True)
        lines.append(Text.assemble(line, message, right))
    if choice.hidden:
        lines.append(Text(f"and {choice.hidden}", "dim"))
    return lines


def _host(spec: StageSpec, row: Stage | None) -> str:
    """Where it runs or ran; before that where it may run. Of a workflow's stage here whose part it is."""
    begun = row is not None and row.status not in (StageStatus.WAITING, StageStatus.SKIPPED)
    place = one_line(row.host if row and begun else "|".join((spec.host, *spec.hosts)), 60)
    return spec.role.lower().replace("project_", "") if spec.role and place == LOCAL else place


def _state(row: Stage | None, style: Style, *, over: bool) -> Text:
    """A bar and its per cent, or the state in brackets; equally wide, but for a host that is silent. `over`: the build.

    A stage that was never begun waits as long as its build is open.
    """
    wide = BAR if style.roomy else SHORT_BAR
    if over and row is None:
        return Text(f"{'[not begun]':<{wide + 7}}", "dim")
    status = row.status if row else StageStatus.WAITING
    if row and row.unreachable_since and row.status.is_open:
        text = f"[unreachable since {row.unreachable_since.astimezone():%H:%M}]" if style.roomy else "[no answer]"
        return Text(f"{text:<{wide + 7}}", "yellow")
    if status is StageStatus.SUCCESS:
        text = f"{bar(1, 1, wide, style)} 100%"
    elif status is StageStatus.RUNNING and row and row.progress and row.progress.total > 0:
        done, total = row.progress.done, row.progress.total
        text = f"{bar(done, total, wide, style)} {min(99, 100 * done // total):3d}%"
    else:
        text = f"[{status}]"
    return Text(f"{text:<{wide + 7}}", COLOURS.get(status, ""))


def _message(view: "BuildView", spec: StageSpec, row: Stage | None, choice: Choice, style: Style) -> str:
    if row is None or (row.status is StageStatus.WAITING and row.progress is None):
        after = [name for name in spec.depends_on if name not in choice.passed]
        return one_line(f"after {', '.join(after)}", 200) if after else ""
    if row.status is StageStatus.SKIPPED:
        why = not_run(view, row).removeprefix("not run: ")  # the word beside it says that
        return one_line(spec.skip or why or row.reason or "", 200)
    if not row.status.is_open:
        found = row.verdict.diagnosis if row.verdict else None
        counts = f"E{found.error_count} W{found.warning_count}" if found and any(counted(row)) else ""
        words = (passed_late(row), counts if counts and style.width < WIDE else evidence(view, row))
        return " · ".join(word for word in words if word)
    progress = row.progress
    if progress is None or row.unreachable_since is not None:
        return ""
    steps = f"{progress.done}/{progress.total} " if progress.total else ""
    errors, warnings = progress.errors, progress.warnings
    seen = errors_and_warnings(errors, warnings) if style.width >= WIDE else f"E{errors} W{warnings}"
    seen = seen if errors or warnings else ""
    said = steps + one_line(progress.message, 200)
    return f"{seen} · {said}" if seen and said else seen or said


def evidence(view: "BuildView", row: Stage) -> str:
    """What an attempt came to, in a few words: its counts, else the first line of its verdict."""
    if row.verdict is None:
        ended = f"exit code {row.exit_code}" if row.exit_code else not_run(view, row) or row.reason or ""
        return "" if row.status is StageStatus.SUCCESS else ended
    found = row.verdict.diagnosis
    if found and (found.error_count or found.warning_count):
        return f"errors {found.error_count}, warnings {found.warning_count}"
    return one_line(row.verdict.summary.strip().partition("\n")[0], 200)


def _foot(view: "BuildView", now: datetime, style: Style) -> str:
    errors, warnings = counts(view)
    parts = [f"Errors: {errors}", f"Warnings: {warnings}"]
    if view.build.status is BuildStatus.PENDING and view.blocked_by:
        parts.append(f"waits for build {view.blocked_by[0].build}")
    if view.build.status is BuildStatus.PENDING and (queued := queue_words(view.queue, now)):
        parts.append(one_line(queued, 80))
    if view.idle and not view.queue:
        parts.append(one_line(view.idle, 160))
    left = _left(view, now)
    if left is not None and view.build.status is BuildStatus.RUNNING:
        parts.append(f"ETA: {short(left) if left >= 10 else f'{max(round(left), 1)}s'}")
    if style.roomy or not view.build.status.is_open:
        parts.append(f"{'Elapsed' if view.build.status.is_open else 'Took'}: {short(elapsed_s(view, now))}")
    return ("  " if style.roomy else " ").join(parts)


def _left(view: "BuildView", now: datetime) -> float | None:
    gone = elapsed_s(view, now) - view.elapsed_s
    if view.eta_s is not None:
        return max(view.eta_s - max(gone, 0.0), 0.0)
    return eta_s(dataclasses.replace(view, elapsed_s=elapsed_s(view, now)))


def _cell(text: str, wide: int) -> str:
    cell = Text(one_line(text, 200))
    cell.truncate(wide, overflow="ellipsis", pad=True)
    return cell.plain


def _fit(line: Text, wide: int) -> Text:
    line.truncate(wide, overflow="ellipsis", pad=True)
    return line


def _between(line: Text, side: str) -> Text:
    return Text.assemble((f"{side} ", "dim"), line, (f" {side}", "dim"))
