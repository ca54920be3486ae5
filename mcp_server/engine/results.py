"""What is kept of a build that is over: its logs, what its stages left, and a manifest that says what is what."""

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from mcp_server.engine import transfer
from mcp_server.engine.services import Services
from mcp_server.errors import HostUnreachable, OrchestratorError
from mcp_server.model import Build, BuildStatus, Stage

log = logging.getLogger(__name__)


async def archive(services: Services, build: Build, status: BuildStatus, rows: Sequence[Stage]) -> str | None:
    """Keep logs and manifest beside the artifacts; the folder. What cannot be read any more is named in the manifest.

    None where nothing could be kept: the build is what matters, so that is only logged.
    """
    missing: dict[str, str] = {}
    away: dict[str, HostUnreachable] = {}  # asked once each: a host that hangs costs its patience for every log
    try:
        for row in rows:
            if row.job_id is None:
                continue
            name = f"{row.stage}-{row.round}-{row.attempt}.log"
            try:
                if row.host in away:
                    raise away[row.host]
                await services.archive.add_log(build.id, name, services.host(row.host).follow(row.job_id))
            except OrchestratorError as error:
                if isinstance(error, HostUnreachable):
                    away[row.host] = error
                missing[name] = str(error)
            missing |= await _keep_products(services, row)
        manifest = await services.archive.write_manifest(build.id, _facts(build, status, rows, missing))
    except (OrchestratorError, OSError) as error:
        log.warning("build %d is not archived: %s", build.id, error)
        return None
    return str(manifest.parent)


async def _keep_products(services: Services, row: Stage) -> Mapping[str, str]:
    """Copy what lies in a build directory of this machine; what cannot be kept, and why."""
    folder = (row.resolved or {}).get("build_dir")
    if row.verdict is None or not folder:
        return {}
    missing: dict[str, str] = {}
    async with transfer.staging(services, f"{row.build}-{row.stage}") as staged:
        kept = services.archive.folder(row.build, row.stage)
        for artifact in row.verdict.artifacts:
            if await anyio.Path(kept / artifact.path).is_file():
                continue  # one that the stage's `artifacts` named
            try:
                await asyncio.to_thread(_copy, Path(folder) / artifact.path, staged / artifact.path)
                await services.archive.add(row.build, row.stage, staged, [artifact])
            except (OrchestratorError, OSError) as error:
                missing[artifact.path] = str(error)
    return missing


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _facts(build: Build, status: BuildStatus, rows: Sequence[Stage], missing: Mapping[str, str]) -> Mapping[str, Any]:
    kept = ("stage", "round", "attempt", "kind", "host", "status", "reason", "exit_code", "started_at", "ended_at")
    return {
        "build": build.id,
        "task_id": build.task_id,
        "name": build.name,
        "status": status,
        "commit_sha": build.commit_sha,
        "branch": build.branch,
        "started_at": build.started_at and build.started_at.isoformat(),
        "stages": [row.model_dump(mode="json", include=set(kept)) for row in rows],
        "missing": dict(missing),
    }
