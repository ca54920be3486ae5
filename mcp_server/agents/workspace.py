"""A workspace: where an agent works. A Git worktree on a branch of its own, begun from the user's tree as it is.

The user's files, index, HEAD, stash and other branches are never written. Beside the worktree `PLACE` lies
`PLACE.state`: what was made, and the index as it was then, so that nothing done in the worktree can hide a change.
"""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from mcp_server.agents.git import Git, GitFailed, real_path, repository
from mcp_server.agents.inputs import copy_inputs, copy_tree
from mcp_server.agents.snapshot import commit_tree, snapshot, temporary_index
from mcp_server.agents.submodules import provide
from mcp_server.errors import BadInput, Conflict, OrchestratorError

INPUTS = ("sdkconfig", "dependencies.lock", "managed_components")
"""What a build of ESP-IDF reads and Git is mostly told to ignore."""

IGNORED = ("build", "sdkconfig.old")
"""What a build makes in the project's folder: never taken, also where no .gitignore says so."""

SNAPSHOT = "The tree as it is, before an agent's work\n"


@dataclass(frozen=True, slots=True)
class Workspace:
    """`place` is the worktree's root, `folder` the project's in it, `base` the commit of the user's tree as it was.

    `head_before`: the user's HEAD, None without a commit. `is_copy`: the project is in no repository, and `place` has
    one of its own. `submodules`: {path: what each held}. `left_out`: sentences on what could not be brought along.
    """

    project: Path
    place: Path
    folder: Path
    branch: str
    base: str
    head_before: str | None
    is_copy: bool
    submodules: Mapping[str, str] = field(default_factory=dict[str, str])
    left_out: tuple[str, ...] = ()

    @property
    def state(self) -> Path:
        return state_of(self.place)

    @property
    def prefix(self) -> str:
        """The project's folder below `place` with "/" at its end; "" where it is the same."""
        relative = self.folder.relative_to(self.place).as_posix()
        return "" if relative == "." else relative + "/"

    async def git(self, environment: Mapping[str, str] | None = None) -> Git:
        """git in the worktree, which ignores what it ignored at the beginning.

        Conflict: its `.git` is gone or leads to another repository than the one it was made from.
        """
        held = await asyncio.to_thread(_bytes, self.state / "gitfile")
        if held and await asyncio.to_thread(_bytes, self.place / ".git") != held:
            raise Conflict(f"{self.place}/.git was changed: the work in it is not trusted")
        git = await Git.at(self.place, environment)
        return replace(git, excludes=self.state / "exclude")


def state_of(place: Path) -> Path:
    """The folder beside a workspace that says what it is."""
    return place.with_name(place.name + ".state")


async def make(
    project: Path,
    place: Path,
    branch: str,
    *,
    inputs: Sequence[str] = INPUTS,
    ignored: Sequence[str] = IGNORED,
    environment: Mapping[str, str] | None = None,
) -> Workspace:
    """Make the workspace, or give the one that was made there for this project and branch before.

    Begun again after a sudden end it starts over. `inputs` are copied although Git ignores them, `ignored` never taken;
    both are relative to the project. BadInput: the project or place cannot be used. Conflict: the branch or place is
    somebody else's.
    """
    place = await asyncio.to_thread(_checked_place, place)
    git = await repository(project, environment)
    project = real_path(project)
    if place.is_relative_to(git.top if git else project):
        raise BadInput("place", f"{place} lies inside {project}: a workspace must lie outside")
    state = await asyncio.to_thread(_read, place)
    if state and (Path(state["project"]), state["branch"]) != (project, branch):
        raise Conflict(f"{place} is the workspace of {state['project']} on branch {state['branch']}")
    if state and state["ready"] and (there := await open_(place)):
        return there
    await _start_over(git, place, state)
    await _check_branch(git, branch, project, environment)
    begun: dict[str, Any] = {"project": str(project), "branch": branch, "ready": False, "skip": list(ignored)}
    await asyncio.to_thread(_write, place, begun)
    await asyncio.to_thread(_write_excludes, git, project, place, ignored)
    make_it = _make_worktree if git else _make_copy
    bare = Workspace(project, place, place, branch, "", None, git is None)
    try:
        workspace = await make_it(git, begun, bare, environment)
    except OrchestratorError:
        await _start_over(git, place, await asyncio.to_thread(_read, place))  # half a copy may be large
        await asyncio.to_thread(shutil.rmtree, bare.state, ignore_errors=True)
        raise
    left_out = [*workspace.left_out]
    if git:
        left_out += (await asyncio.to_thread(copy_inputs, project, workspace.folder, inputs))[1]
    workspace = replace(workspace, left_out=tuple(left_out))
    await asyncio.to_thread(_finish, workspace, await (await workspace.git(environment)).path("index"))
    return workspace


