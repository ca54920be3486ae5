"""What was done in a workspace, step by step, as the one commit that others are shown."""

from collections.abc import Mapping

from mcp_server.agents.commit import Committed, described
from mcp_server.agents.git import Git
from mcp_server.agents.snapshot import commit_tree
from mcp_server.agents.workspace import Workspace


async def begun_clean(space: Workspace, environment: Mapping[str, str] | None = None) -> bool:
    """Whether the workspace began with what the user's HEAD held, and with nothing that was not committed."""
    if space.head_before is None:
        return False
    git = await space.git(environment)
    return await _tree(git, space.head_before) == await _tree(git, space.base)


async def as_one(
    space: Workspace,
    message: str,
    trailer: str,
    author: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Committed | None:
    """Replace the workspace's commits by one with their tree; None where that would change nothing.

    It comes after the last one whose message ends with the line `trailer`, which may have been pushed, else after the
    user's HEAD; where the user's tree held more than that, after the commit of it.
    """
    git = await space.git(environment)
    start = space.head_before if await begun_clean(space, environment) else space.base
    head = await git.head()
    assert start is not None
    assert head is not None
    words = ("rev-list", "-1", "--fixed-strings", f"--grep={trailer}", head, "--not", start)
    parent = await git.text(*words) or start
    tree = await _tree(git, head)
    if tree == await _tree(git, parent):
        return None
    sha = await commit_tree(git, tree, [parent], f"{message.strip()}\n\n{trailer}\n", author)
    await git.run("update-ref", "-m", "commit: build-orchestrator", "HEAD", sha, head)
    return await described(git, sha)


async def _tree(git: Git, commit: str) -> str:
    return await git.text("rev-parse", f"{commit}^{{tree}}")
