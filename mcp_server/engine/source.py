"""What is being built: commit, author and branch, as Git tells them."""

import os

from mcp_server.idf.activation import run_tool

GIT_S = 5  # a tree on a slow disk may take long to compare; the build waits for it no longer than a second
LONGEST = 500


async def read_commit(folder: str) -> dict[str, str | None]:
    """commit_sha ('' without Git, with `+dirty` where the tree differs), commit_message, commit_author, branch."""
    answer = await _git(folder, "log", "-1", "--format=%H%x00%an%x00%s%x00%D")
    if answer is None:
        return {"commit_sha": ""}
    sha, author, subject, _ = (answer.rstrip("\n").split("\0") + [""] * 4)[:4]
    branch = await _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    changes = await _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit_sha": sha + ("+dirty" if changes else ""),
        "commit_author": author[:LONGEST],
        "commit_message": subject[:LONGEST],
        "branch": branch.strip()[:LONGEST] if branch else None,
    }


async def _git(folder: str, *arguments: str) -> str | None:
    """What git prints; None where it is absent, takes too long, or the folder is no work tree."""
    # Neither hooks, nor a file system monitor, nor locks: reading leaves the user's repository as it is.
    safe = ("-c", "core.fsmonitor=false", "-c", f"safe.directory={folder}", "--no-optional-locks")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        code, output, _ = await run_tool(["git", *safe, "-C", folder, *arguments], environment, GIT_S)
    except (OSError, TimeoutError):
        return None
    return output if code == 0 else None
