"""A build that is over and left files, without anything having been run."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from mcp_server.model import Artifact, BuildStatus, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds
from mcp_server.store.artifacts import put_artifacts


async def build_that_left(orchestrator: Orchestrator, place: Path, contents: Mapping[str, bytes]) -> int:
    """Its number. The files are in `place`, below the name of its only stage, `build`."""
    for name, content in contents.items():
        path = place / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    artifacts = tuple(
        Artifact(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    )
    store, now = await orchestrator.store(), orchestrator.clock.now()
    plan = Plan(stages=(StageSpec(name="build", kind="command", params={"project": str(place)}),))
    verdict = Verdict(result="pass", summary="", artifacts=artifacts)

    def statements(c: sa.Connection) -> int:  # in one transaction: no worker sees an open build
        project = builds.ensure_project(c, str(place), "lamp", now)
        build, _ = builds.insert_build(c, project, plan, name="p", args_key=str(place), now=now)
        number, passed = build.id, StageStatus.SUCCESS
        row = Stage(build=number, stage="build", kind="command", host="local", verdict=verdict, status=passed)
        builds.put_stage(c, row, now)
        put_artifacts(c, number, "build", artifacts, now)
        builds.set_running(c, number, now)
        builds.end_build(c, number, BuildStatus.SUCCESS, "exit", now, artifacts_path=str(place))
        return number

    return await store.write(statements)
