"""Artifacts: the files that a build's stages left, with their hashes."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Artifact
from mcp_server.store.events import append
from mcp_server.store.tables import ARTIFACTS


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
