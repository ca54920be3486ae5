"""`git.push`: pushes the commit of a work tree to one branch. Needs no job."""

from mcp_server.agents.git import repository
from mcp_server.agents.push import PUSH_S, push
from mcp_server.engine.stages.base import StageContext, project_path
from mcp_server.model import Verdict


class GitPush:
    """Params: `project`; may have `remote` (a name or URL, "origin"), `branch` (that of HEAD), `allow_default`.

    Details: `outcome`, `commit_sha`, `branch`, `pushed_to` (the URL without a login; None where nothing was pushed),
    `notes`. Pushing again what is there passes.
    """

    async def run(self, context: StageContext) -> Verdict:
        """Fails with the remote's words where it refuses; times out after the stage's time, at most 120 s."""
        project, params = project_path(context), context.params
        git = await repository(project, context.environment)
        branch = params.get("branch") or (await git.branch() if git else None)
        if git and not branch:
            return Verdict(result="fail", summary=f"{project} is on no branch: name one to push to")
        pushed = await push(
            project,
            str(params.get("remote") or "origin"),
            str(branch or ""),
            allow_default=params.get("allow_default") is True,
            environment=context.environment,
            timeout_s=min(context.spec.timeout_s or PUSH_S, PUSH_S),
        )
        words = {"unchanged": "is there already", "new": "pushed as a new branch", "updated": "pushed"}
        told = f"{pushed.sha[:10]} {words.get(pushed.outcome, '')}: {pushed.branch} of {pushed.url}"
        return Verdict(
            result="pass" if pushed.ok else "timeout" if pushed.outcome == "timeout" else "fail",
            summary=told if pushed.ok else pushed.text,
            details={
                "outcome": pushed.outcome,
                "commit_sha": pushed.sha or None,
                "branch": pushed.branch,
                "pushed_to": pushed.url if pushed.ok else None,
                "notes": list(pushed.notes),
            },
        )
