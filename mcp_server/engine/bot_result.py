"""What a bot is told of a build's end, from its rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mcp_server.build_spec import BuildResult
from mcp_server.model import Build, BuildStatus, Stage, StageStatus

MAX_OUTPUT = 4000  # characters


def bot_result(build: Build, status: BuildStatus, rows: Sequence[Stage], ended_at: datetime) -> BuildResult:
    """The result of a build that ends now with `status`; `error` is the sentence of the stage that failed first."""
    last = list({row.stage: row for row in rows}.values())
    told = [f"{row.stage}: {row.verdict.summary}" for row in last if row.verdict and row.verdict.summary]
    details = [row.verdict.details for row in last if row.verdict]
    failed = [row for row in last if row.status is StageStatus.FAILED]
    error = next((_sentence(row) for row in failed), None) if status is not BuildStatus.SUCCESS else None
    sha = next((found["commit_sha"] for found in reversed(details) if found.get("commit_sha")), None)
    deploy_url = next((found["deploy_url"] for found in reversed(details) if found.get("deploy_url")), None)
    files = dict.fromkeys(name for found in details for name in found.get("files_changed", ()))
    artifacts: dict[str, Any] = {"commit_sha": sha, "deploy_url": deploy_url}
    artifacts["files"] = [artifact.path for row in last if row.verdict for artifact in row.verdict.artifacts][:100]
    return BuildResult(
        success=status is BuildStatus.SUCCESS,
        output="\n".join(told)[:MAX_OUTPUT],
        error=error or (None if status is BuildStatus.SUCCESS else str(status)),
        commit_sha=sha,
        files_changed=tuple(files),
        duration_ms=round((ended_at - (build.started_at or build.created_at)).total_seconds() * 1000),
        artifacts={name: value for name, value in artifacts.items() if value},
    )


def _sentence(row: Stage) -> str:
    verdict = row.verdict
    if verdict is not None and verdict.diagnosis and verdict.diagnosis.errors:
        first = verdict.diagnosis.errors[0]
        place = f"{first.file}:{first.line}: " if first.file else ""
        return f"stage {row.stage}: {place}{first.message}"[:1000]
    return f"stage {row.stage}: {verdict.summary if verdict else row.reason or 'failed'}"[:1000]
