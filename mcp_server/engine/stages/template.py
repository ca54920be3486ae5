"""`template`: makes the project that the later stages work on."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mcp_server.engine.stages.base import StageContext
from mcp_server.errors import BadInput, EnvironmentMissing, OrchestratorError
from mcp_server.model import Verdict
from mcp_server.templates import ANSWERS, answers_of, create, created_already, first_commit

TICK_S = 0.02  # a file's time is that of the kernel's last tick


class Template:
    """Needs no job. Params: `template`, `destination` (an absolute folder), `variables`, `trusted`, and `author`
    (`Name <mail>`) where the project becomes a repository with a first commit.

    May be begun again: what was made of the same template with the same variables is left as it is; with `fresh` only
    what this build made, or the one that it is a retry of. A failure leaves nothing of the project.
    """

    async def run(self, context: StageContext) -> Verdict:
        params = context.params
        folder = Path(str(params["destination"]))
        variables = {
            str(name): str(value) for name, value in cast(Mapping[str, Any], params.get("variables", {})).items()
        }
        template, trusted = str(params["template"]), bool(params.get("trusted", False))
        try:
            there = await asyncio.to_thread(created_already, template, folder, variables, trusted=trusted)
            if there and params.get("fresh") and await asyncio.to_thread(_older, folder, context):
                return Verdict(result="fail", summary=f"{folder} is there already: give the new project another name")
            if not there:
                await create(template, folder, variables, trusted=trusted)
            answers = await asyncio.to_thread(answers_of, folder)
            details: dict[str, Any] = {"folder": str(folder), "template": answers.get("_src_path", template)}
            if commit := answers.get("_commit"):
                details["template_commit"] = commit
            if author := params.get("author"):
                ours = params.get("fresh") and context.build.retry_of is None
                details["commit_sha"] = await _commit(folder, str(author), leave=there and not ours)
        except (BadInput, EnvironmentMissing) as error:
            return Verdict(result="fail", summary=str(error))
        words = "was already made" if there else "made"
        return Verdict(result="pass", summary=f"{folder.name} {words} of {details['template']}", details=details)


def _older(folder: Path, context: StageContext) -> bool:
    """Whether somebody else made the project, before this stage began."""
    began = context.stage.started_at
    if began is None or context.build.retry_of is not None:
        return False
    return (folder / ANSWERS).stat().st_mtime < began.timestamp() - TICK_S


async def _commit(folder: Path, author: str, *, leave: bool) -> str:
    try:
        return await first_commit(folder, author)
    except OrchestratorError:
        if not leave:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        raise
