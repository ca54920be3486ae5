"""What several reports are made of: a build's head line, its rows as they count now, numbers as words.

May import: expected, model, text. Never: store, engine, hosts, a front.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mcp_server.model import Build, Diagnosis, Stage, StageSpec, StageStatus
from mcp_server.text import duration, one_line

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.expected import Place
    from mcp_server.views import BuildView

TABLE_BYTES = 4000
MOST_NAMED = 200  # attempts of a build up to which the one that others were not run for is looked for
MOST_BEFORE = 3  # stages that kept one from being run, by name
AGENT_STOPS = ("no_progress", "budget", "outside", "no_change", "agent")
ENDED_HOW = {
    "timeout": "timed out",
    "lost": "was lost",
    "no_progress": "gave up",
    "budget": "ran out of budget",
    "outside": "was not mended",
    "no_change": "was not mended",
    "agent": "was not mended",
}
WHY = {
    **ENDED_HOW,
    "no_progress": "gave up at the same failure",
    "outside": "the agent changed what it may not",
    "no_change": "the agent changed nothing",
    "agent": "the agent failed",
    "invalid": "could not be built as it is",
    "unreachable": "the host was not reached",
    "disk_full": "no space was left",
    "internal": "internal error",
    "environment": "something is not installed",
}
NO_IDF_BUILD = "an ESP-IDF build could not start here; builds on other hosts are not affected"
SINGLE = "idf_build"  # a build of this name is told by its project, any other by its name, too


def head(view: "BuildView", what: str, *more: str) -> str:
    """`build 42 failed in stage build · esp32c3 · 38 s · …`, on one line."""
    build = view.build
    name = one_line(build.name, 60) if build.name != SINGLE and several(view) else ""
    parts = [f"build {build.id} {what}", name, build.target or "", duration(view.elapsed_s), *more]
    if build.plan.max_rounds > 1:
        parts.append(f"round {build.round} of {build.plan.max_rounds}")
    parts.append(came_from(build))
    if any(stage.verdict and stage.verdict.details.get("simulated") for stage in view.stages):
        parts.append("simulated ESP-IDF")
    if any(stage.verdict and stage.verdict.details.get("virtual_board") for stage in view.stages):
        parts.append("simulated board")
    return one_line(" · ".join(part for part in parts if part), 240)


def why(build: Build) -> str:
    """Why a build ended, in words; "" where its status says it all."""
    if build.reason in (None, "exit", build.status):
        return ""
    return WHY.get(build.reason, build.reason.replace("_", " "))


def queue_words(place: "Place | None", now: datetime | None = None, *, why: bool = True) -> str:
    """`place 3 of 12, in about 4 min: project blink has 2 of 2 builds running`; "" where it begins at once."""
    if place is None or (place.of == 1 and place.reason == "begins now"):
        return ""
    said = f"place {place.position} of {place.of}" if place.of > 1 else ""
    if now is not None and place.expected_start is not None and place.expected_start > now:
        about = duration(max(round((place.expected_start - now).total_seconds()), 1))
        said = f"{said}, in about {about}" if said else f"begins in about {about}"
    told = place.reason if why and not place.reason.startswith("after ") else ""
    return ": ".join(part for part in (said, told) if part)


def came_from(build: Build) -> str:
    """The build that this one mends or repeats; "" where it is none of both."""
    if build.retry_of is None:
        return ""
    return f"{'fix' if build.plan.fix_first else 'retry'} of {build.retry_of}"


def several(view: "BuildView") -> bool:
    """Whether a build is a pipeline: more than one stage."""
    return len(view.build.plan.stages) > 1


def newest(view: "BuildView") -> Mapping[str, Stage]:
    """The last attempt at every stage in the build's round, without the fix."""
    fix = view.build.plan.fix
    return {s.stage: s for s in view.stages if s.round == view.build.round and not (fix and s.stage == fix.name)}


def running(view: "BuildView") -> Sequence[Stage]:
    """The attempts that run now."""
    return [stage for stage in view.stages if stage.status is StageStatus.RUNNING]


def spec_of(view: "BuildView", name: str) -> StageSpec | None:
    """What the plan says of a stage."""
    return next((spec for spec in view.build.plan.stages if spec.name == name), None)


def stage_that_failed(view: "BuildView") -> Stage | None:
    """The stage that decided a failed build: the first, in the plan's order, whose failure nothing allows.

    The fix, where a build began with it and nothing came after it.
    """
    rows = newest(view)
    allowed = {spec.name for spec in view.build.plan.stages if spec.allow_failure}
    failed = [row for name, row in rows.items() if row.status is StageStatus.FAILED and name not in allowed]
    order = {spec.name: place for place, spec in enumerate(view.build.plan.stages)}
    return min(failed, key=lambda row: order.get(row.stage, len(order)), default=None if rows else failed_fix(view))


