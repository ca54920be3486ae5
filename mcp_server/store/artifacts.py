"""Artifacts: the files that a build's stages left, with their hashes."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Artifact, Stage, StageStatus
from mcp_server.store.events import append
from mcp_server.store.tables import ARTIFACTS, BUILDS, STAGES

BUILD_KINDS = ("idf.build", "idf.remote")
"""Stages that leave firmware."""

MOST_RETRIES = 100  # followed back to the build that built


def put_artifacts(c: sa.Connection, build_id: int, stage: str, artifacts: Sequence[Artifact], now: datetime) -> None:
    """Record what a stage left; what it left in an earlier round is replaced."""
    c.execute(sa.delete(ARTIFACTS).where(ARTIFACTS.c.build == build_id, ARTIFACTS.c.stage == stage))
    for artifact in artifacts:
        c.execute(sa.insert(ARTIFACTS).values(build=build_id, stage=stage, **artifact.model_dump()))
        append(c, "artifact.stored", build_id, now, {"stage": stage, **artifact.model_dump()})


def artifacts_of(c: sa.Connection, build_id: int) -> list[tuple[str, Artifact]]:
    """Stage and artifact, in the order of their paths."""
    query = sa.select(ARTIFACTS).where(ARTIFACTS.c.build == build_id).order_by(ARTIFACTS.c.stage, ARTIFACTS.c.path)
    found: list[tuple[str, Artifact]] = []
    for row in c.execute(query).mappings():
        values = dict(row)
        values.pop("build")
        found.append((values.pop("stage"), Artifact(**values)))
    return found


def newest_builders(c: sa.Connection, project_id: str) -> list[Stage]:
    """Of the newest build of a project that built firmware, or tried to: the last attempt at each stage that did."""
    query = (
        sa.select(STAGES.c.build)
        .join(BUILDS, BUILDS.c.id == STAGES.c.build)
        .where(BUILDS.c.project_id == project_id, STAGES.c.kind.in_(BUILD_KINDS))
        .where(STAGES.c.status != StageStatus.SKIPPED)
    )
    newest = c.execute(query.order_by(STAGES.c.build.desc()).limit(1)).scalar()
    return [] if newest is None else builders_of(c, newest)


def builders_of(c: sa.Connection, build_id: int) -> list[Stage]:
    """The last attempt at each stage of a build that built firmware, or tried to, by name."""
    query = sa.select(STAGES).where(STAGES.c.build == build_id, STAGES.c.kind.in_(BUILD_KINDS))
    last = {
        row["stage"]: Stage(**row)
        for row in c.execute(query.order_by(STAGES.c.stage, STAGES.c.round, STAGES.c.attempt)).mappings()
        if row["status"] != StageStatus.SKIPPED
    }
    return list(last.values())


def built_in(c: sa.Connection, build_id: int, build_dir: str) -> tuple[int, tuple[Artifact, ...]] | None:
    """What a stage that passed left in this directory, in this build or in the one that it retries: number, files.

    None: no stage of those builds there.
    """
    asked: int | None = build_id
    for _ in range(MOST_RETRIES):
        if asked is None:
            return None
        for row in recorded_products(builders_of(c, asked)):
            if row.verdict is not None and (row.resolved or {}).get("build_dir") == build_dir:
                return asked, row.verdict.artifacts
        asked = c.execute(sa.select(BUILDS.c.retry_of).where(BUILDS.c.id == asked)).scalar()
    return None


def newest_in(c: sa.Connection, build_dir: str) -> Stage | None:
    """The last attempt to build firmware in this directory, of whichever build; None: none is recorded."""
    here = STAGES.c.resolved["build_dir"].as_string() == build_dir
    over = STAGES.c.status.in_((StageStatus.SUCCESS, StageStatus.FAILED, StageStatus.CANCELLED))
    query = sa.select(STAGES).where(STAGES.c.kind.in_(BUILD_KINDS), over, here)
    newest = query.order_by(STAGES.c.build.desc(), STAGES.c.round.desc(), STAGES.c.attempt.desc()).limit(1)
    row = c.execute(newest).mappings().first()
    return None if row is None else Stage(**row)


def recorded_products(stages: Sequence[Stage]) -> list[Stage]:
    """Those that passed and left firmware."""
    return [
        row
        for row in stages
        if row.status is StageStatus.SUCCESS
        and row.verdict is not None
        and any(one.kind in ("app", "elf") for one in row.verdict.artifacts)
    ]
