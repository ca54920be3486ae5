"""Submodules of a workspace: clones that borrow the user's objects, as they are there, uncommitted changes included."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.agents.git import Git, GitFailed, real_path
from mcp_server.agents.snapshot import snapshot, temporary_index
from mcp_server.errors import BadInput

MAX_SUBMODULES = 200  # ESP-IDF itself has some 30
MAX_DEPTH = 5  # submodules in submodules


@dataclass(slots=True)
class Provided:
    """`trees` is what each submodule held at the beginning: {path: Git tree}; `left_out` are sentences."""

    trees: dict[str, str] = field(default_factory=dict[str, str])
    left_out: list[str] = field(default_factory=list[str])


async def provide(source: Git, target: Path, prefix: str = "", depth: int = 0) -> Provided:
    """Fill the empty folders of `target` that stand for submodules of `source`, without any network."""
    found = Provided()
    for path in await gitlinks(source):
        theirs, ours = source.top / path, target / path
        if not await asyncio.to_thread(os.path.lexists, theirs / ".git"):
            continue  # the user has not fetched it either
        if len(found.trees) >= MAX_SUBMODULES or depth >= MAX_DEPTH:
            raise BadInput("project", f"over {MAX_SUBMODULES} submodules, or {MAX_DEPTH} in each other")
        try:
            if theirs.resolve() != theirs or ours.resolve() != ours:
                raise GitFailed("submodule", -1, "a link lies on the way to it")
            git = await Git.at(theirs, source.environment)
            tree, left_out = await _clone(git, ours)
            found.trees[prefix + path] = tree
            found.left_out += [f"{prefix}{path}/{one}" for one in left_out]
            below = await provide(git, ours, f"{prefix}{path}/", depth + 1)
            found.trees |= below.trees
            found.left_out += below.left_out
        except (GitFailed, OSError) as error:
            found.left_out.append(f"{prefix}{path}: the submodule cannot be provided ({error})")
    return found


async def gitlinks(git: Git, variables: Mapping[str, str] | None = None) -> list[str]:
    """The paths of the submodules that the index knows."""
    done = await git.run("ls-files", "-z", "--stage", variables=variables)
    return [os.fsdecode(line.split(b"\t", 1)[1]) for line in done.out.split(b"\0") if line.startswith(b"160000 ")]


async def _clone(git: Git, ours: Path) -> tuple[str, list[str]]:
    """A repository at `ours` with the submodule's HEAD and, in its files, what the user has there now; its tree."""
    head = await git.head()
    if head is None:
        raise GitFailed("submodule", -1, "it has no commit")
    if real_path(Path(await git.text("rev-parse", "--show-toplevel"))) != git.top:
        raise GitFailed("submodule", -1, "its repository says that its files are somewhere else")
    async with temporary_index(git, await git.path("index")) as variables:
        taken = await snapshot(git, variables)
    await asyncio.to_thread(ours.mkdir, parents=True, exist_ok=True)
    await git.run("init", "--quiet", "--template=", str(ours))
    objects = real_path(await git.path("objects"))
    await asyncio.to_thread(_borrow, objects, await git.path("shallow"), ours / ".git")
    clone = await Git.at(ours, git.environment)
    await clone.run("update-ref", "--no-deref", "HEAD", head)
    await clone.run("read-tree", "-u", "--reset", taken.tree)
    return taken.tree, list(taken.left_out)


def _borrow(objects: Path, shallow: Path, repository: Path) -> None:
    if '"' in str(objects) or "\n" in str(objects):
        raise OSError(0, f"{objects} cannot be named as a place of objects")
    (repository / "objects/info").mkdir(parents=True, exist_ok=True)
    (repository / "objects/info/alternates").write_text(f"{objects}\n")
    if shallow.is_file():
        shutil.copyfile(shallow, repository / "shallow")


async def changed_since(place: Path, path: str, tree: str, environment: Mapping[str, str] | None) -> bool:
    """Whether a provided submodule holds something else than `tree`, what it held at the beginning."""
    folder = place / path
    if folder.resolve() != folder or not (folder / ".git").is_dir():
        return True
    try:
        git = await Git.at(folder, environment)
        # An index of our own: the one there may hide what was changed.
        async with temporary_index(git, folder / ".git/none") as variables:
            await git.run("read-tree", tree, variables=variables)
            await git.run("update-index", "-q", "--refresh", variables=variables, check=False)
            now = await snapshot(git, variables)
    except (GitFailed, BadInput):
        return True
    return now.tree != tree or bool(now.left_out)
