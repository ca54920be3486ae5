"""Statistics of builds: counts, durations, causes that belong together, and quick on many builds."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mcp_server.model import BuildStatus, Diagnosis, Diagnostic, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.report_stats import STATS_BYTES, count_rows, failure_rows, host_rows, stage_rows, stats_text, trend_rows
from mcp_server.store import builds
from mcp_server.store.database import Store
from mcp_server.store.stats import build_stats, normalised, stage_durations
from mcp_server.store.tables import BUILDS, STAGES

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command"),))


def add(
    c: sa.Connection,
    status: str = "success",
    seconds: float = 10,
    path: str = "/src/valve",
    days_ago: int = 0,
    priority: int = 10,
    **stage: Any,
) -> int:
    """One build that is over, with one stage of it; its number."""
    project = builds.ensure_project(c, path, path.rpartition("/")[2], NOW)
    at = NOW - timedelta(days=days_ago)
    key = f"{time.monotonic_ns()}"
    build, _ = builds.insert_build(c, project, PLAN, name="full", args_key=key, now=at, priority=priority)
    if status == "pending":
        return build.id
    builds.set_running(c, build.id, at)
    put(
        c,
        build.id,
        at,
        seconds,
        {"status": StageStatus(status) if status != "running" else StageStatus.RUNNING, **stage},
    )
    if status != "running":
        builds.end_build(c, build.id, BuildStatus(status), "exit", at + timedelta(seconds=seconds))
    return build.id


def put(c: sa.Connection, build: int, at: datetime, seconds: float, values: dict[str, Any]) -> None:
    over = at + timedelta(seconds=seconds)
    given: dict[str, Any] = {
        "stage": "build",
        "kind": "command",
        "host": "local",
        "job_id": "j",
        "started_at": at,
        "ended_at": over,
    }
    builds.put_stage(c, Stage(build=build, **{**given, **values}), NOW)


def error(message: str, file: str | None = "main/a.c", kind: str = "compile") -> Verdict:
    found = Diagnostic(severity="error", kind=kind, message=message, file=file, line=8 if file else None)
    return Verdict(result="fail", diagnosis=Diagnosis(errors=(found,), error_count=1))


async def test_counts_and_rate_of_a_project_leave_out_other_projects(store: Store) -> None:
    """Interfaces. success_rate is percent of total_builds, open and cancelled ones included."""

    def fill(c: sa.Connection) -> str:
        for status in ("success", "success", "failed", "cancelled", "running", "pending"):
            add(c, status)
        add(c, "success", path="/src/other")
        add(c, "success", 0.1, priority=-1)  # a sync, say: it builds nothing
        return builds.find_projects(c, "valve")[0].id

    project = await store.write(fill)
    ours = await store.read(lambda c: build_stats(c, NOW, project))
    everything = await store.read(lambda c: build_stats(c, NOW))

    assert (ours.total_builds, ours.successful, ours.failed) == (6, 2, 1)
    assert (ours.cancelled, ours.running, ours.pending) == (1, 1, 1)
    assert ours.success_rate == 33.3
    assert (everything.total_builds, everything.project_id) == (7, None)


async def test_durations_are_those_of_successes(store: Store) -> None:
    """Ours. A build that fails at once must not make the average look good."""

    def fill(c: sa.Connection) -> None:
        for seconds in range(1, 11):
            add(c, "success", seconds)
        add(c, "failed", 1000)

    await store.write(fill)
    stats = await store.read(lambda c: build_stats(c, NOW))

    assert (stats.average_duration, stats.p50_duration, stats.p90_duration) == (5.5, 5, 9)


async def test_an_empty_store_has_zeros_and_no_durations(store: Store) -> None:
    """Ours. Nothing is divided by nothing."""
    stats = await store.read(lambda c: build_stats(c, NOW))

    assert (stats.total_builds, stats.success_rate, stats.average_duration, stats.failures) == (0, 0.0, None, ())
    assert stats_text(stats, "valve").startswith("valve: no builds yet")


async def test_the_same_cause_groups_across_numbers_and_folders_but_not_across_names(store: Store) -> None:
    """Issue. Failure patterns by first cause: count, last build and a place of it."""

    def fill(c: sa.Connection) -> list[int]:
        texts = ("region `iram0' overflowed by 12 bytes", "region `iram0' overflowed by 904 bytes")
        return [
            *(add(c, "failed", verdict=error(text, None, "link")) for text in texts),
            add(c, "failed", verdict=error("undefined reference to `valve_open'")),
            add(c, "failed", verdict=error("undefined reference to `pump_stop'")),
        ]

    numbers = await store.write(fill)
    stats = await store.read(lambda c: build_stats(c, NOW))

    assert [(p.kind, p.count, p.last_build, p.place) for p in stats.failures] == [
        ("link", 2, numbers[1], ""),
        ("compile", 1, numbers[3], "main/a.c:8"),
        ("compile", 1, numbers[2], "main/a.c:8"),
    ]
    assert stats.failures[0].message == "region `iram0' overflowed by 904 bytes"


async def test_a_stage_that_a_later_attempt_mended_is_no_cause(store: Store) -> None:
    """Ours. What a retry got over did not fail the build."""

    def fill(c: sa.Connection) -> None:
        number = add(c, "running", stage="fetch", attempt=2)
        put(c, number, NOW, 1, {"stage": "fetch", "status": StageStatus.FAILED, "verdict": error("mended")})
        done = {"stage": "fetch", "attempt": 2, "status": StageStatus.SUCCESS}
        put(c, number, NOW, 2, done)
        put(c, number, NOW, 3, {"status": StageStatus.FAILED, "reason": "timeout"})
        builds.end_build(c, number, BuildStatus.FAILED, "timeout", NOW)

    await store.write(fill)
    (pattern,) = (await store.read(lambda c: build_stats(c, NOW))).failures

    assert (pattern.kind, pattern.message) == ("timeout", "build: timeout")


async def test_trend_has_thirty_days_and_nothing_older(store: Store) -> None:
    """Ours. The newest day is the last; days without builds are there as zeros."""

    def fill(c: sa.Connection) -> None:
        for days, status in ((0, "success"), (0, "failed"), (29, "success"), (30, "success")):
            add(c, status, days_ago=days)

    await store.write(fill)
    trend = (await store.read(lambda c: build_stats(c, NOW))).trend

    assert len(trend) == 30
    assert (trend[-1].day, trend[-1].total, trend[-1].failed) == (NOW.date(), 2, 1)
    assert (trend[0].total, sum(day.total for day in trend)) == (1, 3)


async def test_stage_durations_are_medians_of_the_newest_successes_of_that_name(store: Store) -> None:
    """Issue. ETA comes from earlier durations; a failed build tells nothing."""

    def fill(c: sa.Connection) -> str:
        for seconds in (900, 10, 30, 20):
            add(c, "success", seconds)
        add(c, "failed", 500)
        add(c, "success", 700, path="/src/other")
        return builds.find_projects(c, "valve")[0].id

    project = await store.write(fill)

    assert await store.read(lambda c: stage_durations(c, project, "full", 3)) == {"build": 20.0}
    assert await store.read(lambda c: stage_durations(c, project, "another")) == {}


async def test_text_fits_and_names_the_cause_first(store: Store) -> None:
    """Ours. A model reads at most 1,500 bytes."""

    def fill(c: sa.Connection) -> None:
        for number in range(20):
            add(c, "failed", verdict=error(f"cause {chr(65 + number)} " + "x" * 400), host=f"host{number}")
        add(c, "success", 8100)

    await store.write(fill)
    stats = await store.read(lambda c: build_stats(c, NOW))
    text = stats_text(stats, "valve")

    assert len(text.encode()) <= STATS_BYTES
    assert text.startswith("valve: 21 builds · 1 successful (4.8 %) · 20 failed\n")
    assert "once compile: cause T" in text
    assert ("failed", "20") in count_rows(stats)
    assert len(failure_rows(stats)) == 10
    assert stage_rows(stats) == [("build", "2 h 15 min", "1")]
    assert len(host_rows(stats)) == 21
    assert len(trend_rows(stats)) == 1


async def test_ten_thousand_builds_take_a_blink(store: Store) -> None:
    """Ours. Bounded reads and counting in SQL; the limit is ten times what it takes."""

    def fill(c: sa.Connection) -> None:
        project = builds.ensure_project(c, "/src/valve", "valve", NOW)
        verdict = error("undefined reference to `valve_open'").model_dump(mode="json")
        rows: list[dict[str, Any]] = []
        stages: list[dict[str, Any]] = []
        for number in range(1, 10_001):
            status, at = ("failed", "success")[number % 3 > 0], NOW - timedelta(minutes=number)
            rows.append(
                {"id": number, "project_id": project.id, "triggered_by": "m", "status": status, "started_at": at}
                | {"created_at": at, "completed_at": at, "duration": 5.0, "task_id": str(number), "name": "full"}
                | {"plan": {}, "args_key": "k", "priority": 1, "cancel_requested": False, "round": 1}
            )
            for stage in ("a", "b", "c"):
                stages.append(
                    {"build": number, "stage": stage, "round": 1, "attempt": 1, "kind": "command", "host": "local"}
                    | {"status": status, "job_id": "j", "started_at": at, "ended_at": at, "verdict": verdict}
                )
        c.execute(sa.insert(BUILDS), rows)
        c.execute(sa.insert(STAGES), stages)

    await store.write(fill)
    await store.read(lambda c: build_stats(c, NOW))
    began = time.perf_counter()
    stats = await store.read(lambda c: build_stats(c, NOW))
    took = time.perf_counter() - began

    assert stats.total_builds == 10_000
    assert stats.failures[0].count == 2000
    assert took < 3, took  # 0.2 on an idle machine


def test_messages_are_folded_to_what_stays() -> None:
    """Ours."""
    assert normalised("/home/u/p/main/a.c:3: 0x3f400020 of 12  bytes") == "a.c:N: N of N bytes"
    assert normalised("no member named 'esp32'") == "no member named 'esp32'"


async def test_statistics_are_worked_out_again_once_a_build_changed(store: Store) -> None:
    """Ours: on many builds they take long, so they are kept, of each project by itself; a new day is another, too."""
    await store.write(lambda c: add(c, path="/src/pump"))
    first = await store.read(lambda c: build_stats(c, NOW))
    again = await store.read(lambda c: build_stats(c, NOW))
    number = await store.write(lambda c: add(c, "running", path="/src/pump"))
    running = await store.read(lambda c: build_stats(c, NOW))
    await store.write(lambda c: builds.end_build(c, number, BuildStatus.FAILED, "exit", NOW))
    ended = await store.read(lambda c: build_stats(c, NOW))
    tomorrow = await store.read(lambda c: build_stats(c, NOW + timedelta(days=1)))

    assert again is first
    assert [(one.total_builds, one.running, one.failed) for one in (first, running, ended)] == [
        (1, 0, 0),
        (2, 1, 0),
        (2, 0, 1),
    ]
    assert tomorrow.trend[-1].day == ended.trend[-1].day + timedelta(days=1)
