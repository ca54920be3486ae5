"""Builds as text for a model or a pipe: the verdict first, bounded in bytes, with the call that goes on from there.

May import: orchestrator, idf, model, logs, text and other reports. Never: store, engine, hosts, a front.
"""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from mcp_server import report_figures, report_story
from mcp_server import report_parts as parts
from mcp_server import report_pipeline as pipeline
from mcp_server.idf.diagnostics import render
from mcp_server.model import Artifact, Build, BuildStatus, Stage, StageStatus
from mcp_server.text import clip, duration, fit, one_line, size

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.views import BuildView

FAILED_BYTES = 700  # what a model reads of a failed build; a log of the same is 200 kB
DETAIL_BYTES = 3000  # of one that was asked for by its number
SUCCESS_BYTES = 500
NOTE_BYTES = 200  # of a success' notes
MOST_NOTES = 3
LOG_LINES = 8  # of the log's end, where no tool's message was recognised in it
_LAST_LINE = re.compile(r"; (?:the|its) last line: .*")  # how a verdict on firmware ends
REFUSALS = ("environment", "bad_input", "invalid")  # a stage's reasons that speak of what it was given


def build_report(
    view: "BuildView", *, joined: bool = False, place: bool = False, limit_bytes: int = FAILED_BYTES
) -> str:
    """What a build came to, or how far it is. `joined`: it was pending before it was asked for; `place`: says where."""
    first = f"joined pending build {view.build.id}: the same was asked for before\n" if joined else ""
    where = f"project {one_line(view.project.path, 200)}\n" if place else ""
    head, _, rest = _state(view, limit_bytes - size(first) - size(where)).partition("\n")
    if place:
        rest = rest.replace(f"\nin {view.project.path}/", "\nin ", 1)
    return f"{first}{head}\n{where}{rest}".rstrip("\n")


def _state(view: "BuildView", room: int) -> str:
    build = view.build
    if build.status is BuildStatus.FAILED:
        return _failed(view, room)
    if build.status is BuildStatus.SUCCESS:
        return _succeeded(view, min(room, FAILED_BYTES if report_story.worked(view) else SUCCESS_BYTES))
    if build.status is BuildStatus.CANCELLED:
        left = "".join(f"\n{words}" for words in parts.left_behind(view))
        return f"{parts.head(view, 'cancelled')}{left}\nmore: build_retry({build.id}) builds it again"
    if build.cancel_requested:
        return f"{parts.head(view, 'is being cancelled')}\nmore: build_wait({build.id})"
    return _under_way(view) if parts.running(view) else _pending(view)


def step(view: "BuildView") -> tuple[float, int, str]:
    """Steps done, steps in all (0: not known) and a line on what is being done: for a progress bar.

    Of a pipeline: its stages, a running one counting for as much as it has done.
    """
    if not view.build.status.is_open:
        return 0, 0, view.build.status
    going = parts.running(view)
    if not going:
        return (*pipeline.part_done(view), waits_for(view)) if parts.several(view) else (0, 0, waits_for(view))
    if parts.several(view):
        return *pipeline.part_done(view), pipeline.progress_line(view, _left(view))
    progress, stage = going[-1].progress, going[-1]
    gone = parts.unreachable(stage)
    if progress is None:
        return 0, 0, f"stage {stage.stage}" + (f" · {gone}" if gone else "")
    counted = f"{progress.done}/{progress.total} " if progress.total else ""
    said = one_line(f"{counted}{progress.message or stage.stage}", 120)
    return progress.done, progress.total, f"{said} · {gone}" if gone else said


def eta_s(view: "BuildView") -> float | None:
    """Seconds left, from the steps done and from what the same build took before; None where nothing tells."""
    if view.eta_s is not None:
        return view.eta_s
    done, total = 0.0, 0
    if not parts.several(view) and view.build.round == 1:  # the steps of one stage tell nothing of the others
        done, total, _ = step(view)
    part = done / total if total else 0
    usual = (view.typical_s or 0) - view.elapsed_s
    if part < 0.05:  # too little to reckon from
        return usual if usual > 0 else None
    by_steps = view.elapsed_s * (1 - part) / part
    return part * by_steps + (1 - part) * usual if usual > 0 else by_steps  # beyond the usual time its past is no guide


