"""Brings what was committed in a workspace to the branch that its project is on, by moving that forward."""

from collections.abc import Mapping

from mcp_server.agents.git import GitFailed, repository
from mcp_server.agents.workspace import Workspace
from mcp_server.errors import Conflict


async def move_forward(space: Workspace, environment: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Move the project's branch and files to the workspace's HEAD; (branch, commit). What is there already is left.

    Conflict: the project is in no repository any more, its branch has commits of its own since, or its files were
    changed; nothing is changed then.
    """
    git = await repository(space.project, environment)
    if git is None or space.is_copy:
        raise Conflict(f"{space.project} is in no Git repository")
    branch, head = await git.branch(), await git.head()
    sha = await (await space.git(environment)).head()
    if branch is None or sha is None or head is None:
        raise Conflict(f"{git.top} is on no branch with a commit: branch {space.branch} has the result")
    if head == sha:
        return branch, sha
    if (await git.run("merge-base", "--is-ancestor", head, sha, check=False)).code:
        raise Conflict(f"{git.top}: {branch} has commits of its own by now: branch {space.branch} has the result")
    try:
        # Stops before it changes anything where a changed or unknown file is in its way.
        await git.run("update-index", "-q", "--refresh", check=False)
        await git.run("read-tree", "-m", "-u", head, sha)
    except GitFailed as error:
        raise Conflict(f"{git.top} was changed meanwhile ({error}): branch {space.branch} has the result") from None
    await git.run("update-ref", "-m", "build-orchestrator: fast-forward", "HEAD", sha, head)
    return branch, sha
