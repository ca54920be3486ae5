"""`doctor`: what is here and what is missing, beside the quality check of a workflow."""

from pathlib import Path

from mcp_server import check_up
from mcp_server.demo.place import is_simulated
from mcp_server.engine.stages.base import StageContext
from mcp_server.idf.installation import Installation
from mcp_server.model import Verdict


class Doctor:
    """Params: `project`, `installation` (of the stage that builds; None: the one that the worker's environment has).

    Boards are looked at, and never asked: that would reset one that runs.
    """

    async def run(self, context: StageContext) -> Verdict:
        project = Path(context.params["project"])
        given = context.params.get("installation")
        installation = Installation.model_validate(given) if given else None
        if installation and is_simulated(installation.path):
            installation = None  # that there is no other one is what is to be said
        checks = await check_up.examine(context.config, context.environment, project, None, installation=installation)
        wrong = [check for check in checks if check.status == "fail"]
        doubtful = [check for check in checks if check.status == "warn"]
        told = [f"{one.name}: {one.found}" + (f" ({one.mend})" if one.mend else "") for one in (*wrong, *doubtful)]
        summary = "; ".join(told)[:600] or f"{len(checks)} checks, nothing is missing"
        return Verdict(result="fail" if wrong else "pass", summary=summary, details={"notes": told} if told else {})
