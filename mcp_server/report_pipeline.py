"""Builds of many stages for a model or a pipe: what each stage came to, what runs where, what is still to come.

May import: model, text and other reports. Never: store, engine, hosts, a front.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp_server import report_parts as parts
from mcp_server.model import Stage, StageSpec, StageStatus
from mcp_server.text import clip, duration, one_line, size

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.views import BuildView

LINE_BYTES = 240  # of the line that names the stages; more of them are counted
MOST_RUNNING = 8  # lines of a build under way
_FIRST = {"failed": 0, "cancelled": 1, "running": 2, "waiting": 3, "success": 4, "skipped": 5}


def stages_line(view: "BuildView", limit: int = LINE_BYTES) -> str:
    """`image success 45 min · host-build failed exit 1 · test not run: host-build failed`; counts where too long."""
    words = [_word(view, spec, row) for spec, row in states(view)]
    whole = " · ".join(words)
    if size(whole) <= limit:
        return whole
    count = Counter(_status(row) for _, row in states(view))
    line = f"{len(words)} stages: " + ", ".join(f"{number} {status}" for status, number in _by_weight(count))
    late = sum(bool(row and parts.passed_late(row)) for _, row in states(view))
    line += f" ({late} on a later attempt)" if late else ""
    bad = [word for word, (_, row) in zip(words, states(view), strict=True) if _status(row) == "failed"]
    return clip(" · ".join([line, *bad]), limit)


def states(view: "BuildView") -> Sequence[tuple[StageSpec, Stage | None]]:
    """Each stage of the plan with its newest attempt in the build's round."""
    rows = parts.newest(view)
    return [(spec, rows.get(spec.name)) for spec in view.build.plan.stages]


def part_done(view: "BuildView") -> tuple[float, int]:
    """Stages that are over, a running one for as much as its steps say, of all stages."""
    found = states(view)
    return sum(_part(row) for _, row in found), len(found)


def under_way(view: "BuildView", left: str) -> Sequence[str]:
    """The head, a line for each stage that runs or waits for a host, and what comes next."""
    found = states(view)
    over = sum(row is not None and not row.status.is_open for _, row in found)
    failed = sum(_status(row) == "failed" for _, row in found)
    seen = parts.errors_and_warnings(*parts.totals(view))
    done = f"{over} of {len(found)} stages done" + (f", {failed} failed" if failed else "")
    lines = [parts.head(view, "running", done, seen, left)]
    going = [row for _, row in found if row and row.status is StageStatus.RUNNING]
    held = [row for _, row in found if row and row.status is StageStatus.WAITING and row.progress]
    for row in [*going, *held][:MOST_RUNNING]:
        lines.append(now_line(row))
    if len(going) + len(held) > MOST_RUNNING:
        lines.append(f"and {len(going) + len(held) - MOST_RUNNING} more under way")
    shown = {row.stage for row in [*going, *held]}
    coming = [spec for spec, row in found if spec.name not in shown and (row is None or row.status.is_open)]
    if coming:
        lines.append(one_line("then " + ", ".join(spec.name for spec in coming), 160))
    return lines


def now_line(row: Stage) -> str:
    """`yocto-image on yocto-builder: 412/1043 do_compile · 2 warnings`, or since when its host does not answer."""
    progress = row.progress
    steps = f"{progress.done}/{progress.total} " if progress and progress.total else ""
    said = one_line(f"{steps}{progress.message if progress else ''}", 120)
    state = "" if row.status is StageStatus.RUNNING else "waits"
    seen = parts.errors_and_warnings(*parts.counted(row))
    words = [word for word in (parts.unreachable(row), state, said, seen) if word]
    place = f" on {row.host}" if row.host != "local" else ""
    return one_line(f"{row.stage}{place}: {' · '.join(words) or 'running'}", 240)


def progress_line(view: "BuildView", left: str) -> str:
    """`1/3 stages · yocto-image 412/1043, host-build · 12 warnings · about 90 s left`, for a progress bar."""
    found = states(view)
    over = sum(row is not None and not row.status.is_open for _, row in found)
    names: list[str] = []
    for row in parts.running(view)[:4]:
        steps = f" {row.progress.done}/{row.progress.total}" if row.progress and row.progress.total else ""
        names.append(f"{row.stage}{steps}" + (f" ({gone})" if (gone := parts.unreachable(row)) else ""))
    seen = parts.errors_and_warnings(*parts.totals(view))
    words = (f"{over}/{len(found)} stages", ", ".join(names), seen, left)
    return one_line(" · ".join(word for word in words if word), 200)


