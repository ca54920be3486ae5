"""`git.push`: pushes the commit of a work tree to one branch. Needs no job."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from mcp_server.agents.git import Git, real_path, repository
from mcp_server.agents.one_commit import begun_clean
from mcp_server.agents.push import PUSH_S, push, url_of
from mcp_server.agents.workspace import IGNORED, open_
from mcp_server.engine.stages.base import StageContext, project_path
from mcp_server.errors import Conflict
from mcp_server.model import Verdict


class GitPush:
    """Params: `project`; may have `remote` (a name or URL, "origin"), `branch` (that of HEAD), `allow_default`.

    Details: `outcome`, `commit_sha`, `branch`, `pushed_to` (the URL without a login; None where nothing was pushed),
    `notes`. Pushing again what is there passes. `only_look`: whether the project could be pushed, as far as that is to
    be seen here.
    """

    async def run(self, context: StageContext) -> Verdict:
        """Fails with the remote's words where it refuses; times out after the stage's time, at most 120 s."""
        project, params = project_path(context), context.params
        if context.config.security.allow_push == "never":  # it may have been forbidden since the build was started
            raise Conflict("security.allow_push of config.yaml is `never`: nothing is pushed from here")
        git = await repository(project, context.environment)
        if why := await _why_not(git, str(params.get("remote") or "origin"), project, context.environment):
            return Verdict(result="fail", summary=why)
        if params.get("only_look"):
            return Verdict(result="pass", summary=f"{project} can be pushed")
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


async def _why_not(git: Git | None, remote: str, project: Path, environment: Mapping[str, str]) -> str:
    """Why nothing of this tree is pushed: what others are shown must be what its user has committed, and the build."""
    if git is None:
        return f"{project} is in no Git repository: there is nothing to push"
    if url_of(git, remote) is None:
        return f"{git.top} has no remote {remote}: add it, or name another"
    if (space := await open_(git.top)) is not None:
        clean, whose = await begun_clean(space, environment), space.project
    else:
        clean, whose = await _clean(git, project), project
    return "" if clean else f"{whose} has changes that are not committed: commit them first, so that they can be pushed"


async def _clean(git: Git, project: Path) -> bool:
    """Whether the tree holds what HEAD does, but for what builds make."""
    if await git.head() is None:
        return False
    done = await git.run("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", timeout_s=300)
    below = (await asyncio.to_thread(real_path, project)).relative_to(git.top)
    made = tuple(b"?? " + os.fsencode(below / name) for name in IGNORED)
    return not [line for line in done.out.split(b"\0") if line and not line.startswith(made)]
