"""`template`: makes the project that the later stages work on."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mcp_server.engine.stages.base import StageContext
from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.model import Verdict
from mcp_server.templates import answers_of, create, created_already, first_commit


class Template:
    """Needs no job. Params: `template`, `destination` (an absolute folder), `variables`, `trusted`, and `author`
    (`Name <mail>`) where the project becomes a repository with a first commit.

    May be begun again: what was made of the same template with the same variables is left as it is.
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
            if not there:
                await create(template, folder, variables, trusted=trusted)
            answers = await asyncio.to_thread(answers_of, folder)
            details: dict[str, Any] = {"folder": str(folder), "template": answers.get("_src_path", template)}
            if commit := answers.get("_commit"):
                details["template_commit"] = commit
            if author := params.get("author"):
                details["commit_sha"] = await first_commit(folder, str(author))
        except (BadInput, EnvironmentMissing) as error:
            return Verdict(result="fail", summary=str(error))
        words = "was already made" if there else "made"
        return Verdict(result="pass", summary=f"{folder.name} {words} of {details['template']}", details=details)
