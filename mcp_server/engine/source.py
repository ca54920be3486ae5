"""What is being built: commit, author and branch, as Git tells them."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE

from mcp_server.clock import Clock

GIT_S = 5  # a tree on a slow disk may take long to compare; the build does not wait for it
LONGEST = 500


async def read_commit(folder: str, clock: Clock) -> dict[str, str | None]:
    """commit_sha ('' without Git, with `+dirty` where the tree differs), commit_message, commit_author, branch."""
    answer = await _git(folder, clock, "log", "-1", "--format=%H%x00%an%x00%s%x00%D")
    if answer is None:
        return {"commit_sha": ""}
    sha, author, subject, _ = (answer.rstrip("\n").split("\0") + [""] * 4)[:4]
    branch = await _git(folder, clock, "symbolic-ref", "--short", "-q", "HEAD")
    changes = await _git(folder, clock, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit_sha": sha + ("+dirty" if changes else ""),
        "commit_author": author[:LONGEST],
        "commit_message": subject[:LONGEST],
        "branch": branch.strip()[:LONGEST] if branch else None,
    }


async def _git(folder: str, clock: Clock, *arguments: str) -> str | None:
    """What git prints; None where it is absent, takes too long, or the folder is no work tree."""
    # Neither hooks, nor a file system monitor, nor locks: reading leaves the user's repository as it is.
    safe = ("-c", "core.fsmonitor=false", "-c", f"safe.directory={folder}", "--no-optional-locks")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        git = await asyncio.create_subprocess_exec(
            "git", *safe, "-C", folder, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environment
        )
    except OSError:
        return None
    try:
        output, _ = await clock.within(GIT_S, git.communicate())
    except TimeoutError:
        return None
    finally:
        if git.returncode is None:
            git.kill()
            await git.wait()
    return output.decode("utf-8", "replace") if git.returncode == 0 else None
