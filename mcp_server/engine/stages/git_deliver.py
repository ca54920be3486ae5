"""`git.deliver`: brings a new project what was made of it in an agent's copy. Needs no job."""

from mcp_server.agents.apply_to import apply_to
from mcp_server.agents.git import repository
from mcp_server.agents.keep import move_forward
from mcp_server.agents.workspace import open_
from mcp_server.engine.agent_past import trusted_commit
from mcp_server.engine.stages.base import StageContext, project_path
from mcp_server.errors import OrchestratorError
from mcp_server.model import Verdict


class GitDeliver:
    """Params: `project`, a folder in a workspace; `commit`: the project's branch is moved forward to what was
    committed there, else the files are changed and nothing is committed. Details: `delivered_to`.

    May be begun again. Only for a project that the build has made itself: nobody else's is changed.
    """

    async def run(self, context: StageContext) -> Verdict:
        folder = project_path(context)
        try:
            git = await repository(folder, context.environment)
            if git is None or (space := await open_(git.top)) is None:
                return Verdict(result="fail", summary=f"{folder} is no copy of a project")
            if context.params.get("commit"):
                branch, sha = await move_forward(space, context.environment)
                told = f"{branch} of {space.project} is at {sha[:10]}"
            else:
                accepted = trusted_commit(await context.history.rows())  # without what its build made there
                files = await apply_to(space, environment=context.environment, commit=accepted)
                told = f"{len(files)} file{'s' * (len(files) != 1)} changed in {space.project}, not committed"
        except OrchestratorError as error:
            return Verdict(result="fail", summary=str(error))
        return Verdict(result="pass", summary=told, details={"delivered_to": str(space.project)})
