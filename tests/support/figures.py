"""Builds that are over, with figures in their verdicts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mcp_server.model import BuildStatus, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.store import builds

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command"),))


def compiled(seconds: float, file: str = "main/a.c") -> dict[str, Any]:
    """What `compile` of a verdict's details may be."""
    files = [{"file": file, "seconds": seconds}]
    return {"edges": 3, "wall_s": 2.0, "total_s": 3.5, "objects": 2, "objects_s": 3.0, "files": files}


def ran(**results: str) -> dict[str, Any]:
    """What `tests` of a verdict's details may be."""
    cases = [{"name": name, "suite": "gpio", "result": result, "seconds": 0.5} for name, result in results.items()]
    counts = {
        word: sum(r == given for r in results.values()) for word, given in (("passed", "pass"), ("failed", "fail"))
    }
    return {"total": len(cases), **counts, "skipped": 0, "cases": cases}


def add(
    c: sa.Connection, *attempts: dict[str, Any], path: str = "/src/valve", status: str = "success", priority: int = 10
) -> int:
    """A build with attempts at its stages, whose details these are; its number."""
    project = builds.ensure_project(c, path, path.rpartition("/")[2], NOW)
    key = f"{path}{c.scalar(sa.text('select count(*) from builds'))}"
    build, _ = builds.insert_build(c, project, PLAN, name="full", args_key=key, now=NOW, priority=priority)
    builds.set_running(c, build.id, NOW)
    seen: dict[str, int] = {}
    for details in attempts:
        name = str(details.pop("stage", "build"))
        seen[name] = seen.get(name, 0) + 1
        verdict = Verdict(result="pass", details=details)
        row = Stage(
            build=build.id, stage=name, attempt=seen[name], kind="command", host="local", status=StageStatus.SUCCESS
        )
        builds.put_stage(c, row.model_copy(update={"verdict": verdict, "started_at": NOW, "ended_at": NOW}), NOW)
    if status != "running":
        builds.end_build(c, build.id, BuildStatus(status), "exit", NOW + timedelta(seconds=9))
    return build.id