def not_run(view: "BuildView", row: Stage) -> str:
    """`not run: host-build and docs failed`, the nearest before it that did; "" where it was not skipped for that."""
    if row.status is not StageStatus.SKIPPED or row.reason != "dependency":
        return ""
    near, bad = [row.stage] if len(view.stages) <= MOST_NAMED else [], dict[str, StageStatus]()
    specs = {spec.name: spec for spec in view.build.plan.stages} if near else {}
    # As it was then: an attempt that came later changes no word of it.
    over = [one for one in view.stages if one.round == row.round and not one.status.is_open] if near else []
    last = {
        one.stage: one.status for one in over if not (one.ended_at and row.ended_at and one.ended_at > row.ended_at)
    }
    for name in near:  # grows: those before it, then those before them
        for need in specs[name].depends_on if name in specs else ():
            status = last.get(need)
            failed = status is StageStatus.FAILED and not (need in specs and specs[need].allow_failure)
            if status is not None and (failed or status is StageStatus.CANCELLED):
                bad[need] = status
            elif need not in near:
                near.append(need)
    told = [_all_were(bad, StageStatus.FAILED, "failed"), _all_were(bad, StageStatus.CANCELLED, "was cancelled")]
    return f"not run: {', '.join(filter(None, told)) or 'an earlier stage failed'}"


def _all_were(stages: Mapping[str, StageStatus], wanted: StageStatus, what: str) -> str:
    """`a failed`, `a and b failed`, `a, b and 3 more failed`."""
    names = [one_line(name, 60) for name, status in stages.items() if status is wanted]
    if len(names) > 1:
        what = what.replace("was ", "were ")
        names = (
            names if len(names) <= MOST_BEFORE else [*names[: MOST_BEFORE - 1], f"{len(names) - MOST_BEFORE + 1} more"]
        )
    return f"{', '.join(names[:-1])}{' and ' if len(names) > 1 else ''}{names[-1]} {what}" if names else ""


def failed_fix(view: "BuildView") -> Stage | None:
    """The last attempt to mend, where it failed."""
    fix = view.build.plan.fix
    rows = [row for row in view.stages if fix and row.stage == fix.name and row.status is StageStatus.FAILED]
    return rows[-1] if rows else None


def left_behind(view: "BuildView") -> Sequence[str]:
    """Which build took its place, and what cancelled stages say of the state in which they left things."""
    rows = [row for row in newest(view).values() if row.status is StageStatus.CANCELLED and row.verdict]
    said = [row.verdict.summary for row in rows if row.verdict]
    if view.build.reason == "superseded":
        said.insert(0, (view.build.build_output or "").partition("\n")[0])
    return [one_line(words, 200) for words in said if words not in ("", "cancelled")]


def passed_late(row: Stage | None) -> str:
    """`passed on attempt 2`, "" for a stage that did not pass or did so at once."""
    late = row is not None and row.status is StageStatus.SUCCESS and row.attempt > 1
    return f"passed on attempt {row.attempt}" if row is not None and late else ""


def notes(row: Stage) -> Sequence[str]:
    """What an attempt wants known although it passed."""
    found = row.verdict.details.get("notes") if row.verdict else None
    return [str(note) for note in found] if isinstance(found, list | tuple) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def first_error(row: Stage) -> str:
    """`main/app.c:41:5 error: 'LED' undeclared`, "" where the log of an attempt named none."""
    found = row.verdict.diagnosis.errors if row.verdict and row.verdict.diagnosis else ()
    if not found:
        return ""
    error = found[0]
    place = ":".join(str(part) for part in (error.file, error.line, error.column) if part) if error.file else ""
    return one_line(f"{place} {error.severity}: {error.message}".strip(), 140)


def counted(row: Stage) -> tuple[int, int]:
    """Errors and warnings of an attempt: of its verdict, else as many as were seen so far."""
    if row.verdict and row.verdict.diagnosis:
        return row.verdict.diagnosis.error_count, row.verdict.diagnosis.warning_count
    return (row.progress.errors, row.progress.warnings) if row.progress else (0, 0)


def totals(view: "BuildView") -> tuple[int, int]:
    """Errors and warnings of the build's round so far."""
    found = [counted(row) for row in newest(view).values()]
    return sum(errors for errors, _ in found), sum(warnings for _, warnings in found)


def unreachable(row: Stage) -> str:
    """`unreachable since 12:03 UTC`, "" where the host answers."""
    if row.unreachable_since is None or not row.status.is_open:
        return ""
    since = row.unreachable_since
    since = since.astimezone(UTC) if since.tzinfo else since
    return f"unreachable since {since:%H:%M} UTC"


def seconds_of(row: Stage) -> float | None:
    """Seconds that an attempt took; None while it runs or where it never began."""
    return (row.ended_at - row.started_at).total_seconds() if row.ended_at and row.started_at else None


def counts(diagnosis: Diagnosis) -> str:
    """`2 errors, 36 warnings`; "" where there are none."""
    return errors_and_warnings(diagnosis.error_count, diagnosis.warning_count)


def errors_and_warnings(errors: int, warnings: int) -> str:
    """`2 errors, 36 warnings`, `1 warning` or ""."""
    found = [plural(count, word) for count, word in ((errors, "error"), (warnings, "warning")) if count]
    return ", ".join(found)


def plural(count: int, word: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def number_of_bytes(count: int) -> str:
    """`182,304 B`, `4.1 MB`."""
    return f"{count:,} B" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
