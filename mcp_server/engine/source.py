"""What is being built: commit, author and branch, as Git tells them."""

import os

from mcp_server.idf.activation import run_tool

GIT_S = 5  # a tree on a slow disk that takes longer to compare has no commit told: half of it would be a lie
LONGEST = 500
UNBORN, DETACHED = "(initial)", "(detached)"  # as `git status` writes that there is no commit, or no branch
MOST_KNOWN = 500
_KNOWN: dict[str, tuple[str, str]] = {}


async def read_commit(folder: str) -> dict[str, str | None]:
    """commit_sha ('' without Git, with `+dirty` where the tree differs), commit_message, commit_author, branch."""
    answer = await _git(folder, "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no")
    heads = dict(line[2:].split(" ", 1) for line in (answer or "").splitlines() if line.startswith("# "))
    sha, branch = heads.get("branch.oid", UNBORN), heads.get("branch.head")
    if sha == UNBORN or (words := await _words(folder, sha)) is None:
        return {"commit_sha": ""}
    changes = len((answer or "").splitlines()) > len(heads)
    return {
        "commit_sha": sha + ("+dirty" if changes else ""),
        "commit_author": words[0],
        "commit_message": words[1],
        "branch": branch[:LONGEST] if branch and branch != DETACHED else None,
    }


async def _words(folder: str, sha: str) -> tuple[str, str] | None:
    """Author and subject of a commit, which never change: looked up once."""
    if (known := _KNOWN.get(sha)) is not None:
        return known
    answer = await _git(folder, "log", "-1", "--format=%an%x00%s", sha)
    if answer is None:
        return None
    author, _, subject = answer.rstrip("\n").partition("\0")
    if len(_KNOWN) >= MOST_KNOWN:
        _KNOWN.clear()
    found = _KNOWN[sha] = author[:LONGEST], subject[:LONGEST]
    return found


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
