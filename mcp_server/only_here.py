"""What a clone holds that is nowhere else: commits that its origin is not known to have, changes that are no commit.

May import: errors, agents, text. Never: engine, store, a front.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcp_server.agents.git import Git, real_path, repository
from mcp_server.agents.workspace import IGNORED
from mcp_server.errors import OrchestratorError, Unpushed
from mcp_server.text import one_line

LOOK_S = 60.0  # for all that git is asked; whoever asks for the deletion waits for it
MOST_NAMED = 8  # branches or files in one sentence
MOST_NAME_BYTES = 100
_REMOTE, _BRANCH = "refs/remotes/", "refs/heads/"
_STATUS = ("status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames", "--ignore-submodules=none")


async def check_nothing_lost(clone: Path, environment: Mapping[str, str]) -> None:
    """Return where deleting a clone loses nothing: what is in it is at its origin, as far as is known here, or ignored.

    Unpushed: branches, a stash or a detached HEAD hold commits that no remote-tracking branch has, or files are not
    committed; both are named. Also where git cannot tell within LOOK_S. Runs nothing that the repository names.
    """
    if not await asyncio.to_thread(_holds_anything, clone):
        return
    try:
        async with asyncio.timeout(LOOK_S):
            git = await repository(clone, environment)
            if git is None or git.top != await asyncio.to_thread(real_path, clone):
                raise _refused(clone, "is no Git repository any more, so nobody can tell what is only there")
            lost = await _unpushed(git)
            changed = await _changed(git)
    except TimeoutError:
        raise _refused(clone, f"could not be looked through by git within {LOOK_S:g} s") from None
    except Unpushed:
        raise
    except OrchestratorError as error:
        raise _refused(clone, f"cannot be read by git ({one_line(error, 300)})") from None
    said = [f"commits that no remote-tracking branch has: {_named(lost)}"] if lost else []
    said += [f"changes that are not committed: {_named(changed)}"] if changed else []
    if said:
        raise _refused(clone, f"holds {'; and '.join(said)}")


def _refused(clone: Path, why: str) -> Unpushed:
    return Unpushed(f"{clone} {why}. Nothing is deleted; with `unpushed` it is, all the same")


def _holds_anything(clone: Path) -> bool:
    return clone.is_dir() and any(clone.iterdir())


async def _unpushed(git: Git) -> Sequence[str]:
    """The names of what ends at a commit that no remote-tracking branch has; `--all` has HEAD and the stash, too."""
    listed = await git.run("rev-list", "--all", "--not", "--remotes")
    only_here = set(listed.out.decode("ascii", "replace").split())
    if not only_here:
        return ()
    done = await git.run("for-each-ref", "--format=%(objectname) %(*objectname) %(refname)")
    rows = [line.split(" ", 2) for line in done.out.decode("utf-8", "replace").splitlines()]
    found = [(name, {sha, peeled} & only_here) for sha, peeled, name in rows if not name.startswith(_REMOTE)]
    names = sorted(name.removeprefix(_BRANCH).removeprefix("refs/") for name, its in found if its)
    if await git.branch() is None and await git.head() in only_here:
        names.append("HEAD, which is on no branch")
    return names  # what else is listed ends at the HEAD of a worktree beside the clone


async def _changed(git: Git) -> Sequence[str]:
    """The files that are not as HEAD has them, and those that it does not have; not what a build makes."""
    done = await git.run(*_STATUS)
    rows = [row for row in done.out.decode("utf-8", "replace").split("\0") if row]
    made = {f"?? {name}" for name in IGNORED}
    return [row[3:] for row in rows if row.rstrip("/") not in made]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    shown = ", ".join(one_line(name, MOST_NAME_BYTES) for name in names[:MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
