"""What a bot is told of a build's end, from its rows.

May import: model, build_spec. Never: store, engine, a front.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mcp_server.build_spec import BuildResult
from mcp_server.model import Build, BuildStatus, Stage, StageStatus

AGENTS = "agent."  # what the kinds of stages begin with in which an agent works
MAX_OUTPUT = 4000  # characters
MAX_FILES = 200  # names


def bot_result(
    build: Build,
    status: BuildStatus,
    rows: Sequence[Stage],
    ended_at: datetime,
    deciding: Stage | None = None,
    sentence: str = "",
) -> BuildResult:
    """The result of a build that ends now with `status`.

    `error` is `sentence`, or else that of the stage that decided. Only what the build committed for its bot is a
    `commit_sha`: an agent's own steps are on the branch, and are nobody's wish.
    """
    last = list({row.stage: row for row in rows}.values())
    skipped = {spec.name: spec.skip for spec in build.plan.stages}
    said = {row.stage: _summary(row) or skipped.get(row.stage, "") for row in last}
    told = [f"{stage}: {sentence}" for stage, sentence in said.items() if sentence]
    commits = [row.verdict.details for row in last if row.kind == "git.commit" and row.verdict]
    found = [row.verdict.details for row in last if row.verdict]
    sha = next((details["commit_sha"] for details in reversed(commits) if details.get("commit_sha")), None)
    files = _files([row for row in rows if row.status is StageStatus.SUCCESS])
    artifacts: dict[str, Any] = {
        "commit_sha": sha,
        "branch": next((row.resolved["branch"] for row in last if row.kind.startswith(AGENTS) and row.resolved), None),
        "deploy_url": next((one["deploy_url"] for one in reversed(found) if one.get("deploy_url")), None),
        "files": [artifact.path for row in last if row.verdict for artifact in row.verdict.artifacts][:MAX_FILES],
    }
    return BuildResult(
        success=status is BuildStatus.SUCCESS,
        output="\n".join(told)[:MAX_OUTPUT],
        error=None if status is BuildStatus.SUCCESS else _error(status, last, deciding, sentence),
        commit_sha=sha,
        files_changed=tuple(files),
        duration_ms=max(round((ended_at - (build.started_at or build.created_at)).total_seconds() * 1000), 0),
        artifacts={name: value for name, value in artifacts.items() if value},
    )


def _files(rows: Sequence[Stage]) -> list[str]:
    """What the commit changed, else what the agent did in all rounds."""
    for kinds in ("git.commit", AGENTS):
        found = [row.verdict.details for row in rows if row.kind.startswith(kinds) and row.verdict]
        named = [details.get("files_changed", ()) for details in found]
        if files := list(dict.fromkeys(name for names in named for name in names)):
            return files[:MAX_FILES]
    return []


def _error(status: BuildStatus, last: Sequence[Stage], deciding: Stage | None, sentence: str) -> str:
    if sentence:
        return sentence[:1000]
    if status is BuildStatus.CANCELLED:
        return "cancelled"
    failed = deciding or next((row for row in last if row.status is StageStatus.FAILED), None)
    return sentence_of(failed) if failed else str(status)


def _summary(row: Stage) -> str:
    if row.verdict is not None:
        return row.verdict.summary
    return row.reason or "" if row.status is StageStatus.CANCELLED else ""


def sentence_of(row: Stage) -> str:
    """What a stage that did not pass says first, with its place."""
    verdict = row.verdict
    if verdict is not None and verdict.diagnosis and verdict.diagnosis.errors:
        first = verdict.diagnosis.errors[0]
        place = f"{first.file}:{first.line}: " if first.file else ""
        return f"stage {row.stage}: {place}{first.message}"[:1000]
    return f"stage {row.stage}: {verdict.summary if verdict else row.reason or 'failed'}"[:1000]
