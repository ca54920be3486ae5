"""What is said of a build, as short texts; the forms of the seed's examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mcp_server.idf.diagnostics import render
from mcp_server.model import Build, BuildStatus, Stage, StageStatus
from mcp_server.text import clip, one_line

TEXT_LETTERS = 600  # a phone shows that much; the log is a call away
_VERDICT_BYTES = 420

Mood = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Message:
    """One text for people, at most 600 characters. `build` is None where it is of no build."""

    text: str
    mood: Mood = "info"
    build: int | None = None


def started(build: Build) -> Message:
    """`🚀 Pipeline started: ccu2-full-build`, with the number and what it is made of."""
    stages = len(build.plan.stages)
    made_of = f", {stages} stages" if stages > 1 else ""
    return _message(build, f"🚀 {_what(build)} started: {_name(build)}\nBuild {build.id}{made_of}", "info")


def stage_over(build: Build, stage: Stage, index: int, total: int) -> Message:
    """`✅ Stage 1/3 complete: yocto-image (45min)` or `❌ Stage 2 FAILED: host-build` with its error."""
    name = one_line(stage.stage, 80)
    if stage.status is StageStatus.SUCCESS:
        return _message(build, f"✅ Stage {index}/{total} complete: {name}{_took(_seconds(stage))}", "success")
    attempts = f" after {stage.attempt} attempts" if stage.attempt > 1 else ""
    first = f"❌ Stage {index} FAILED: {name}{attempts}"
    return _message(build, f"{first}\n{_error(stage)}\nBuild {build.id} on {one_line(stage.host, 60)}", "failure")


def ended(build: Build, stages: Sequence[Stage]) -> Message:
    """`✅ Pipeline complete: ccu2-full-build (2h 15min)`; of a failed build what failed, with the first error.

    Stages that were told of already are only named: a build of one stage says its error here.
    """
    head = f"{_what(build)} %s: {_name(build)}{_took(build.duration)}"
    if build.status is BuildStatus.SUCCESS:
        return _message(build, f"✅ {head % 'complete'}", "success")
    if build.status is BuildStatus.CANCELLED:
        return _message(build, f"🛑 {head % 'cancelled'}", "warning")
    failed = _stayed_failed(stages)
    if len(build.plan.stages) > 1:
        names = ", ".join(one_line(stage.stage, 60) for stage in failed[:5]) or build.reason or "no stage of it ran"
        return _message(build, f"❌ {head % 'FAILED'}\nBuild {build.id}, stage {names}", "failure")
    why = _error(failed[0]) if failed else f"Error: {one_line(build.build_output or build.reason or 'unknown', 300)}"
    return _message(build, f"❌ {head % 'FAILED'}\n{why}\nBuild {build.id}", "failure")


def unreachable(build: Build, host: str, since: datetime) -> Message:
    """A host does not answer; its job may well be running."""
    name = one_line(host, 60)
    text = (
        f"⚠️ Host {name} unreachable since {since:%H:%M} UTC\nBuild {build.id} {_name(build)} waits; its job may run on"
    )
    return _message(build, text, "warning")


def short_duration(seconds: float | None) -> str:
    """`45s`, `45min`, `2h 15min`: as the seed writes them; "" where it is not known."""
    if seconds is None:
        return ""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    minutes = round(whole / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes}min"
    return f"{hours}h {rest}min" if rest else f"{hours}h"


def _message(build: Build, text: str, mood: Mood) -> Message:
    kept = text if len(text) <= TEXT_LETTERS else text[: TEXT_LETTERS - 1] + "…"
    return Message(kept, mood, build.id)


def _what(build: Build) -> str:
    return "Pipeline" if len(build.plan.stages) > 1 else "Build"


def _name(build: Build) -> str:
    return one_line(build.name, 80)


def _took(seconds: float | None) -> str:
    return f" ({short_duration(seconds)})" if seconds is not None else ""


def _seconds(stage: Stage) -> float | None:
    return (stage.ended_at - stage.started_at).total_seconds() if stage.started_at and stage.ended_at else None


def _error(stage: Stage) -> str:
    """`Error: …`: the first causes where the log names some, else why the stage ended."""
    verdict = stage.verdict
    if verdict and verdict.diagnosis and verdict.diagnosis.errors:
        return f"Error: {render(verdict.diagnosis, _VERDICT_BYTES)}"
    exit_words = f"exit code {stage.exit_code}" if stage.exit_code is not None else ""
    summary = one_line(verdict.summary, 300) if verdict else ""
    return clip(f"Error: {summary or exit_words or stage.reason or 'failed'}", _VERDICT_BYTES)


def _stayed_failed(stages: Sequence[Stage]) -> list[Stage]:
    """The stages whose last attempt in their last round failed, in the order they ended."""
    last: dict[str, Stage] = {}
    for stage in sorted(stages, key=lambda stage: (stage.round, stage.attempt)):
        last[stage.stage] = stage
    failed = [stage for stage in last.values() if stage.status is StageStatus.FAILED]
    return sorted(failed, key=lambda stage: (stage.ended_at is None, stage.ended_at, stage.stage))
