"""`setup`: the project manager's part of a workflow: the project is one, and its target is one that can be built."""

import asyncio
from pathlib import Path

from mcp_server.engine.stages.base import StageContext
from mcp_server.idf.installation import Installation, checked_target
from mcp_server.idf.project import DEFAULT_TARGET, inspect_project
from mcp_server.model import Verdict


class Setup:
    """Params: `project`, `target`, `installation` (None where another host builds)."""

    async def run(self, context: StageContext) -> Verdict:
        return await asyncio.to_thread(_checked, context)


def _checked(context: StageContext) -> Verdict:
    project = inspect_project(Path(context.params["project"]))
    wanted, notes = context.params.get("target"), list[str]()
    target = wanted or project.target or DEFAULT_TARGET
    given = context.params.get("installation")
    words = [project.name, target]
    if given:
        installation = Installation.model_validate(given)
        checked_target(installation, target)
        words.append(f"ESP-IDF {installation.version}")
    if wanted and project.target and wanted != project.target:
        notes.append(f"the target changes from {project.target} to {wanted}: everything is configured anew")
    return Verdict(result="pass", summary=", ".join(words), details={"notes": notes} if notes else {})
