"""Commits all that a work tree holds, without running anything that the repository or the user hung onto commits."""

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_server.agents.changes import DIFF
from mcp_server.agents.git import Git, real_path, repository
from mcp_server.agents.push import DEFAULTS
from mcp_server.agents.snapshot import ALL, Selection, commit_tree, identity, snapshot, temporary_index, update
from mcp_server.agents.workspace import IGNORED, Workspace, open_
from mcp_server.errors import BadInput, Conflict

MAX_MESSAGE = 64 << 10  # bytes; a message is no log
_MARKER = re.compile(rb"(?m)^\+(<{7}|>{7}|\|{7})( |$)")
_MAX_LOOKED_AT = 16 << 20  # bytes of a diff that is searched for conflict markers


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit, the branch it is on, and the files that it changed against its parent."""

    sha: str
    branch: str
    files: tuple[str, ...]


async def commit(
    workspace: Workspace,
    message: str,
    author: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """Commit what was changed in a workspace on its branch; the commit's id, None where nothing was.

    `author` is "Name <mail>", by default the user. Conflict: HEAD is on another branch, or the files hold conflict
    markers that were not there before. BadInput: a file that may not be committed (too big, or through a filter).
    """
    git = await workspace.git(environment)
    if (branch := await git.branch()) != workspace.branch:
        raise Conflict(f"{workspace.place} is on {branch or 'no branch'}, not on {workspace.branch}")
    return await _commit(git, workspace.state / "index", message, author)


async def commit_folder(
    folder: Path,
    message: str,
    author: str | None = None,
    *,
    branch: str | None = None,
    paths: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Committed | None:
    """The same in any work tree, also one that is not ours; None where nothing was changed.

    A `branch` that is not there yet begins at HEAD. A folder that is in no repository becomes one. `paths` are globs
    below `folder` of what is committed: what else is changed or staged stays so. What a build made there is left out
    where Git does not know it.
    """
    git = await repository(folder, environment)
    if git is None:
        git = await _initialised(folder, branch or "main", environment)
    index = await git.path("index")
    if (workspace := await open_(git.top)) is not None:
        git, index = await workspace.git(environment), workspace.state / "index"
    await _switch(git, branch)
    below = real_path(folder).relative_to(git.top).as_posix()
    selection = Selection("" if below == "." else f"{below}/", tuple(paths), IGNORED)
    sha = await _commit(git, index, message, author, selection)
    return await described(git, sha) if sha else None


async def described(git: Git, sha: str) -> Committed:
    """What a commit on HEAD's branch changed."""
    done = await git.run(*DIFF, "-z", "--name-only", "--root", "--no-commit-id", sha)
    files = tuple(os.fsdecode(name) for name in done.out.split(b"\0") if name)
    return Committed(sha, await git.branch() or "", files)


async def with_trailer(git: Git, trailer: str) -> str | None:
    """HEAD, where its message ends with the line `trailer`: a commit that was made before."""
    if (head := await git.head()) is None:
        return None
    raw = await git.run("cat-file", "commit", head)
    return head if raw.text.rstrip().endswith("\n" + trailer) else None


async def _commit(git: Git, index: Path, message: str, author: str | None, selection: Selection = ALL) -> str | None:
    message = message.strip()
    if not message or "\0" in message or len(message.encode("utf-8", "surrogatepass")) > MAX_MESSAGE:
        raise BadInput("message", f"must have 1 to {MAX_MESSAGE:,} bytes and no NUL")
    identity(git, author)  # said also where nothing is to be committed
    real = await git.path("index")
    if unmerged := await git.text("ls-files", "--unmerged"):
        raise Conflict(f"{git.top}: {unmerged.splitlines()[0].split(chr(9), 1)[-1]} is not merged yet")
    head = await git.head()
    # With paths what was staged of other files is not committed, so it begins with what HEAD has.
    async with temporary_index(git, Path(os.devnull) if selection.paths else index) as variables:
        if selection.paths and head:
            await git.run("read-tree", head, variables=variables)
        taken = await snapshot(git, variables, refuse=True, selection=selection)
        empty = await git.text("hash-object", "-t", "tree", "/dev/null")
        before = await git.text("rev-parse", f"{head}^{{tree}}") if head else empty
        if taken.tree == before:
            return None
        await _refuse_markers(git, before if head else None, taken.tree)
        sha = await commit_tree(git, taken.tree, [head] if head else [], message + "\n", author)
        await git.run("update-ref", "-m", "commit: build-orchestrator", "HEAD", sha, head or "0" * len(sha))
        # From here on it is done; the index follows, with the times that it has of the files.
        if not selection.paths:
            await asyncio.to_thread(_put, Path(variables["GIT_INDEX_FILE"]), real)
    if selection.paths:
        async with temporary_index(git, real) as variables:
            await update(git, variables, [path for path in taken.paths if not path.endswith("/")])
            await asyncio.to_thread(_put, Path(variables["GIT_INDEX_FILE"]), real)
    return sha


async def default_branches(git: Git) -> Sequence[str]:
    """The default branch as its remote told it when it was cloned; names that it usually has where none did."""
    known = await git.text("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD", check=False)
    return (known.removeprefix("origin/"),) if known else DEFAULTS


async def _refuse_markers(git: Git, before: str | None, tree: str) -> None:
    if before is None:
        return
    done = await git.run(*DIFF, "-p", "-U0", before, tree, limit=_MAX_LOOKED_AT, check=False)
    starts = {found[1][:1] for found in _MARKER.finditer(done.out)}
    if {b"<", b">"} <= starts:
        at = next(found.start() for found in _MARKER.finditer(done.out))
        name = done.out[:at].rpartition(b"\n+++ ")[2].split(b"\n")[0].removeprefix(b"b/")
        raise Conflict(f"{os.fsdecode(name)}: conflict markers were left in it")


def _put(index: Path, real: Path) -> None:
    """Replace an index whole, as git does, and never while git holds it. A failure leaves one that status mends."""
    lock = real.with_name(real.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(index.read_bytes())
    status = index.stat()
    os.utime(lock, ns=(status.st_atime_ns, status.st_mtime_ns))
    lock.replace(real)


async def _initialised(folder: Path, branch: str, environment: Mapping[str, str] | None) -> Git:
    bare = Git(folder, (), os.environ if environment is None else environment)
    if branch.startswith("-") or (await bare.run("check-ref-format", f"refs/heads/{branch}", check=False)).code:
        raise BadInput("branch", f"{branch[:120]!r} is no name of a branch")
    await bare.run("init", "--quiet", "--template=", f"--initial-branch={branch}")
    return await Git.at(folder, environment)


async def _switch(git: Git, branch: str | None) -> None:
    """Let HEAD be on `branch`, begun at HEAD: no file changes by that."""
    if branch is None or await git.branch() == branch:
        return
    ref = f"refs/heads/{branch}"
    if branch.startswith("-") or (await git.run("check-ref-format", ref, check=False)).code:
        raise BadInput("branch", f"{branch[:120]!r} is no name of a branch")
    head = await git.head()
    known = await git.text("rev-parse", "--verify", "--quiet", ref, check=False)
    if known and known != head:
        raise Conflict(f"branch {branch} is there already in {git.top}, at another commit than HEAD")
    if head and not known:
        await git.run("update-ref", ref, head, "0" * len(head))
    await git.run("symbolic-ref", "HEAD", ref)
