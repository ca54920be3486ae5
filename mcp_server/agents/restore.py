"""Takes back what was done in a workspace since a commit of it."""

from collections.abc import Mapping

from mcp_server.agents.workspace import Workspace


async def restore(workspace: Workspace, commit: str, environment: Mapping[str, str] | None = None) -> None:
    """Every file as it was at `commit`, and the branch, too; what Git ignores, as a build directory, stays."""
    git = await workspace.git(environment)
    await git.run("symbolic-ref", "HEAD", f"refs/heads/{workspace.branch}")
    await git.run("reset", "-q", "--hard", commit)
    await git.run("clean", "-q", "-f", "-f", "-d")
