"""Takes back what was done in a workspace: to a commit of it, and what builds read although Git ignores it."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcp_server.agents.git import Git
from mcp_server.agents.inputs import MAX_FILES
from mcp_server.agents.snapshot import HASH_S
from mcp_server.agents.workspace import IGNORED, Workspace

FILES = ("sdkconfig", "dependencies.lock")
COMPONENTS = "managed_components"


async def restore(workspace: Workspace, commit: str, environment: Mapping[str, str] | None = None) -> None:
    """Every file as it was at `commit`, and the branch, too; what Git ignores, as a build directory, stays."""
    git = await workspace.git(environment)
    await _unlock(git, workspace.branch)
    await git.run("symbolic-ref", "HEAD", f"refs/heads/{workspace.branch}")
    await git.run("reset", "-q", "--hard", commit)
    await git.run("clean", "-q", "-f", "-f", "-d")


async def take_hold(workspace: Workspace, commit: str, environment: Mapping[str, str] | None = None) -> None:
    """Make the worktree ready for a commit of its files, which stay, whatever git an agent ran there.

    Where HEAD was led elsewhere it is on the workspace's branch again, and that at `commit`: what was committed on
    another branch is in the files, too.
    """
    git = await workspace.git(environment)
    await _unlock(git, workspace.branch)
    if await git.branch() != workspace.branch:
        await git.run("update-ref", f"refs/heads/{workspace.branch}", commit)
        await git.run("symbolic-ref", "HEAD", f"refs/heads/{workspace.branch}")


async def _unlock(git: Git, branch: str) -> None:
    """Delete the locks that a git left which was killed: whose job is over holds none."""
    for name in ("index", "HEAD", f"refs/heads/{branch}"):
        await asyncio.to_thread((await git.path(f"{name}.lock")).unlink, missing_ok=True)


class KeptInputs:
    """The ignored files that builds read, as they were when a task began: a change of them would be in no commit.

    `task` names it; keeping twice for the same one puts back what was kept first. What Git ignores and was not there
    before goes, too, but for what is below `made`, the folders that builds write to; `built` are those of them
    that the task does not write to.
    """

    def __init__(self, workspace: Workspace, task: str, made: Sequence[str] = (), built: Sequence[str] = ()) -> None:
        self._folder, self._place = workspace.folder, workspace.state / "inputs" / task
        self._workspace, self._built = workspace, tuple(built)
        self._made = (*FILES, COMPONENTS, *IGNORED, *made)

    async def keep(self, environment: Mapping[str, str] | None = None) -> None:
        """Keep them aside, or put them back where that was done for this task before."""
        if await asyncio.to_thread(self._place.is_dir):
            await self.put_back(environment)
            await self.cleared()
            return
        git = await self._workspace.git(environment)
        known = await git.run("ls-files", "-z", "--", *(str(self._folder / name) for name in FILES))
        committed = {git.top / os.fsdecode(name) for name in known.out.split(b"\0") if name}
        names = [name for name in FILES if self._folder / name not in committed]
        await asyncio.to_thread(self._keep, names, await self._ignored(environment))

    async def put_back(self, environment: Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
        """The names of those that had changed, and are as they were now; of those that were new, and are gone."""
        changed = await asyncio.to_thread(self._put_back)
        return changed, await asyncio.to_thread(self._take_away, await self._ignored(environment))

    async def _ignored(self, environment: Mapping[str, str] | None) -> bytes:
        """What Git ignores now, each name with a NUL at its end; a folder by itself where all in it is."""
        git = await self._workspace.git(environment)
        words = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        return (await git.run(*words, timeout_s=HASH_S)).out

    async def components_changed(self) -> bool:
        """Whether anything below managed_components is not as it was: that is too much to be kept aside."""
        return await asyncio.to_thread(
            lambda: _digest(self._folder / COMPONENTS) != (self._place / ".digest").read_text()
        )

    async def cleared(self) -> list[str]:
        """The folders of what was built that are not as they were, and are removed: the next build makes all anew."""
        return await asyncio.to_thread(self._cleared)

    def _cleared(self) -> list[str]:
        changed: list[str] = []
        kept = self._place / ".built"  # an earlier version kept none
        digests = kept.read_text().splitlines() if kept.is_file() else []
        for name, digest in zip(self._built, digests, strict=False):
            if _digest(self._folder / name, changes=True) != digest:
                changed.append(name)
                _delete(self._folder / name)
        return changed

    def _keep(self, names: Sequence[str], ignored: bytes) -> None:
        fresh = self._place.with_name(self._place.name + ".new")
        for old in (fresh, *self._place.parent.glob("*")):
            shutil.rmtree(old, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        (fresh / ".names").write_text("\0".join(names))
        (fresh / ".ignored").write_bytes(ignored)
        (fresh / ".digest").write_text(_digest(self._folder / COMPONENTS))
        built = [_digest(self._folder / name, changes=True) for name in self._built]
        (fresh / ".built").write_text("".join(f"{digest}\n" for digest in built))
        for number, name in enumerate(names):
            if (content := _content(self._folder / name)) is not None:
                (fresh / str(number)).write_bytes(content)
        fresh.rename(self._place)

    def _put_back(self) -> list[str]:
        changed: list[str] = []
        for number, name in enumerate((self._place / ".names").read_text().split("\0")):
            kept, now = self._place / str(number), self._folder / name
            if not name or _content(kept) == _content(now):
                continue
            changed.append(name)
            _delete(now)
            if kept.is_file():
                now.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(kept, now)
        return changed

    def _take_away(self, ignored: bytes) -> list[str]:
        kept = self._place / ".ignored"
        before = set((kept.read_bytes() if kept.is_file() else ignored).split(b"\0"))
        new = [os.fsdecode(name) for name in ignored.split(b"\0") if name not in before]
        made = [self._folder / name for name in self._made]
        places = {name: self._workspace.place / name for name in new}
        gone = [name for name, place in places.items() if not any(place.is_relative_to(one) for one in made)]
        for name in gone:
            _delete(places[name])
        return gone


async def sha256_of(path: Path) -> str:
    """Of a regular file's content; "" where there is none."""
    content = await asyncio.to_thread(_content, path)
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(top: Path, *, changes: bool = False) -> str:
    """Of the names, sizes and times of all below a folder, at most MAX_FILES of them.

    `changes`: also of the time of each file's last change, which nobody can set.
    """
    digest, count = hashlib.sha256(), 0
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted([*files, *folders]):
            status = (Path(folder) / name).lstat()
            digest.update(os.fsencode(f"{folder}/{name}"))
            # A folder's own time says no more than the names in it.
            facts = (status.st_mode, status.st_size, status.st_mtime_ns) if name in files else (status.st_mode,)
            facts = (*facts, status.st_ctime_ns) if changes and name in files else facts
            digest.update(repr(facts).encode())
            count += 1
            if count > MAX_FILES:
                return digest.hexdigest()
    return digest.hexdigest()