def _left(view: "BuildView") -> str:
    left = None if any(parts.unreachable(row) for row in parts.running(view)) else eta_s(view)
    return f"about {duration(left)} left" if left else ""


def _failed(view: "BuildView", limit: int) -> str:
    build, stage = view.build, parts.stage_that_failed(view)
    if stage is None:
        words = clip(one_line(build.build_output or "no stage of it ran", 400), max(limit - 200, 100))
        return f"{parts.head(view, 'failed', build.reason or '')}\n{words}"
    others = f"\n{pipeline.stages_line(view)}" if parts.several(view) else ""
    if stage.job_id is None:
        told = _not_begun(view, stage)
        return clip(told[0], limit - size(others) - size(told[1])) + others + told[1]
    of_folder = not any("checkout" in spec.params for spec in build.plan.stages)  # of a commit nothing can be mended
    alone = build.name == "workflow" and build.plan.fix is None and of_folder
    hint = report_story.NOBODY_MENDS if alone else "do not rebuild to read the log"
    more = f'more: build_log({build.id}, "{stage.stage}") · {hint}'
    head = _failed_head(view, stage)
    tail = "\n".join(
        part for part in (_fix_line(view, stage), *report_story.agent_lines(view), others.strip(), more) if part
    )
    room = limit - size(head) - size(tail) - 3
    return clip("\n".join(part for part in (head, _cause(build, stage, room, limit), tail) if part), limit)


def _not_begun(view: "BuildView", stage: Stage) -> tuple[str, str]:
    """Of a stage of which no job ran: what it came to, and the next step where repeating it could help."""
    words = one_line(stage.verdict.summary if stage.verdict else stage.reason or "", 500)
    number, again = view.build.id, f"build_retry({view.build.id})"
    if stage.reason in REFUSALS:
        return f"{parts.head(view, f'was refused in stage {stage.stage}')}\n{words}", ""
    if stage.reason == "unreachable":
        attempt = f"attempt {stage.attempt}" if stage.attempt > 1 else ""
        sentence = words.removeprefix(f"host {stage.host}: ")
        words = f"host {one_line(stage.host, 60)} could not be reached: {sentence}"
        more = f'more: hosts("{one_line(stage.host, 60)}") looks again · {again} when it is back'
        return f"{parts.head(view, f'failed in stage {stage.stage}', attempt)}\n{words}", f"\n{more}"
    how = parts.ENDED_HOW.get(stage.reason or "", "")
    reason = "" if how else stage.reason or ""
    head = _failed_head(view, stage) if how else parts.head(view, f"failed in stage {stage.stage}", reason)
    return f"{head}\n{words}", f'\nmore: build_get({number}, detail="stages") · {again} tries it again'


def _failed_head(view: "BuildView", stage: Stage) -> str:
    reason = view.build.reason if view.build.reason in parts.AGENT_STOPS else stage.reason
    how = parts.ENDED_HOW.get(reason or "", "failed")
    diagnosis = stage.verdict.diagnosis if stage.verdict else None
    place = f"on {stage.host}" if stage.host != "local" else ""
    attempt = f"attempt {stage.attempt}" if stage.attempt > 1 else ""
    counts = parts.counts(diagnosis) if diagnosis else ""
    return parts.head(view, f"{how} in stage {stage.stage}", place, counts, attempt)


def _cause(build: Build, stage: Stage, room: int, limit: int) -> str:
    """The first causes in the log of the stage that decided, or its last lines."""
    diagnosis = stage.verdict.diagnosis if stage.verdict else None
    if not (diagnosis and diagnosis.errors):
        return _evidence(build, stage, room)
    why = _why(stage) if stage.verdict and stage.verdict.summary else ""
    why = "" if why == f"exit code {stage.exit_code}" else f"{clip(why, 200)}\n" if why else ""
    return why + render(diagnosis, room - size(why), build=build.id if limit <= FAILED_BYTES else None)


