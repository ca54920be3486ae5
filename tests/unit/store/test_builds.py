"""Builds and stages as rows: one pending build for the same arguments, end states that are never left."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa

from mcp_server.model import (
    Artifact,
    Build,
    BuildStatus,
    Diagnosis,
    Diagnostic,
    Lease,
    Plan,
    Progress,
    Stage,
    StageSpec,
    Verdict,
)
from mcp_server.model import StageStatus as S
from mcp_server.store import artifacts, builds, events, leases
from mcp_server.store.database import Store
from mcp_server.views import build_view

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command", params={"argv": ["true"]}),))


def insert(c: sa.Connection, key: str = "k", priority: int = 10) -> tuple[Build, bool]:
    project = builds.ensure_project(c, "/src/valve", "valve", NOW)
    return builds.insert_build(c, project, PLAN, name="idf_build", args_key=key, now=NOW, priority=priority)


async def test_the_same_arguments_join_the_pending_build_and_only_the_pending_one(store: Store) -> None:
    """Ours. A running build may have missed the newest edit, so the same call then queues another."""
    first, joined_first = await store.write(insert)
    again, joined_again = await store.write(insert)
    other, joined_other = await store.write(lambda c: insert(c, "other"))
    await store.write(lambda c: builds.set_running(c, first.id, NOW))
    later, joined_later = await store.write(insert)

    assert (joined_first, joined_again, joined_other, joined_later) == (False, True, False, False)
    assert again.id == first.id
    assert len({first.id, other.id, later.id}) == 3


async def test_who_is_in_a_hurry_does_not_join_what_goes_later(store: Store) -> None:
    """Ours. The other way round it is joined: nobody is worse off."""
    usual, urgent, _ = await store.write(lambda c: (insert(c), insert(c, priority=3), insert(c, "other")))
    assert usual[0].id != urgent[0].id
    for priority in (10, 3):
        again, joined = await store.write(partial(insert, priority=priority))
        assert joined and again.priority <= priority


async def test_a_build_marked_for_cancelling_is_not_joined(store: Store) -> None:
    """Ours. Who asks for a build again wants it built."""
    first, _ = await store.write(insert)
    await store.write(lambda c: builds.request_cancel(c, first.id, NOW))

    second, joined = await store.write(insert)

    assert not joined
    assert second.id != first.id


async def test_an_end_state_is_never_left(store: Store) -> None:
    """Design. Nothing is overwritten: the first end counts, later ones change nothing."""
    build, _ = await store.write(insert)
    await store.write(lambda c: builds.set_running(c, build.id, NOW))
    later = NOW + timedelta(seconds=4)

    ended = await store.write(lambda c: builds.end_build(c, build.id, BuildStatus.FAILED, "exit", later))
    again = await store.write(lambda c: builds.end_build(c, build.id, BuildStatus.SUCCESS, "exit", later))
    restarted = await store.write(lambda c: builds.set_running(c, build.id, later))
    cancelled = await store.write(lambda c: builds.request_cancel(c, build.id, later))

    row = await store.read(lambda c: builds.get_build(c, build.id))
    assert (ended, again, restarted, cancelled) == (True, False, False, False)
    assert (row.status, row.reason, row.duration) == (BuildStatus.FAILED, "exit", 4.0)
    assert row.started_at == NOW
    assert row.completed_at == later


async def test_a_stage_row_comes_back_as_it_was_written(store: Store) -> None:
    """Ours. Verdicts are nested models; JSON must not flatten or lose them."""
    build, _ = await store.write(insert)
    diagnosis = Diagnosis(errors=(Diagnostic(severity="error", kind="compiler", message="no ‘;’", file="a.c", line=3),))
    stage = Stage(
        build=build.id,
        stage="build",
        kind="command",
        host="local",
        status=S.FAILED,
        exit_code=2,
        started_at=NOW,
        ended_at=NOW,
        resolved={"uses_ninja": True},
        progress=Progress(done=3, total=9, message="a.c"),
        verdict=Verdict(result="fail", diagnosis=diagnosis),
    )

    await store.write(lambda c: builds.put_stage(c, stage, NOW))

    assert await store.read(lambda c: builds.stages_of(c, build.id)) == [stage]


async def test_an_attempt_is_told_of_whenever_its_status_changes_and_only_then(store: Store) -> None:
    """Ours. Whoever wrote its row last may say what it wrote: then nobody has to look."""
    build, _ = await store.write(insert)
    waits = Stage(build=build.id, stage="build", kind="command", host="local", status=S.WAITING)
    runs = waits.model_copy(update={"status": S.RUNNING, "started_at": NOW})
    passed = runs.model_copy(update={"status": S.SUCCESS, "ended_at": NOW})
    for stage, before in [(waits, None), (waits, S.WAITING), (runs, S.WAITING), (runs, None), (passed, None)]:
        await store.write(lambda c, one=stage, was=before: builds.put_stage(c, one, NOW, was))

    told = await store.read(lambda c: events.events_after(c, 0, build_id=build.id))
    assert [one.data["status"] for one in told if one.type == "stage.status"] == ["waiting", "running", "success"]
    assert await store.read(lambda c: builds.stages_of(c, build.id)) == [passed]


async def test_an_attempt_whose_row_is_gone_is_written_anew(store: Store) -> None:
    """docs/team.md: of a standby that took over, the last moments may be missing; its job must still be found."""
    build, _ = await store.write(insert)
    runs = Stage(build=build.id, stage="build", kind="command", host="local", status=S.RUNNING, job_id="0-1-build-1-1")

    await store.write(lambda c: builds.put_stage(c, runs, NOW, S.RUNNING))

    assert await store.read(lambda c: builds.stages_of(c, build.id)) == [runs]


async def test_running_builds_come_before_pending_ones_and_urgent_before_old(store: Store) -> None:
    """Design. After a restart what runs is taken up first; then priority counts, then age."""
    old, _ = await store.write(lambda c: insert(c, "old"))
    urgent, _ = await store.write(lambda c: insert(c, "urgent", priority=1))
    running, _ = await store.write(lambda c: insert(c, "running", priority=20))
    await store.write(lambda c: builds.set_running(c, running.id, NOW))

    assert [row.id for row in await store.read(builds.open_builds)] == [running.id, urgent.id, old.id]


async def test_of_progress_only_the_last_event_is_kept_and_ids_only_grow(store: Store) -> None:
    """Interfaces. A reader that asks with the last id it saw misses nothing and sees nothing twice."""
    build, _ = await store.write(insert)
    stage = Stage(build=build.id, stage="build", kind="idf.build", host="local", status=S.RUNNING, started_at=NOW)
    await store.write(lambda c: builds.put_stage(c, stage, NOW))
    seen = (await store.read(lambda c: events.events_after(c, 0)))[-1].id
    for done in range(1, 6):
        step = stage.model_copy(update={"progress": Progress(done=done, total=5)})
        await store.write(lambda c, step=step: builds.put_progress(c, step, NOW))

    news = await store.read(lambda c: events.events_after(c, seen))

    assert [(event.type, event.data["progress"]) for event in news] == [("workflow.progress", 100)]
    assert news[0].id > seen


async def test_artifacts_keep_their_hashes_and_are_replaced_by_a_later_round(store: Store) -> None:
    """Ours. What is recorded is what lies in the build directory now."""
    build, _ = await store.write(insert)
    first = [Artifact(path="valve.bin", size=9, sha256="aa"), Artifact(path="old.bin", size=1, sha256="bb")]
    second = [Artifact(path="valve.bin", size=10, sha256="cc", kind="app", offset="0x10000")]

    await store.write(lambda c: artifacts.put_artifacts(c, build.id, "build", first, NOW))
    await store.write(lambda c: artifacts.put_artifacts(c, build.id, "build", second, NOW))

    assert await store.read(lambda c: artifacts.artifacts_of(c, build.id)) == [("build", second[0])]


async def test_the_audit_view_names_who_what_and_when(store: Store) -> None:
    """Interfaces. `build_audit` is a view over builds and events, for reading only."""
    build, _ = await store.write(insert)

    rows = await store.read(lambda c: c.exec_driver_sql("SELECT * FROM build_audit").mappings().all())

    assert [(row["task"], row["status"], row["who"]) for row in rows] == [(build.task_id, "pending", "manual")]


async def test_a_fix_that_waits_does_not_name_the_folder_that_it_works_beside(store: Store) -> None:
    """Ours. All of it is built in the agent's copy, so whoever holds the project's own directory is not in its way."""
    project, stages = (
        "/src/valve",
        [
            StageSpec(name="build", kind="idf.build", params={"project": "/src/valve"}, directory="/src/valve/build"),
            StageSpec(name="far", kind="command", params={}, directory="/elsewhere"),
        ],
    )
    fix = StageSpec(name="fix", kind="agent.fix", params={})
    mends = Plan(stages=tuple(stages), fix=fix, fix_first=True, workspace=project)

    def statements(c: sa.Connection) -> list[list[str]]:
        row = builds.ensure_project(c, project, "valve", NOW)
        holder, _ = builds.insert_build(c, row, PLAN, name="one", args_key="1", now=NOW)
        for directory in ("/src/valve/build", "/elsewhere"):
            leases.add(
                c,
                Lease(resource=f"dir:local:{directory}", slot=0, build=holder.id, stage=None, reason="x", taken_at=NOW),
                NOW,
            )
        found: list[list[str]] = []
        for number, plan in enumerate((mends, mends.model_copy(update={"fix_first": False}))):
            waits, _ = builds.insert_build(c, row, plan, name="fix", args_key=f"f{number}", now=NOW)
            found.append([lease.resource for lease in build_view(c, waits.id, NOW).blocked_by])
        return found

    fixing, building = await store.write(statements)
    assert fixing == ["dir:local:/elsewhere"]
    assert sorted(building) == ["dir:local:/elsewhere", "dir:local:/src/valve/build"]


async def test_only_a_host_without_a_free_slot_is_waited_for(store: Store) -> None:
    """Ours. Somebody holds one of two slots: whoever waits, waits for something else. A tag means any host of it."""
    stages = [
        StageSpec(name="first", kind="command", params={}, host="farm"),
        StageSpec(name="later", kind="command", params={}, host="full", depends_on=("first",)),
    ]

    def slots(reference: str) -> Mapping[str, int]:
        return {"farm": {"a": 2, "b": 1}}.get(reference, {reference: 1})

    def statements(c: sa.Connection) -> list[list[tuple[str, int]]]:
        row = builds.ensure_project(c, "/p", "p", NOW)
        waits, _ = builds.insert_build(c, row, Plan(stages=tuple(stages)), name="w", args_key="w", now=NOW)
        holder, _ = builds.insert_build(c, row, PLAN, name="one", args_key="1", now=NOW)
        found: list[list[tuple[str, int]]] = []
        for host, slot in (("full", 0), ("a", 0), ("b", 0), ("a", 1)):
            held = Lease(resource=f"host:{host}", slot=slot, build=holder.id, stage="s", reason="x", taken_at=NOW)
            leases.add(c, held, NOW)
            found.append([(one.resource, one.slot) for one in build_view(c, waits.id, NOW, slots).blocked_by])
        return found

    assert await store.write(statements) == [[], [], [], [("host:a", 0), ("host:a", 1), ("host:b", 0)]]
