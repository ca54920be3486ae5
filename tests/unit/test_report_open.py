"""Reports of builds that are not over, or were ended: what a model reads of them, to the byte."""

import pytest

from mcp_server import report, report_parts
from mcp_server.model import (
    BuildStatus,
    Lease,
    Plan,
    Progress,
    Stage,
    StageSpec,
    StageStatus,
    Verdict,
)
from tests.unit.tools.fake import (
    NOON,
    PROJECT,
    a_build,
    a_stage,
    a_view,
    running_view,
)


def test_a_cancelled_build_says_so_and_how_to_build_again() -> None:
    """interfaces: cancelled is no failure."""
    text = report.build_report(a_view(a_build(status=BuildStatus.CANCELLED, retry_of=41), elapsed_s=12.4))

    assert text.splitlines() == [
        "build 42 cancelled · esp32c3 · 12 s · retry of 41",
        "more: build_retry(42) builds it again",
    ]


def test_a_pending_build_names_the_build_it_waits_for() -> None:
    """interfaces: what a pending build waits for."""
    lease = Lease(resource="dir:local:/p/build", slot=0, build=41, stage=None, reason="build 41", taken_at=NOON)
    slot = Lease(resource="host:local", slot=0, build=40, stage="build", reason="stage build", taken_at=NOON)

    text = report.build_report(a_view(a_build(), blocked_by=(lease, slot), elapsed_s=3))
    alone = report.build_report(a_view(a_build(), elapsed_s=3), joined=True)

    assert text.splitlines() == [
        "build 42 pending · esp32c3 · 3.0 s · waits for build 41 and 1 other build, which hold the directory /p/build",
        "more: build_wait(42) · build_cancel(42)",
    ]
    assert alone.splitlines()[:2] == [
        "joined pending build 42: the same was asked for before",
        "build 42 pending · esp32c3 · 3.0 s · waits for the worker",
    ]


def test_a_running_build_tells_step_and_time_left() -> None:
    """interfaces: progress and ETA."""
    text = report.build_report(running_view(412, 1043, elapsed_s=41))

    assert text.splitlines() == [
        "build 42 running stage build · esp32c3 · 41 s · about 63 s left",
        "412/1043 compiling gpio.c",
        'more: build_wait(42) · build_log(42, "build", tail=20)',
    ]


def test_a_build_that_is_being_cancelled_is_not_called_running() -> None:
    """Ours."""
    view = a_view(a_build(status=BuildStatus.RUNNING, cancel_requested=True), a_stage(StageStatus.RUNNING))

    assert report.build_report(view).startswith("build 42 is being cancelled")


@pytest.mark.parametrize(
    ("done", "total", "typical_s", "elapsed_s", "left_s"),
    [
        (0, 0, None, 10, None),
        (0, 0, 40.0, 10, 30),
        (1, 1000, 40.0, 10, 30),  # too little done to reckon from
        (0, 0, 40.0, 50, None),  # longer than usual: nothing is known
        (500, 1000, None, 10, 10),
        (500, 1000, 40.0, 10, 20),  # half of each: 10 by the steps, 30 by experience
        (500, 1000, 40.0, 90, 90),  # longer than usual: by the steps alone
    ],
)
def test_the_time_left_comes_from_steps_and_experience(
    done: int, total: int, typical_s: float | None, elapsed_s: float, left_s: float | None
) -> None:
    """Ours. Steps count for as much as is done of them."""
    assert report.eta_s(running_view(done, total, typical_s=typical_s, elapsed_s=elapsed_s)) == pytest.approx(left_s)


def test_a_stage_that_waits_says_for_what_and_where_is_said_when_asked() -> None:
    """Ours. A build directory in use by hand is no "waits for the worker"."""
    stage = a_stage(StageStatus.WAITING, job_id=None, progress=Progress(message="waiting for ninja (process 7)"))
    view = a_view(a_build(status=BuildStatus.RUNNING), stage, elapsed_s=3)

    assert report.build_report(view, place=True).splitlines() == [
        "build 42 running · esp32c3 · 3.0 s",
        f"project {PROJECT.path}",
        "waiting for ninja (process 7)",
        "more: build_wait(42) · build_cancel(42)",
    ]
    assert report.step(view)[2] == "waiting for ninja (process 7)"


def test_steps_of_one_stage_tell_nothing_of_the_others() -> None:
    """Ours. Half of the first of two stages is not half of the build."""
    plan = Plan(stages=(*a_build().plan.stages, StageSpec(name="run", kind="idf.run")))
    stage = a_stage(StageStatus.RUNNING, progress=Progress(done=5, total=10))
    view = a_view(a_build(status=BuildStatus.RUNNING, plan=plan), stage, typical_s=60, elapsed_s=20)

    assert report.eta_s(view) == 40


def cancelled(summary: str, name: str = "flash", attempt: int = 1) -> Stage:
    verdict = Verdict(result="unknown", summary=summary)
    return a_stage(StageStatus.CANCELLED, name, verdict=verdict, attempt=attempt)


def test_each_cancelled_stage_tells_how_it_left_things() -> None:
    """Issue. A board may be partly written; a stage that left nothing worth a word says `cancelled`, or nothing."""
    half = "cancelled while writing app.bin: the board is partly written"
    view = a_view(
        a_build(status=BuildStatus.CANCELLED),
        cancelled("an earlier attempt"),
        cancelled(half, attempt=2),
        cancelled("cancelled", "build"),
        cancelled("", "boot"),
        a_stage(StageStatus.CANCELLED, "unbegun", verdict=None),
        a_stage(StageStatus.FAILED, "failed", verdict=Verdict(result="fail", summary="it failed")),
        cancelled("line\n" * 100, "wordy"),
    )

    told, wordy = report_parts.left_behind(view)

    assert told == half
    assert len(wordy) <= 200 and "\n" not in wordy
