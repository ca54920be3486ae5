"""Builds, their stages and their projects: statements to run inside `Store.read` or `Store.write`."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.errors import Conflict
from mcp_server.model import Build, BuildStatus, Plan, Project, Stage, StageStatus, task_of_key
from mcp_server.store import statements as sql
from mcp_server.store.commit_statuses import tell_github
from mcp_server.store.events import append
from mcp_server.store.tables import BUILDS, PROJECTS

REMOVED = "removed"  # the `reason` of a project that only its builds' records still need
MOST_DIAGNOSTIC_EVENTS = 10  # the rest is in the stage's verdict

_PHASES = {
    "setup": "setup",
    "template": "setup",
    "idf.run": "test",
    "idf.qemu": "test",
    "idf.flash": "test",
    "idf.boot": "test",
    "doctor": "validation",
    "qa": "validation",
    "qa.remarks": "validation",
    "agent.fix": "feedback",
}

OPEN = (BuildStatus.PENDING, BuildStatus.RUNNING)

OPEN_COLUMNS = [
    BUILDS.c[name] for name in ("id", "cancel_requested", "project_id", "priority", "status", "place", "machine")
]
_OPEN_BUILDS = (
    sa.select(*OPEN_COLUMNS)
    .where(BUILDS.c.status.in_(OPEN))
    .order_by(sa.case((BUILDS.c.status == BuildStatus.RUNNING, 0), else_=1), BUILDS.c.priority, BUILDS.c.id)
)


@dataclass(frozen=True, slots=True)
class OpenBuild:
    """What a worker must know, whenever it looks, of a build that is not over."""

    id: int
    cancel_requested: bool
    project_id: str
    priority: int
    running: bool
    place: str | None = None
    machine: str | None = None


def ensure_project(c: sa.Connection, path: str, name: str, now: datetime, target: str | None = None) -> Project:
    """The project of a folder; made on first use, and kept as its files name it now."""
    row = next(iter(sql.PROJECT_AT.rows(c, {"of_path": path})), None)
    if row is None:
        values = {"id": str(uuid.uuid4()), "name": name, "path": path, "target": target, "created_at": now}
        c.execute(sa.insert(PROJECTS).values(values))
    else:
        changed: dict[str, Any] = {"target": target or row["target"]}
        if row["source"] is None:  # an imported one keeps the name that it was given
            changed["name"] = name
        if row["reason"] == REMOVED:
            changed |= {"status": "active", "reason": None}
        if all(row[key] == value for key, value in changed.items()):
            return Project(**row)
        c.execute(sa.update(PROJECTS).where(PROJECTS.c.path == path).values(changed))
    return Project(**sql.PROJECT_AT.rows(c, {"of_path": path})[0])


def get_project(c: sa.Connection, project_id: str) -> Project:
    """The project with this id; it exists as long as a build of it does."""
    return Project(**sql.PROJECT.rows(c, {"of_id": project_id})[0])


def find_projects(c: sa.Connection, text: str) -> list[Project]:
    """Projects whose id, name or path is `text`."""
    known = sa.or_(PROJECTS.c.id == text, PROJECTS.c.name == text, PROJECTS.c.path == text)
    return [Project(**row) for row in c.execute(sa.select(PROJECTS).where(known)).mappings()]


def insert_build(
    c: sa.Connection,
    project: Project,
    plan: Plan,
    *,
    name: str,
    args_key: str,
    now: datetime,
    target: str | None = None,
    triggered_by: str = "manual",
    priority: int = 10,
    retry_of: int | None = None,
    idempotency_key: str | None = None,
    place: str | None = None,
) -> tuple[Build, bool]:
    """A new pending build and False; or the one pending already for the same directory and arguments, and True.

    Of a push also one that runs: a commit stays as it is, and the build is of each branch it is pushed to. Retries
    of two builds are two: each goes on from what its own one left. The build of an `idempotency_key` is the same
    one whatever became of it. Conflict: the key was used for something else.
    """
    task_id = str(uuid.uuid4()) if idempotency_key is None else task_of_key(idempotency_key)
    if idempotency_key is not None and (known := find_build(c, task_id)) is not None:
        if known.args_key != args_key:
            raise Conflict(f"idempotency_key: build {known.id} was ordered by this key, and was another order")
        return known, True
    wanted = sql.SAME_OPEN if plan.branches else sql.SAME
    same = {"of_args": args_key, "of_retry": retry_of, "of_priority": priority}
    if idempotency_key is None and (row := wanted.run(c, same).fetchone()) is not None:
        known = get_build(c, row[0])
        if more := [name for name in plan.branches if name not in known.plan.branches]:
            set_branches(c, known, (*known.plan.branches, *more))
        return known, True
    values = {
        "project_id": project.id,
        "triggered_by": triggered_by,
        "status": BuildStatus.PENDING,
        "created_at": now,
        "task_id": task_id,
        "name": name,
        "target": target,
        "plan": plan.model_dump(mode="json"),
        "args_key": args_key,
        "priority": priority,
        "cancel_requested": False,
        "retry_of": retry_of,
        "round": 1,
        "place": place,
    }
    (number,) = sql.inserting(tuple(values)).run(c, values).fetchone()
    build = _build({**values, "plan": plan, "id": number})
    append(c, "build.status", build.id, now, {"status": BuildStatus.PENDING, "retry_of": retry_of})
    tell_github(c, build, "pending", "", now)
    return build, False


def find_build(c: sa.Connection, reference: int | str) -> Build | None:
    """The build with this number or task UUID, None where there is none."""
    column = BUILDS.c.id if isinstance(reference, int) else BUILDS.c.task_id
    row = c.execute(sa.select(BUILDS).where(column == reference)).mappings().first()
    return None if row is None else _build(row)


def get_build(c: sa.Connection, build_id: int, plan: Plan | None = None) -> Build:
    """The build with this number, which exists. A `plan` that is known is not read again: it may be long."""
    row = (sql.BUILD if plan is None else sql.BUILD_OF_PLAN).rows(c, {"of_id": build_id})[0]
    return _build(row if plan is None else {**row, "plan": plan})


def status_of(c: sa.Connection, build_id: int) -> BuildStatus:
    """The status of a build that exists."""
    return BuildStatus(c.execute(sa.select(BUILDS.c.status).where(BUILDS.c.id == build_id)).scalar_one())


def list_builds(
    c: sa.Connection,
    *,
    project_id: str | None = None,
    status: str | None = None,
    limit: int = 10,
    below: int | None = None,
) -> list[Build]:
    """The newest builds first, of those with a smaller number than `below`."""
    query = sa.select(BUILDS).order_by(BUILDS.c.id.desc()).limit(limit)
    if project_id is not None:
        query = query.where(BUILDS.c.project_id == project_id)
    if status is not None:
        query = query.where(BUILDS.c.status == status)
    if below is not None:
        query = query.where(BUILDS.c.id < below)
    return [_build(row) for row in c.execute(query).mappings()]


def open_builds(c: sa.Connection) -> list[OpenBuild]:
    """Pending and running builds: running ones first, then by priority, then the oldest."""
    return [open_build(row) for row in c.execute(_OPEN_BUILDS)]


def open_among(c: sa.Connection, numbers: Collection[int]) -> list[OpenBuild]:
    """Which of these are open."""
    query = sa.select(*OPEN_COLUMNS).where(BUILDS.c.id.in_(numbers), BUILDS.c.status.in_(OPEN)).order_by(BUILDS.c.id)
    return [open_build(row) for row in c.execute(query)]


def open_build(row: Sequence[Any]) -> OpenBuild:
    """Of a row of `OPEN_COLUMNS`."""
    return OpenBuild(row[0], bool(row[1]), row[2], row[3], row[4] == BuildStatus.RUNNING, row[5], row[6])


def needed_by_open(c: sa.Connection) -> set[int]:
    """Open builds, and those that they are retries of: what these left may still be asked for."""
    found = {row.id for row in open_builds(c)}
    latest = set(found)
    while latest:
        query = sa.select(BUILDS.c.retry_of).where(BUILDS.c.id.in_(latest), BUILDS.c.retry_of.is_not(None))
        latest = set(c.scalars(query)) - found
        found |= latest
    return found


def set_running(c: sa.Connection, build_id: int, now: datetime) -> bool:
    """pending → running; True if this call did it. `workflow.started` is appended with it."""
    row = sql.BEGIN.run(c, {"of_id": build_id, "at": now}).fetchone()
    if row is None:
        return False
    append(c, "build.status", build_id, now, {"status": BuildStatus.RUNNING})
    data = {"job_id": build_id, "project_path": row[0], "timestamp": now.isoformat()}
    append(c, "workflow.started", build_id, now, data)
    return True


def set_facts(c: sa.Connection, build_id: int, **facts: str | int | None) -> None:
    """Fill columns of an open build that say what is built: commit, branch, round."""
    _change(c, build_id, OPEN, **facts)


def set_plan(c: sa.Connection, build_id: int, plan: Plan, now: datetime) -> None:
    """More stages for an open build, once it is known what they are."""
    if _change(c, build_id, OPEN, plan=plan.model_dump(mode="json")):
        append(c, "build.plan", build_id, now, {"stages": [stage.name for stage in plan.stages]})


def set_branches(c: sa.Connection, build: Build, branches: Sequence[str]) -> None:
    """The branches that an open build is of now."""
    plan = build.plan.model_copy(update={"branches": tuple(branches)})
    _change(c, build.id, OPEN, plan=plan.model_dump(mode="json"))


def end_build(
    c: sa.Connection,
    build_id: int,
    status: BuildStatus,
    reason: str,
    now: datetime,
    *,
    known: Build | None = None,
    **columns: Any,
) -> bool:
    """Bring an open build to its end state, once; True if this call did it. `known`: as the transaction has read it."""
    began = known.started_at if known else sql.BEGAN.rows(c, {"of_id": build_id})[0]["started_at"]
    seconds = max((now - (began or now)).total_seconds(), 0.0)
    values = {"status": status, "reason": reason, "completed_at": now, "duration": round(seconds, 3), **columns}
    changed = _change(c, build_id, OPEN, **values)
    if changed:
        append(c, "build.status", build_id, now, {"status": status, "reason": reason})
        data = {
            "job_id": build_id,
            "success": status == BuildStatus.SUCCESS,
            "duration": values["duration"],
            "result": {"status": status, "reason": reason},
        }
        append(c, "workflow.completed", build_id, now, data)
    return changed


def request_cancel(c: sa.Connection, build_id: int, now: datetime, **why: str) -> bool:
    """Mark an open build for cancelling; True if it was open. `why`: its `reason` and the sentence `build_output`."""
    changed = _change(c, build_id, OPEN, cancel_requested=True, **why)
    if changed:
        append(c, "build.status", build_id, now, {"cancel_requested": True})
    return changed


def stages_of(c: sa.Connection, build_id: int) -> list[Stage]:
    """Every attempt at every stage of a build, in the order they began."""
    return [_stage(row) for row in sql.STAGES_OF.rows(c, {"of_build": build_id})]


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """Attempts as `stages_of` gives them."""

    def place(stage: Stage) -> tuple[int, bool, datetime | None, str, int]:
        began = stage.started_at or stage.ended_at
        return stage.round, began is None, began, stage.stage, stage.attempt

    return sorted(stages, key=place)


def put_stage(c: sa.Connection, stage: Stage, now: datetime, before: StageStatus | None = None) -> None:
    """Write one attempt, new or changed; a change of its status is an event.

    `before`: which status its row has, where whoever writes is the one that wrote it last.
    """
    values = {
        **vars(stage),
        **_key(stage),
        "progress": stage.progress and stage.progress.model_dump(mode="json"),
        "verdict": stage.verdict and stage.verdict.model_dump(mode="json"),
    }
    # Written before, and not there: a standby that took over may lack the last moments.
    if before is None or not sql.UPDATE_STAGE.run(c, values).rowcount:
        before = None
        if not sql.INSERT_STAGE.run(c, values).rowcount:
            before = StageStatus(sql.STAGE_STATUS.run(c, values).fetchone()[0])
            sql.UPDATE_STAGE.run(c, values)
    if before is not stage.status:
        append(c, "stage.status", stage.build, now, _stage_event(stage))


def put_progress(c: sa.Connection, stage: Stage, now: datetime) -> None:
    """Write the progress of a running attempt; of its progress events only this last one is kept."""
    if stage.progress is None:
        return
    sql.UPDATE_PROGRESS.run(c, _key(stage) | {"progress": stage.progress.model_dump(mode="json")})
    done, total = stage.progress.done, stage.progress.total
    data = {
        "job_id": stage.build,
        "phase": phase_of(stage.kind),
        "stage": stage.stage,
        "progress": round(100 * done / total) if total else 0,
        "message": stage.progress.message,
    }
    append(c, "workflow.progress", stage.build, now, data, replaces=stage.stage)


def put_diagnostics(c: sa.Connection, stage: Stage, now: datetime) -> None:
    """Append the first causes that a stage's diagnosis names as events."""
    if stage.verdict is None or stage.verdict.diagnosis is None:
        return
    for diagnostic in stage.verdict.diagnosis.errors[:MOST_DIAGNOSTIC_EVENTS]:
        data = {"stage": stage.stage, "round": stage.round, **diagnostic.model_dump(mode="json", exclude_defaults=True)}
        append(c, "stage.diagnostic", stage.build, now, data)