def _evidence(build: Build, stage: Stage, room: int) -> str:
    """Of a stage whose log names no cause: why it ended, a panic's frames or the last lines, as many as fit."""
    summary = _why(stage)
    panic = stage.verdict.details.get("panic_report") if stage.verdict else None
    if isinstance(panic, list | tuple):
        return fit([_indented(str(line)) for line in panic], room)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if stage.verdict and stage.verdict.details.get("says_all"):
        return clip(summary, room)
    kept = stage.verdict.details.get("last_lines") if stage.verdict else None
    lines = (build.build_output or "").splitlines()[1:] if kept is None else [str(line) for line in kept]
    kept_lines = [text for text in (one_line(line, 160) for line in lines) if text][-LOG_LINES:]
    summary = _LAST_LINE.sub("", summary) if kept_lines else summary  # it is among them
    shown: list[str] = []
    left = room - size(summary) - 16
    for line in reversed(kept_lines):
        left -= size(line) + 3
        if left < 0:
            break
        shown.insert(0, f"  {line}")
    return "\n".join([summary, *(["its last lines:", *shown] if shown else [])])


def _indented(line: str) -> str:
    """One line that keeps its indent."""
    return " " * min(len(line) - len(line.lstrip(" ")), 4) + one_line(line, 200)


def _why(stage: Stage) -> str:
    """Why a stage ended as it did, where that is not in its log."""
    summary = one_line(stage.verdict.summary, 300) if stage.verdict else ""
    return summary or (f"exit code {stage.exit_code}" if stage.exit_code is not None else stage.reason or "failed")


def _fix_line(view: "BuildView", decided: Stage) -> str:
    """What the last attempt to mend failed of, unless that is what decided."""
    row = parts.failed_fix(view)
    if row is None or row.verdict is None or row is decided:
        return ""
    return f"fix: {one_line(row.verdict.summary, 120)}"


def _succeeded(view: "BuildView", limit: int) -> str:
    rows = parts.newest(view).values()
    warnings = sum(s.verdict.diagnosis.warning_count for s in rows if s.verdict and s.verdict.diagnosis)
    places = {row.host for row in rows} - {"local"} if not parts.several(view) else set[str]()
    place = f"on {', '.join(sorted(places))}" if places else ""
    attempt = "" if parts.several(view) else parts.passed_late(next(iter(rows), None))
    seen = parts.plural(warnings, "warning") if warnings else ""
    lines = [parts.head(view, "succeeded", place, seen, attempt)]
    if parts.several(view):
        lines.append(pipeline.stages_line(view))
    lines += report_story.agent_lines(view)
    for stage in rows:
        if stage.verdict and stage.verdict.summary and not stage.verdict.artifacts and not _goes_without_saying(stage):
            lines.append(f"{stage.stage}: {one_line(stage.verdict.summary, 120)}")
    lines += filter(None, [report_figures.coverage_line(view)])
    found = _by_kind(view.artifacts)
    main = [
        f"{kind} {found[kind].path} {parts.number_of_bytes(found[kind].size)}"
        for kind in ("app", "elf")
        if kind in found
    ]
    if main:
        lines.append(" · ".join(main))
    flash = sorted((a for a in view.artifacts if a.offset), key=_address)
    if flash:
        lines.append("flash " + " · ".join(f"{a.offset} {a.path}" for a in flash))
    if view.artifacts and not main and not flash:
        lines.append(_files(view.artifacts))
    if view.artifacts and view.build.artifacts_path:
        lines.append(f"in {view.build.artifacts_path}")
    notes = _notes(view)
    shown = fit([one_line(line, 300) for line in lines], limit - size(notes))
    return shown + notes


def _goes_without_saying(stage: Stage) -> bool:
    """What a workflow's checks say where nothing is wrong; what they want known comes as a note."""
    said = stage.verdict.summary if stage.verdict else ""
    return stage.kind in ("setup", "doctor") or (stage.kind, said) == ("qa", "no issues")


def _notes(view: "BuildView") -> str:
    """What stages that passed want known, such as a glob that matched nothing: a line, "" where there is none."""
    found = [
        f"{one_line(row.stage, 60)}: {one_line(note, 120)}" if parts.several(view) else one_line(note, 160)
        for row in parts.newest(view).values()
        for note in parts.notes(row)
    ]
    if not found:
        return ""
    more = f" · and {parts.plural(len(found) - MOST_NOTES, 'more note')}" if len(found) > MOST_NOTES else ""
    return f"\nnote: {clip(' · '.join(found[:MOST_NOTES]), NOTE_BYTES)}{more}"


