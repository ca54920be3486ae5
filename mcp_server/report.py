"""Builds as text for a model or a pipe: the verdict first, bounded in bytes, with the call that goes on from there.

May import: orchestrator, idf, model, logs, text. Never: store, engine, hosts, a front.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mcp_server.idf.diagnostics import render
from mcp_server.model import Artifact, Build, BuildStatus, Diagnosis, Event, Project, Stage, StageStatus
from mcp_server.text import clip, duration, fit, one_line, size

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.idf.doctor import Check
    from mcp_server.logs import LogSlice
    from mcp_server.orchestrator import BuildView

FAILED_BYTES = 700  # what a model reads of a failed build; a log of the same is 200 kB
DETAIL_BYTES = 3000  # of one that was asked for by its number
SUCCESS_BYTES = 500
TABLE_BYTES = 4000
DOCTOR_BYTES = 1500
LOG_LINES = 8  # of the log's end, where no tool's message was recognised in it
MOST_EVENTS = 40
REFUSALS = ("environment", "bad_input", "invalid")  # a stage's reasons that speak of what it was given

_ENDED_HOW = {"timeout": "timed out", "lost": "was lost", "no_progress": "gave up", "budget": "ran out of budget"}
_MAIN_PARTS = ("app", "elf", "bootloader", "partition-table")


# -- a build -----------------------------------------------------------------------------------------------------------


def build_report(
    view: "BuildView", *, joined: bool = False, place: bool = False, limit_bytes: int = FAILED_BYTES
) -> str:
    """What a build came to, or how far it is. `joined`: it was pending before it was asked for; `place`: says where."""
    first = f"joined pending build {view.build.id}: the same was asked for before\n" if joined else ""
    where = f"project {one_line(view.project.path, 200)}\n" if place else ""
    head, _, rest = _state(view, limit_bytes - size(first) - size(where)).partition("\n")
    return f"{first}{head}\n{where}{rest}"


def _state(view: "BuildView", room: int) -> str:
    build = view.build
    if build.status is BuildStatus.FAILED:
        return _failed(view, room)
    if build.status is BuildStatus.SUCCESS:
        return _succeeded(view, min(room, SUCCESS_BYTES))
    if build.status is BuildStatus.CANCELLED:
        return f"{_head(view, 'cancelled')}\nmore: build_retry({build.id}) builds it again"
    if build.cancel_requested:
        return f"{_head(view, 'is being cancelled')}\nmore: build_wait({build.id})"
    return _under_way(view) if _running(view) else _pending(view)


def step(view: "BuildView") -> tuple[int, int, str]:
    """Steps done, steps in all (0: not known) and a line on what is being done: for a progress bar."""
    stage = _running(view)
    if stage is None:
        return 0, 0, view.build.status if not view.build.status.is_open else waits_for(view)
    progress = stage.progress
    if progress is None:
        return 0, 0, f"stage {stage.stage}"
    counted = f"{progress.done}/{progress.total} " if progress.total else ""
    return progress.done, progress.total, one_line(f"{counted}{progress.message or stage.stage}", 120)


def eta_s(view: "BuildView") -> float | None:
    """Seconds left, from the steps done and from what the same build took before; None where nothing tells."""
    done, total, _ = step(view)
    part = done / total if total else 0
    if len(view.build.plan.stages) > 1 or view.build.round > 1:
        part = 0  # the steps of one stage tell nothing of the others
    usual = (view.typical_s or 0) - view.elapsed_s
    if part < 0.05:  # too little to reckon from
        return usual if usual > 0 else None
    by_steps = view.elapsed_s * (1 - part) / part
    return part * by_steps + (1 - part) * usual if usual > 0 else by_steps  # beyond the usual time its past is no guide


def _head(view: "BuildView", what: str, *more: str) -> str:
    build = view.build
    parts = [f"build {build.id} {what}", build.target or "", duration(view.elapsed_s), *more]
    if build.plan.max_rounds > 1:
        parts.append(f"round {build.round} of {build.plan.max_rounds}")
    if build.retry_of is not None:
        parts.append(f"retry of {build.retry_of}")
    if any(stage.verdict and stage.verdict.details.get("simulated") for stage in view.stages):
        parts.append("simulated ESP-IDF")
    return one_line(" · ".join(part for part in parts if part), 240)


def _failed(view: "BuildView", limit: int) -> str:
    build, stage = view.build, _stage_that_failed(view)
    if stage is None:
        words = clip(one_line(build.build_output or "no stage of it ran", 400), max(limit - 200, 100))
        return f"{_head(view, 'failed', build.reason or '')}\n{words}"
    diagnosis = stage.verdict.diagnosis if stage.verdict else None
    if stage.job_id is None:
        words = one_line(stage.verdict.summary if stage.verdict else stage.reason or "", 500)
        return clip(f"{_head(view, f'was refused in stage {stage.stage}')}\n{words}", limit)
    how = _ENDED_HOW.get(stage.reason or "", "failed")
    counts = _counts(diagnosis) if diagnosis else ""
    attempt = f"attempt {stage.attempt}" if stage.attempt > 1 else ""
    head = _head(view, f"{how} in stage {stage.stage}", counts, attempt)
    more = f'more: build_log({build.id}, "{stage.stage}") · do not rebuild to read the log'
    fix = _fix_line(view)
    room = limit - size(head) - size(more) - size(fix) - 3
    if diagnosis and diagnosis.errors:
        why = _why(stage) if stage.verdict and stage.verdict.summary else ""
        why = "" if why == f"exit code {stage.exit_code}" else f"{clip(why, 200)}\n" if why else ""
        body = why + render(diagnosis, room - size(why), build=build.id if limit <= FAILED_BYTES else None)
    else:
        body = _evidence(build, stage, room)
    return clip("\n".join(part for part in (head, body, fix, more) if part), limit)


def _evidence(build: Build, stage: Stage, room: int) -> str:
    """Of a stage whose log names no cause: why it ended and the last lines, as many as fit."""
    summary = _why(stage)
    kept = stage.verdict.details.get("last_lines") if stage.verdict else None
    lines = [str(line) for line in kept] if kept else (build.build_output or "").splitlines()[1:]
    shown: list[str] = []
    left = room - size(summary) - 16
    for line in reversed([text for text in (one_line(line, 160) for line in lines) if text][-LOG_LINES:]):
        left -= size(line) + 3
        if left < 0:
            break
        shown.insert(0, f"  {line}")
    return "\n".join([summary, *(["its last lines:", *shown] if shown else [])])


def _why(stage: Stage) -> str:
    """Why a stage ended as it did, where that is not in its log."""
    summary = one_line(stage.verdict.summary, 300) if stage.verdict else ""
    return summary or (f"exit code {stage.exit_code}" if stage.exit_code is not None else stage.reason or "failed")


def _fix_line(view: "BuildView") -> str:
    fix = view.build.plan.fix
    rows = [s for s in view.stages if fix and s.stage == fix.name and s.status is StageStatus.FAILED]
    if not rows or rows[-1].verdict is None:
        return ""
    return f"fix: {one_line(rows[-1].verdict.summary, 120)}"


def _succeeded(view: "BuildView", limit: int) -> str:
    warnings = sum(s.verdict.diagnosis.warning_count for s in _last_round(view) if s.verdict and s.verdict.diagnosis)
    lines = [_head(view, "succeeded", _plural(warnings, "warning") if warnings else "")]
    for stage in _last_round(view):
        if stage.verdict and stage.verdict.summary and not stage.verdict.artifacts:
            lines.append(f"{stage.stage}: {one_line(stage.verdict.summary, 120)}")
    found = _by_kind(view.artifacts)
    parts = [f"{kind} {found[kind].path} {_bytes(found[kind].size)}" for kind in ("app", "elf") if kind in found]
    if parts:
        lines.append(" · ".join(parts))
    flash = sorted((a for a in view.artifacts if a.offset), key=_address)
    if flash:
        lines.append("flash " + " · ".join(f"{a.offset} {a.path}" for a in flash))
    if view.artifacts and view.build.artifacts_path:
        lines.append(f"in {view.build.artifacts_path}")
    for stage in _last_round(view):
        lines += [f"note: {note}" for note in (stage.verdict.details.get("notes", ()) if stage.verdict else ())]
    return fit([one_line(line, 300) for line in lines], limit)


def _pending(view: "BuildView") -> str:
    number, held = view.build.id, held_up(view)
    head = f"{_head(view, view.build.status)}\n{held}" if held else _head(view, view.build.status, waits_for(view))
    return f"{head}\nmore: build_wait({number}) · build_cancel({number})"


def held_up(view: "BuildView") -> str:
    """What a stage that could start says it waits for; "" where there is none."""
    rows = [s for s in view.stages if s.status is StageStatus.WAITING and s.progress and s.progress.message]
    return one_line(rows[-1].progress.message, 300) if rows and rows[-1].progress else ""


def waits_for(view: "BuildView") -> str:
    """What a build with nothing running waits for: `waits for build 41, which holds the directory /p/build`."""
    if held := held_up(view):
        return held
    if not view.blocked_by:
        return "waits for the worker" if view.build.status is BuildStatus.PENDING else "between two stages"
    holder = view.blocked_by[0]
    others = len({lease.build for lease in view.blocked_by}) - 1
    kind, _, rest = holder.resource.partition(":")
    what = f"the directory {rest.partition(':')[2]}" if kind == "dir" else f"{kind} {rest}"
    more = f" and {_plural(others, 'other build')}" if others else ""
    return one_line(f"waits for build {holder.build}{more}, which holds {what}", 180)


def _under_way(view: "BuildView") -> str:
    stage, left = _running(view), eta_s(view)
    assert stage is not None
    head = _head(view, f"running stage {stage.stage}", f"about {duration(left)} left" if left else "")
    number, held = view.build.id, held_up(view)
    now = f"{step(view)[2]}\n{held}" if held else step(view)[2]
    return f'{head}\n{now}\nmore: build_wait({number}) · build_log({number}, "{stage.stage}", tail=20)'


# -- lists and tables --------------------------------------------------------------------------------------------------


def build_list(builds: Sequence[Build], projects: Mapping[str, Project]) -> str:
    """One line a build, newest first."""
    if not builds:
        return "no builds: idf_build starts one"
    return fit([build_line(build, projects.get(build.project_id)) for build in builds], TABLE_BYTES)


def build_line(build: Build, project: Project | None) -> str:
    """`42 failed · 2026-01-31 12:00 UTC · 38 s · blink · esp32c3`."""
    parts = [
        f"{build.id} {build.status}",
        f"{build.created_at:%Y-%m-%d %H:%M} UTC",
        duration(build.duration) if build.duration is not None else "",
        project.name if project else "",
        build.target or "",
        build.name,
        build.reason if build.status is BuildStatus.FAILED and build.reason not in (None, "exit") else "",
        f"retry of {build.retry_of}" if build.retry_of else "",
    ]
    return one_line(" · ".join(part for part in parts if part), 200)


def stage_table(view: "BuildView") -> str:
    """One line an attempt, in the order they began."""
    return fit([_head(view, view.build.status), *(_stage_line(view, stage) for stage in view.stages)], TABLE_BYTES)


def _stage_line(view: "BuildView", stage: Stage) -> str:
    seconds = (stage.ended_at - stage.started_at).total_seconds() if stage.ended_at and stage.started_at else None
    parts = [
        f"{stage.stage} {stage.status}",
        f"round {stage.round}" if view.build.plan.max_rounds > 1 else "",
        f"attempt {stage.attempt}" if stage.attempt > 1 else "",
        duration(seconds) if seconds is not None else "",
        f"exit code {stage.exit_code}" if stage.exit_code else "",
        stage.reason if stage.reason not in (None, "exit") else "",
        stage.kind,
        f"on {stage.host}" if stage.host != "local" else "",
        stage.verdict.summary if stage.verdict else "",
        str((stage.resolved or {}).get("why", "")),
    ]
    return one_line(" · ".join(part for part in parts if part), 300)


def event_list(view: "BuildView", events: Sequence[Event]) -> str:
    """The newest events, oldest of them first: time, type and data."""
    lines = [f"{e.id} {e.ts:%H:%M:%S} {e.type} {json.dumps(dict(e.data), default=str)}" for e in events]
    newest = ", the newest" if len(events) >= MOST_EVENTS else ""
    head = f"build {view.build.id}: {_plural(len(events), 'event')}{newest}"
    return fit([head, *(one_line(line, 240) for line in lines)], TABLE_BYTES)


def artifact_table(view: "BuildView") -> str:
    """Path, size, flash offset and hash of every file that was left."""
    if not view.artifacts:
        return f"build {view.build.id} left no artifacts: it is {view.build.status}"
    head = f"build {view.build.id}: {_plural(len(view.artifacts), 'file')} in {view.build.artifacts_path or '?'}"
    lines = [
        f"{a.path} · {_bytes(a.size)} · {a.kind}{f' · at {a.offset}' if a.offset else ''} · sha256 {a.sha256[:16]}"
        for a in view.artifacts
    ]
    return fit([one_line(line, 300) for line in (head, *lines)], TABLE_BYTES)


def size_table(view: "BuildView", other: "BuildView | None" = None) -> str:
    """Sizes of the binaries; beside `other` with the differences."""
    now, then = _sizes(view), _sizes(other) if other else {}
    if not now and not then:
        return f"build {view.build.id} left no binaries: it is {view.build.status}"
    against = f" against build {other.build.id}" if other else ""
    lines = [f"build {view.build.id}{against}: bytes on disk"]
    for path in sorted({*now, *then}, key=lambda path: (path not in now, list(now).index(path) if path in now else 0)):
        lines.append(_size_line(path, now.get(path), then.get(path), compared=other is not None))
    return fit([one_line(line, 200) for line in lines], TABLE_BYTES)


def _size_line(path: str, now: int | None, then: int | None, *, compared: bool) -> str:
    if now is None:
        return f"{path} gone, was {then:,}"
    if not compared:
        return f"{path} {now:,}"
    if then is None:
        return f"{path} {now:,} new"
    return f"{path} {now:,} unchanged" if now == then else f"{path} {now:,} {now - then:+,}"


def log_text(build: int, piece: "LogSlice") -> str:
    """A slice of a log, and how to read on."""
    lines = [piece.text.rstrip("\n")] if piece.text else [f"nothing in the log of stage {piece.stage} here"]
    if piece.note:
        lines.append(f"[{piece.note}]")
    if piece.next_offset is not None:
        lines.append(f'[more: build_log({build}, "{piece.stage}", offset={piece.next_offset})]')
    return "\n".join(lines)


def doctor_report(checks: "Sequence[Check]") -> str:
    """What is missing with the command that mends it; what is fine in one line."""
    order = {"fail": 0, "warn": 1}
    bad = sorted((c for c in checks if c.status in order), key=lambda c: order[c.status])
    good = [c for c in checks if c.status not in order]
    fine = one_line("fine: " + ", ".join(f"{c.name} {c.found}".strip() for c in good), 400) if good else ""
    lines = [f"{_plural(len(bad), 'problem')}:" if bad else "all is well"]
    for check in bad:
        warning = "warning: " if check.status == "warn" else ""
        lines.append(one_line(f"{warning}{check.name}: {check.found}", 300))
        if check.mend:
            lines.append(f"  mend: {one_line(check.mend, 300)}")
    return fit(lines, DOCTOR_BYTES - size(fine) - 1) + (f"\n{fine}" if fine else "")


# -- parts -------------------------------------------------------------------------------------------------------------


def _running(view: "BuildView") -> Stage | None:
    return next((stage for stage in reversed(view.stages) if stage.status is StageStatus.RUNNING), None)


def _last_round(view: "BuildView") -> list[Stage]:
    """The last attempt at every stage in the last round."""
    fix = view.build.plan.fix
    last = {s.stage: s for s in view.stages if s.round == view.build.round and not (fix and s.stage == fix.name)}
    return list(last.values())


def was_refused(view: "BuildView") -> bool:
    """Whether a build ended because something it was given cannot be used: nothing of that stage ran."""
    stage = _stage_that_failed(view) if view.build.status is BuildStatus.FAILED else None
    return stage is not None and stage.job_id is None and stage.reason in REFUSALS


def _stage_that_failed(view: "BuildView") -> Stage | None:
    return next((stage for stage in _last_round(view) if stage.status is StageStatus.FAILED), None)


def _by_kind(artifacts: Iterable[Artifact]) -> dict[str, Artifact]:
    return {artifact.kind: artifact for artifact in reversed(list(artifacts))}


def _sizes(view: "BuildView") -> dict[str, int]:
    order = {kind: place for place, kind in enumerate(_MAIN_PARTS)}
    shown = [a for a in view.artifacts if a.kind in order or a.offset or a.path.endswith((".bin", ".elf"))]
    return {a.path: a.size for a in sorted(shown, key=lambda a: (order.get(a.kind, len(order)), a.path))}


def _address(artifact: Artifact) -> int:
    try:
        return int(artifact.offset or "", 0)
    except ValueError:  # a build system's JSON is not ours to trust
        return 1 << 64


def _counts(diagnosis: Diagnosis) -> str:
    warnings = f", {_plural(diagnosis.warning_count, 'warning')}" if diagnosis.warning_count else ""
    return f"{_plural(diagnosis.error_count, 'error')}{warnings}" if diagnosis.error_count else warnings.lstrip(", ")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _bytes(count: int) -> str:
    return f"{count:,} B" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