def close_open_stages(c: sa.Connection, build_id: int, reason: str, now: datetime) -> None:
    """Mark what still waits or runs as cancelled: its build is over."""
    for stage in stages_of(c, build_id):
        if stage.status.is_open:
            ended = {"status": StageStatus.CANCELLED, "reason": reason, "ended_at": now}
            put_stage(c, stage.model_copy(update=ended), now)


def phase_of(kind: str) -> str:
    """The seeds' phase (setup, build, test, validation, feedback) that a kind of stage belongs to."""
    return _PHASES.get(kind, "build")


def _key(stage: Stage) -> dict[str, Any]:
    return {
        "of_build": stage.build,
        "of_stage": stage.stage,
        "of_round": stage.round,
        "of_attempt": stage.attempt,
    }


def _stage_event(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.stage,
        "round": stage.round,
        "attempt": stage.attempt,
        "status": stage.status,
        "reason": stage.reason,
        "exit_code": stage.exit_code,
    }


def _change(c: sa.Connection, build_id: int, only_from: tuple[BuildStatus, ...], **values: Any) -> bool:
    return sql.changing(only_from, tuple(values)).run(c, {**values, "of_id": build_id}).rowcount == 1


def _build(row: Mapping[str, Any] | sa.RowMapping) -> Build:
    return Build(**row)


def _stage(row: Mapping[str, Any] | sa.RowMapping) -> Stage:
    return Stage(**row)