def _files(artifacts: Iterable[Artifact]) -> str:
    """What else came out: the first names and how many there are."""
    found = list(artifacts)
    shown = [f"{a.path} {parts.number_of_bytes(a.size)}" for a in found[:3]]
    more = f" · and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{parts.plural(len(found), 'file')}: {' · '.join(shown)}{more}"


def _pending(view: "BuildView") -> str:
    number, held = view.build.id, held_up(view)
    if parts.several(view) and view.build.status is BuildStatus.RUNNING:
        lines = [*pipeline.under_way(view, _left(view))]
        return "\n".join([*lines, f"more: build_wait({number}) · build_cancel({number})"])
    head = parts.head(view, view.build.status)
    head = f"{head}\n{held}" if held else parts.head(view, view.build.status, waits_for(view))
    return f"{head}\nmore: build_wait({number}) · build_cancel({number})"


def held_up(view: "BuildView") -> str:
    """What a stage that could start says it waits for, or why nobody works on the build; "" where there is none."""
    if view.idle and view.build.status is not BuildStatus.PENDING:
        return one_line(view.idle, 300)
    rows = [s for s in view.stages if s.status is StageStatus.WAITING and s.progress and s.progress.message]
    return one_line(rows[-1].progress.message, 300) if rows and rows[-1].progress else ""


def waits_for(view: "BuildView") -> str:
    """What a build with nothing running waits for: `waits for build 41, which holds the directory /p/build`."""
    if held := held_up(view):
        return held
    if view.idle:
        return one_line(view.idle, 300)
    if view.build.status is not BuildStatus.PENDING and not view.blocked_by:
        return "between two stages"
    now = view.build.created_at + timedelta(seconds=view.elapsed_s)
    queued = parts.queue_words(view.queue, now, why=not view.blocked_by)
    if not view.blocked_by:
        return one_line(queued, 180) or "waits for the worker"
    holder = view.blocked_by[0]
    others = len({lease.build for lease in view.blocked_by}) - 1
    kind, _, rest = holder.resource.partition(":")
    what = {"dir": f"the directory {rest.partition(':')[2]}", "host": f"a slot of host {rest.partition('@')[0]}"}.get(
        kind
    )
    more = f" and {parts.plural(others, 'other build')}" if others else ""
    hold = "which hold" if others else "which holds"
    said = one_line(f"waits for build {holder.build}{more}, {hold} {what or f'{kind} {rest}'}", 180)
    return f"{said} · {queued}" if queued else said


def _under_way(view: "BuildView") -> str:
    number, stage = view.build.id, parts.running(view)[-1]
    more = f'more: build_wait({number}) · build_log({number}, "{stage.stage}", tail=20)'
    if parts.several(view):
        return "\n".join([*pipeline.under_way(view, _left(view)), more])
    seen = parts.errors_and_warnings(*parts.counted(stage))
    place = f"on {stage.host}" if stage.host != "local" else ""
    head = parts.head(view, f"running stage {stage.stage}", place, seen, _left(view))
    held = held_up(view)
    now = f"{step(view)[2]}\n{held}" if held else step(view)[2]
    return f"{head}\n{now}\n{more}"


# -- parts -------------------------------------------------------------------------------------------------------------


def was_refused(view: "BuildView") -> bool:
    """Whether a build ended because something it was given cannot be used: nothing of that stage ran."""
    stage = parts.stage_that_failed(view) if view.build.status is BuildStatus.FAILED else None
    return stage is not None and stage.job_id is None and stage.reason in REFUSALS


def _by_kind(artifacts: Iterable[Artifact]) -> dict[str, Artifact]:
    return {artifact.kind: artifact for artifact in reversed(list(artifacts))}


def _address(artifact: Artifact) -> int:
    try:
        return int(artifact.offset or "", 0)
    except ValueError:  # a build system's JSON is not ours to trust
        return 1 << 64
