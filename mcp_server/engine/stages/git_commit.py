"""`git.commit`: commits what a build's stages left in a work tree. Needs no job."""

from mcp_server.agents.commit import Committed, commit_folder, described, with_trailer
from mcp_server.agents.git import repository
from mcp_server.agents.one_commit import as_one
from mcp_server.agents.workspace import open_
from mcp_server.engine.stages.base import StageContext, project_path
from mcp_server.model import Verdict

MAX_NAMES = 200  # files that the details name


class GitCommit:
    """Params: `project`, `message`; may have `author` ("Name <mail>") and `branch`, which begins at HEAD.

    `whole`: in a workspace, an agent's steps since its beginning, or since this build's last commit, become one commit.

    Details: `commit_sha`, `branch`, `files_changed` (at most 200 names), `file_count`. The message ends with the line
    `Build: <store id>-<build id>`: by that a worker that took over sees that it was done.
    """

    async def run(self, context: StageContext) -> Verdict:
        """Passes also where nothing was changed: `commit_sha` is then HEAD's, None without a commit."""
        project, params = project_path(context), context.params
        trailer = f"Build: {context.store_id}-{context.build.id}"
        git = await repository(project, context.environment)
        if git and (sha := await with_trailer(git, trailer)):
            return _verdict(await described(git, sha), "committed before")
        made = await commit_folder(
            project,
            f"{str(params['message']).strip()}\n\n{trailer}",
            params.get("author"),
            branch=params.get("branch"),
            environment=context.environment,
        )
        git = git or await repository(project, context.environment)
        if params.get("whole") and git and (space := await open_(git.top)) is not None:
            made = await as_one(space, str(params["message"]), trailer, params.get("author"), context.environment)
        if made is not None:
            return _verdict(made, "committed")
        sha, branch = (await git.head(), await git.branch()) if git else (None, None)
        nothing = _verdict(Committed(sha or "", branch or "", ()), "")
        details = {**nothing.details, "commit_sha": sha}
        return Verdict(result="pass", summary="nothing was changed: there is nothing to commit", details=details)


def _verdict(made: Committed, verb: str) -> Verdict:
    count = len(made.files)
    return Verdict(
        result="pass",
        summary=f"{verb} {made.sha[:10]} on {made.branch or 'no branch'}: {count} file{'s' * (count != 1)}",
        details={
            "commit_sha": made.sha,
            "branch": made.branch,
            "files_changed": [_shown(name) for name in made.files[:MAX_NAMES]],
            "file_count": count,
        },
    )


def _shown(name: str) -> str:
    """A file's name as text that can be stored: what is no UTF-8 is replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