async def open_(place: Path) -> Workspace | None:
    """The workspace at `place`; None: there is none, or it was never completed."""
    place = await asyncio.to_thread(lambda: real_path(place.parent) / place.name)
    state = await asyncio.to_thread(_read, place)
    if not state or not state["ready"] or not await asyncio.to_thread(os.path.lexists, place / ".git"):
        return None
    return Workspace(
        project=Path(state["project"]),
        place=place,
        folder=place / state["folder"],
        branch=state["branch"],
        base=state["base"],
        head_before=state["head_before"],
        is_copy=state["is_copy"],
        submodules=state["submodules"],
        left_out=tuple(state["left_out"]),
    )


async def remove(
    workspace: Workspace, *, keep_branch: bool = True, environment: Mapping[str, str] | None = None
) -> None:
    """Delete the worktree and what Git knows of it; the branch stays, unless that is not wanted. May be repeated."""
    git = None if workspace.is_copy else await _repository_or_none(workspace.project, environment)
    await _remove_worktree(git, workspace.place)
    if git and not keep_branch:
        await git.run("update-ref", "-d", f"refs/heads/{workspace.branch}", check=False)
    await asyncio.to_thread(shutil.rmtree, workspace.state, ignore_errors=True)


async def discard(place: Path, *, environment: Mapping[str, str] | None = None) -> None:
    """Delete what lies at `place`, completed or not, and what Git knows of it. Its branch stays. May be repeated."""
    state = await asyncio.to_thread(_read, place)
    in_git = state is not None and not state.get("is_copy")
    git = await _repository_or_none(Path(state["project"]), environment) if state and in_git else None
    await _remove_worktree(git, place)
    await asyncio.to_thread(shutil.rmtree, state_of(place), ignore_errors=True)


async def _repository_or_none(project: Path, environment: Mapping[str, str] | None) -> Git | None:
    try:
        return await repository(project, environment)
    except BadInput:
        return None  # the user moved it: there is nothing of ours left there


async def _make_worktree(
    git: Git | None, begun: dict[str, Any], workspace: Workspace, environment: Mapping[str, str] | None
) -> Workspace:
    assert git is not None
    place = workspace.place
    excluding = replace(git, excludes=workspace.state / "exclude")
    head = await git.head()
    async with temporary_index(git, await git.path("index")) as variables:
        taken = await snapshot(excluding, variables)
    base = await commit_tree(git, taken.tree, [head] if head else [], SNAPSHOT)
    # Written down first: a branch with this commit is ours, whatever ends this process.
    await asyncio.to_thread(_write, place, begun | {"base": base})
    try:
        await git.run(
            "worktree", "add", "--quiet", "--no-checkout", "--no-track", "-b", workspace.branch, str(place), base
        )
    except GitFailed as error:
        raise Conflict(f"no worktree on branch {workspace.branch} can be made for {git.top} ({error})") from None
    # Its own configuration: what `includeIf` adds for this folder or branch must be off before files are written.
    ours = await Git.at(place, environment)
    await ours.run("read-tree", "-u", "--reset", base, timeout_s=600)
    subs = await provide(git, place)
    folder = place / workspace.project.relative_to(git.top)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    left_out = (*taken.left_out, *subs.left_out)
    return replace(workspace, folder=folder, base=base, head_before=head, submodules=subs.trees, left_out=left_out)


async def _make_copy(
    git: Git | None, begun: dict[str, Any], workspace: Workspace, environment: Mapping[str, str] | None
) -> Workspace:
    place = workspace.place
    left_out = await asyncio.to_thread(copy_tree, workspace.project, place, begun["skip"])
    bare = Git(place, (), os.environ if environment is None else environment)
    await bare.run("init", "--quiet", "--template=", f"--initial-branch={workspace.branch}")
    ours = await workspace.git(environment)
    index = await ours.path("index")
    taken = await snapshot(ours, {"GIT_INDEX_FILE": str(index)})
    base = await commit_tree(ours, taken.tree, [], SNAPSHOT)
    await ours.run("update-ref", f"refs/heads/{workspace.branch}", base)
    return replace(workspace, base=base, left_out=(*left_out, *taken.left_out))


