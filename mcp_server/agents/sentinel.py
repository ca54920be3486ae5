"""Notices an edit where nobody was to edit: a cheap digest of a user's tree, made before and after."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from mcp_server.agents.git import Git, GitFailed, repository
from mcp_server.agents.inputs import MAX_FILES
from mcp_server.agents.workspace import IGNORED, INPUTS
from mcp_server.errors import BadInput

_WORDS = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=dirty", "--no-renames")


async def sentinel(project: Path, environment: Mapping[str, str] | None = None) -> str:
    """A digest of the tree that `project` belongs to: HEAD, index, what differs from it with times and sizes.

    Also of Git's configuration and hooks, and of the ignored files that builds read. Refs are left out, as commits in a
    workspace change them; so is what builds make. In no repository: names, sizes and times of all files.
    """
    git = await repository(project, environment)
    digest = hashlib.sha256()
    if git is None:
        return f"files:{(await asyncio.to_thread(lambda: _digest(_all_files(project)))).hex()}"
    made = tuple(b"? " + os.fsencode(name) for name in await _made(git, project))
    status = await git.run(*_WORDS, timeout_s=300)
    digest.update(b"\0".join(line for line in status.out.split(b"\0") if not line.startswith(made)))
    for words in (("ls-files", "--stage", "-v", "-z"), ("rev-parse", "--verify", "--quiet", "HEAD")):
        done = await git.run(*words, check=False)
        digest.update(b"%d:" % len(done.out) + done.out)
    digest.update(str(await git.branch()).encode("utf-8", "surrogateescape"))
    digest.update(await asyncio.to_thread(_digest, await _worth_a_look(git, project)))
    return f"git:{digest.hexdigest()}"


async def unchanged(project: Path, before: str, environment: Mapping[str, str] | None = None) -> bool:
    """Whether the tree is as it was when `sentinel` gave `before`; a tree that cannot be read any more is not."""
    try:
        return await sentinel(project, environment) == before
    except (BadInput, GitFailed):
        return False


async def _worth_a_look(git: Git, project: Path) -> list[Path]:
    """Files whose content no status tells: changed already, new, ignored but read, and Git's own that run programs."""
    names: list[str] = []
    for words in (("diff-files", "--name-only", "-z"), ("ls-files", "--others", "--exclude-standard", "-z")):
        done = await git.run(words[0], *words[1:], *(["--ignore-submodules=dirty"] if "diff" in words[0] else []))
        names += [os.fsdecode(name) for name in done.out.split(b"\0") if name]
    below = await asyncio.to_thread(_below, project)
    # Not by --git-path, which gives the place that hooks are switched off with.
    own_folder = git.top / await git.text("rev-parse", "--git-common-dir")
    hooks, config = own_folder / "hooks", own_folder / "config"
    made = tuple(await _made(git, project))
    kept = [git.top / name for name in sorted(set(names)) if not name.startswith(made)]
    own = await asyncio.to_thread(lambda: sorted(hooks.iterdir()) if hooks.is_dir() else [])
    theirs = [config, own_folder / "info/exclude", own_folder / "info/attributes", *own]
    return [*kept, *(below / name for name in INPUTS), *theirs][: MAX_FILES * 2]


async def _made(git: Git, project: Path) -> list[str]:
    """What builds make, as the beginnings of paths below the work tree's root."""
    below = (await asyncio.to_thread(_below, project)).relative_to(git.top)
    return [(below / name).as_posix() + ("/" if "." not in name else "") for name in IGNORED]


def _below(project: Path) -> Path:
    return Path(os.path.realpath(project))


def _digest(paths: Iterable[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path) + b"\0")
        try:
            status = path.lstat()
        except OSError:
            continue
        facts = status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino
        # A folder's size and time tell only of the names in it, which are all here.
        digest.update(repr(facts[:1] if stat.S_ISDIR(status.st_mode) else facts).encode())
    return digest.digest()


def _all_files(project: Path) -> Iterable[Path]:
    count = 0
    for folder, folders, files in os.walk(project):
        top = Path(folder) == project
        folders[:] = sorted(name for name in folders if name != ".git" and not (top and name in IGNORED))
        for name in sorted([*files, *folders]):
            count += 1
            if count > MAX_FILES:
                raise BadInput("project", f"{project} has over {MAX_FILES:,} files")
            yield Path(folder) / name
