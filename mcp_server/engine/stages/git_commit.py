"""`git.commit`: commits what a build's stages left in a work tree. Needs no job."""

from pathlib import Path

from mcp_server.agents.commit import Committed, commit_folder, default_branches, described, with_trailer
from mcp_server.agents.git import Git, repository
from mcp_server.agents.one_commit import as_one, lead
from mcp_server.agents.workspace import Workspace, open_
from mcp_server.engine.stages.base import StageContext, project_path
from mcp_server.model import Verdict

MAX_NAMES = 200  # files that the details name


class GitCommit:
    """Params: `project`, `message`; may have `author` ("Name <mail>"), `branch`, which begins at HEAD, and `paths`.

    `whole`: in a workspace, an agent's steps since its beginning, or since this build's last commit, become one commit,
    and `branch` is led to it; the workspace stays on its own. `allow_default` false: never on a default branch.

    Details: `commit_sha`, `branch`, `files_changed` (at most 200 names), `file_count`. The message ends with the line
    `Build: <store id>-<build id>`: by that a worker that took over sees that it was done.
    """

    async def run(self, context: StageContext) -> Verdict:
        """Passes also where nothing was changed: `commit_sha` is then HEAD's, None without a commit."""
        project, params = project_path(context), context.params
        git = await repository(project, context.environment)
        space = await open_(git.top) if git else None
        branch = params.get("branch")
        named = space is None or branch  # a copy is on a branch of its own
        if named and params.get("allow_default") is False and (why := await _why_not(git, project, branch)):
            return Verdict(result="fail", summary=why)
        made, verb = await self._made(context, git, space)
        git = git or await repository(project, context.environment)
        if made is not None:
            left = await lead(git, branch, made.sha) if git and space and branch else ""
            note = left or (f"branch {branch} leads to it" if space and branch else "")
            return _verdict(made, verb, note)
        sha, on = (await git.head(), await git.branch()) if git else (None, None)
        nothing = _verdict(Committed(sha or "", on or "", ()), "")
        details = {**nothing.details, "commit_sha": sha}
        return Verdict(result="pass", summary="nothing was changed: there is nothing to commit", details=details)

    async def _made(
        self, context: StageContext, git: Git | None, space: Workspace | None
    ) -> tuple[Committed | None, str]:
        """The commit, also one that was made before, and what was done; None where nothing was changed."""
        project, params, trailer = project_path(context), context.params, _trailer(context)
        if git and (sha := await with_trailer(git, trailer)):
            return await described(git, sha), "committed before"
        one = space is not None and params.get("whole")
        message = str(params["message"]).strip()
        made = await commit_folder(
            project,
            message if one else f"{message}\n\n{trailer}",  # a step like an agent's own, until all are one
            params.get("author"),
            branch=None if space else params.get("branch"),
            paths=params.get("paths", ()),
            environment=context.environment,
        )
        if one and space is not None:
            made = await as_one(space, message, trailer, params.get("author"), context.environment)
        return made, "committed"


def _trailer(context: StageContext) -> str:
    """The message's last line; with the stage's name where the build commits more than once."""
    several = sum(spec.kind == "git.commit" for spec in context.build.plan.stages) > 1
    return f"Build: {context.store_id}-{context.build.id}{f' ({context.spec.name})' if several else ''}"


async def _why_not(git: Git | None, project: Path, branch: str | None) -> str:
    """Why nothing is committed, where that must not be on a default branch."""
    mend = "name another one: with: {branch: …}, or set security.push_to_default in config.yaml"
    if git is None:
        return f"{project} is in no Git repository: there is nothing to commit to"
    chosen = branch or await git.branch()
    if chosen is None:
        return f"{git.top} is on no branch: name one: with: {{branch: …}}"
    return f"{chosen} may be the default branch of {git.top}: {mend}" if chosen in await default_branches(git) else ""


def _verdict(made: Committed, verb: str, note: str = "") -> Verdict:
    count = len(made.files)
    return Verdict(
        result="pass",
        summary=f"{verb} {made.sha[:10]} on {made.branch or 'no branch'}: {count} file{'s' * (count != 1)}"
        + (f"; {note}" if note else ""),
        details={
            "commit_sha": made.sha,
            "branch": made.branch,
            "files_changed": [_shown(name) for name in made.files[:MAX_NAMES]],
            "file_count": count,
            **({"notes": [note]} if note else {}),
        },
    )


def _shown(name: str) -> str:
    """A file's name as text that can be stored: what is no UTF-8 is replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
