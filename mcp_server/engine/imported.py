"""What a project is after the build that cloned or synced it."""

from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Build, BuildStatus
from mcp_server.project_plans import IMPORT, SYNC
from mcp_server.store import builds, projects

LONGEST = 300


def settle(c: sa.Connection, build: Build, status: BuildStatus, output: str, now: datetime) -> None:
    """pending → active, or error with the reason. A sync that failed leaves the project as it was, with the reason."""
    if build.name not in (IMPORT, SYNC) or build.plan.stages[0].name not in ("clone", SYNC):
        return
    project = builds.get_project(c, build.project_id)
    if project.source is None:
        return
    if status is BuildStatus.SUCCESS:
        projects.set_project(c, project.id, status="active", reason=None, synced_at=now)
    elif build.name == IMPORT:
        projects.set_project(c, project.id, status="error", reason=_reason(status, output))
    else:
        projects.set_project(c, project.id, reason=_reason(status, output))


def _reason(status: BuildStatus, output: str) -> str:
    """The last line that says why, as git ends with it."""
    if status is BuildStatus.CANCELLED:
        return "it was cancelled"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    why = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
    return why.removeprefix("fatal: ")[:LONGEST] or str(status)
