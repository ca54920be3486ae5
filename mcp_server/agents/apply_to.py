"""Brings what was accepted in a workspace into the user's tree: all of it, or nothing."""

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mcp_server.agents.changes import DIFF, now
from mcp_server.agents.git import Git, real_path, repository
from mcp_server.agents.workspace import Workspace
from mcp_server.errors import BadInput, Conflict
from mcp_server.text import one_line

MAX_PATCH = 64 << 20  # bytes, binary files included
_NAMED = re.compile(r"^error: (?:patch failed: )?(.+?)(?::\d+$|: .*$)", re.M)


async def apply_to(
    workspace: Workspace,
    project: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    commit: str | None = None,
) -> tuple[str, ...]:
    """Apply what differs from the workspace's beginning to the user's files, not to the index; the files' paths.

    Of the workspace's files as they are, or of a `commit` in it.

    What was applied before is left as it is. Conflict: a file is not any more what the change was made from; none was
    changed then. BadInput: a submodule was changed, or the change is over 64 MB.
    """
    project = project or workspace.project
    async with now(workspace, environment) as (git, variables, files, left_out):
        tree = commit or files
        if left_out and commit is None:
            raise BadInput("project", f"{left_out[0]}: nothing was applied")
        raw = await git.run(*DIFF, "-z", "--raw", workspace.base, tree, variables=variables)
        words = (*DIFF, "-p", "--binary", "--full-index", workspace.base, tree)
        patch = await git.run(*words, variables=variables, limit=MAX_PATCH, check=False)
    if b"160000" in b"".join(part for part in raw.out.split(b"\0") if part.startswith(b":")):
        raise BadInput("project", "a submodule was changed: that cannot be applied, nothing was")
    if patch.cut or patch.code:
        raise BadInput("project", f"the change is longer than {MAX_PATCH:,} bytes: merge branch {workspace.branch}")
    if not patch.out:
        return ()
    target = await _target(workspace, project, environment)
    with tempfile.TemporaryDirectory(prefix="bo-patch-") as folder:
        file = Path(folder) / "patch"
        await asyncio.to_thread(file.write_bytes, patch.out)
        # Without a way back first, so that a second call after a sudden end finds nothing to do.
        if (await target.run("apply", "--check", "--reverse", str(file), check=False)).code:
            done = await target.run("apply", str(file), check=False)
            if done.code:
                raise Conflict(_misfit(target.top, done.err))
    parts = raw.out.split(b"\0")
    return tuple(os.fsdecode(name) for name in parts[1::2] if name)


async def _target(workspace: Workspace, project: Path, environment: Mapping[str, str] | None) -> Git:
    git = await repository(project, environment)
    if not workspace.is_copy:
        if git is None:
            raise Conflict(f"{project} is in no Git repository any more")
        return git
    # Git looks for no repository above this folder: in a folder of one it would apply only what that one knows.
    return Git(real_path(project), (), os.environ if environment is None else environment)


def _misfit(top: Path, said: str) -> str:
    names = sorted(set(_NAMED.findall(said)))
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"{top}: {shown or one_line(said, 300)} changed meanwhile, so that the fix does not fit: nothing was applied"