def _checked_place(place: Path) -> Path:
    """`place` with the links above it resolved; its parent is made."""
    if not place.is_absolute():
        raise BadInput("place", f"{place} is no absolute path")
    place.parent.mkdir(parents=True, exist_ok=True)
    real = real_path(place.parent) / place.name
    if real.is_symlink() or state_of(real).is_symlink():
        raise BadInput("place", f"{place} is a symbolic link")
    if os.path.lexists(real) and not state_of(real).is_dir() and not (real.is_dir() and not any(real.iterdir())):
        raise Conflict(f"{place} is there already, and no workspace")
    return real


async def _check_branch(git: Git | None, branch: str, project: Path, environment: Mapping[str, str] | None) -> None:
    checker = git or Git(project, (), os.environ if environment is None else environment)
    ref = f"refs/heads/{branch}"
    if branch.startswith("-") or (await checker.run("check-ref-format", ref, check=False)).code:
        raise BadInput("branch", f"{branch[:120]!r} is no name of a branch")
    if git and (await git.text("rev-parse", "--verify", "--quiet", ref, check=False)):
        raise Conflict(f"branch {branch} is there already in {git.top}")


async def _start_over(git: Git | None, place: Path, state: dict[str, Any] | None) -> None:
    """Remove what an earlier attempt left: its worktree, and its branch where that has nothing but our snapshot."""
    if state is None:
        return
    await _remove_worktree(git, place)
    if git and (base := state.get("base")):
        await git.run("update-ref", "-d", f"refs/heads/{state['branch']}", base, check=False)


async def _remove_worktree(git: Git | None, place: Path) -> None:
    """Delete the files and the repository's note of them; `git worktree prune` would also forget the user's own."""
    await asyncio.to_thread(_delete, place)
    if git is not None:
        notes = real_path(git.top / await git.text("rev-parse", "--git-common-dir")) / "worktrees"
        await asyncio.to_thread(_forget, notes, place)


def _delete(place: Path) -> None:
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def _forget(notes: Path, place: Path) -> None:
    for note in notes.glob("*/gitdir"):
        with contextlib.suppress(OSError):
            if not note.parent.is_symlink() and note.read_text().strip() == str(place / ".git"):
                shutil.rmtree(note.parent)
    with contextlib.suppress(OSError):
        notes.rmdir()  # Git removes it with the last one, too


def _write_excludes(git: Git | None, project: Path, place: Path, ignored: Sequence[str]) -> None:
    """The user's own list of ignored names with ours behind it."""
    theirs = b""
    if git and git.excludes:
        with contextlib.suppress(OSError):
            theirs = git.excludes.read_bytes()[: 1 << 20]
    below = project.relative_to(git.top).as_posix() if git else "."
    start = "/" if below == "." else f"/{below}/"
    lines = [_as_pattern(start + name.strip("/")) for name in ignored]
    (state_of(place) / "exclude").write_bytes(theirs + b"\n" + os.fsencode("\n".join(lines)) + b"\n")


def _as_pattern(path: str) -> str:
    """A path as a line of .gitignore that names nothing else."""
    return "".join("\\" + letter if letter in "\\*?[ " else letter for letter in path)


def _read(place: Path) -> dict[str, Any] | None:
    try:
        found: object = json.loads((state_of(place) / "state.json").read_bytes())
    except (OSError, ValueError):
        return None
    return cast(dict[str, Any], found) if isinstance(found, dict) else None


def _write(place: Path, state: Mapping[str, Any]) -> None:
    folder = state_of(place)
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / "state.json.new"
    with fresh.open("w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / "state.json")


def _bytes(path: Path) -> bytes:
    """The first bytes of a regular file; b"" of anything else."""
    if path.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4096)


def _finish(workspace: Workspace, index: Path) -> None:
    shutil.copy2(index, workspace.state / "index")
    if (gitfile := workspace.place / ".git").is_file():
        (workspace.state / "gitfile").write_bytes(gitfile.read_bytes())
    said = {
        "project": str(workspace.project),
        "branch": workspace.branch,
        "base": workspace.base,
        "head_before": workspace.head_before,
        "is_copy": workspace.is_copy,
        "folder": str(workspace.folder.relative_to(workspace.place)),
        "submodules": dict(workspace.submodules),
        "left_out": list(workspace.left_out),
        "ready": True,
    }
    _write(workspace.place, said)
