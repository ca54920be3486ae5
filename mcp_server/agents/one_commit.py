"""What was done in a workspace, step by step, as the one commit that others are shown."""

from collections.abc import Mapping

from mcp_server.agents.commit import Committed, described
from mcp_server.agents.git import Git
from mcp_server.agents.snapshot import commit_tree
from mcp_server.agents.workspace import Workspace
from mcp_server.errors import BadInput


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


async def lead(git: Git, branch: str, sha: str) -> str:
    """Let a branch of the repository that a workspace is of end at a commit; "", or why it was left where it is.

    BadInput: no name of a branch.
    """
    ref = f"refs/heads/{branch}"
    if branch.startswith("-") or (await git.run("check-ref-format", ref, check=False)).code:
        raise BadInput("branch", f"{branch[:120]!r} is no name of a branch")
    known = await git.text("rev-parse", "--verify", "--quiet", ref, check=False)
    if known == sha:
        return ""
    if known and (await git.run("merge-base", "--is-ancestor", known, sha, check=False)).code:
        return f"branch {branch} is there already, with commits that this one does not come after"
    if f"branch {ref}" in (await git.text("worktree", "list", "--porcelain")).splitlines():
        return f"branch {branch} is checked out, and was left as it is"
    await git.run("update-ref", "-m", "branch: build-orchestrator", ref, sha, known or "0" * len(sha))
    return ""


async def _tree(git: Git, commit: str) -> str:
    return await git.text("rev-parse", f"{commit}^{{tree}}")