def stage_lines(view: "BuildView") -> Sequence[str]:
    """A line an attempt, then a line for each stage that was not begun; of very many the weighty ones first."""
    begun = {row.stage for row in view.stages}
    rows = list(view.stages)
    lines = [(row.status.value, _attempt_line(view, row)) for row in rows]
    if view.build.status.is_open:
        lines += [("waiting", _coming_line(spec)) for spec in view.build.plan.stages if spec.name not in begun]
    if sum(size(line) + 1 for _, line in lines) > parts.TABLE_BYTES - 300:
        lines.sort(key=lambda item: _FIRST.get(item[0], 9))
    return [line for _, line in lines]


def _attempt_line(view: "BuildView", row: Stage) -> str:
    spec = parts.spec_of(view, row.stage)
    skipped = row.status is StageStatus.SKIPPED
    took = parts.seconds_of(row)
    words = [
        f"{row.stage} {row.status}" + (f" ({_why_skipped(view, spec, row)})" if skipped else ""),
        f"round {row.round}" if view.build.plan.max_rounds > 1 else "",
        parts.passed_late(row) or (f"attempt {row.attempt}" if row.attempt > 1 else ""),
        duration(took) if took is not None else "",
        f"exit code {row.exit_code}" if row.exit_code and row.status is not StageStatus.SUCCESS else "",
        row.reason if row.reason not in (None, "exit") and not skipped else "",
        "failure allowed" if spec and spec.allow_failure and row.status is StageStatus.FAILED else "",
        row.kind if row.kind != "command" else "",
        f"on {row.host}" if row.host != "local" and not skipped else "",
        parts.unreachable(row),
        _seen(row),
        _said(row),
        *(one_line(note, 120) for note in parts.notes(row)[:2]),
        str((row.resolved or {}).get("why", "")),
    ]
    return one_line(" · ".join(word for word in words if word), 300)


def _said(row: Stage) -> str:
    """What an attempt came to beside its exit code: why, and the first error that its log names."""
    summary = row.verdict.summary if row.verdict else ""
    known = summary == f"exit code {row.exit_code}" and row.exit_code
    words = ["" if known else summary, parts.first_error(row) if row.status is StageStatus.FAILED else ""]
    return " · ".join(one_line(word, 160) for word in words if word)


def _seen(row: Stage) -> str:
    if not row.status.is_open or row.progress is None:
        return ""
    steps = f"{row.progress.done}/{row.progress.total} " if row.progress.total else ""
    seen = parts.errors_and_warnings(row.progress.errors, row.progress.warnings)
    return " · ".join(word for word in (f"{steps}{row.progress.message}".strip(), seen) if word)


def _coming_line(spec: StageSpec) -> str:
    after = f" · after {', '.join(spec.depends_on)}" if spec.depends_on else ""
    place = f" · on {'/'.join((spec.host, *spec.hosts))}" if spec.host != "local" else ""
    return one_line(f"{spec.name} not begun{after}{place}", 200)


def _why_skipped(view: "BuildView", spec: StageSpec | None, row: Stage) -> str:
    if row.reason == "when" and spec and spec.skip:
        return one_line(spec.skip, 120)
    return parts.not_run(view, row) or row.reason or "skipped"


def _word(view: "BuildView", spec: StageSpec, row: Stage | None) -> str:
    name = one_line(spec.name, 60)
    if row is None:
        return f"{name} not begun"
    if row.status is StageStatus.SKIPPED:
        return f"{name} {parts.not_run(view, row) or f'skipped ({_why_skipped(view, spec, row)})'}"
    if row.status is StageStatus.FAILED:
        how = (f"exit {row.exit_code}" if row.exit_code else "") if row.reason in (None, "exit") else row.reason
        return f"{name} failed {how}".strip() + (" (allowed)" if spec.allow_failure else "")
    took = parts.seconds_of(row)
    late = f" ({parts.passed_late(row)})" if parts.passed_late(row) else ""
    return f"{name} {row.status}" + (f" {duration(took)}" if took is not None else "") + late


def _status(row: Stage | None) -> str:
    return "waiting" if row is None else row.status.value


def _by_weight(count: "Counter[str]") -> Sequence[tuple[str, int]]:
    return sorted(count.items(), key=lambda item: _FIRST.get(item[0], 9))


def _part(row: Stage | None) -> float:
    if row is None or row.status is StageStatus.WAITING:
        return 0.0
    if row.status is StageStatus.RUNNING:
        return min(0.99, row.progress.done / row.progress.total) if row.progress and row.progress.total else 0.0
    return 1.0
