"""A work tree as a Git tree, made with an index of our own: the tree's own index, HEAD and files stay as they are."""

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mcp_server.agents.git import Git, GitFailed
from mcp_server.errors import BadInput
from mcp_server.hosts.globs import matcher

MAX_FILE_BYTES = 64 << 20  # of one file that is taken; a greater one is a core dump or an image, and no source
MAX_TREE_BYTES = 2 << 30  # of all files that are taken anew
MAX_TREE_FILES = 200_000
HASH_S = 300.0  # 2 GB at 10 MB/s, a slow disk
DEFAULT_IDENTITY = ("build-orchestrator", "build-orchestrator@localhost")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`tree` is a Git tree's id; `paths` differ from the index it began with; `left_out` says which were not taken."""

    tree: str
    paths: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@asynccontextmanager
async def temporary_index(git: Git, begin: Path) -> AsyncGenerator[dict[str, str]]:
    """Variables for an index that begins as a copy of the file `begin` (empty where there is none)."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="bo-index-"))
    try:
        # With the file's time: Git knows by it which entries may have been changed in the same tick.
        if await asyncio.to_thread(begin.is_file):
            await asyncio.to_thread(shutil.copy2, begin, folder / "index")
        yield {**git.variables, "GIT_INDEX_FILE": str(folder / "index")}
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a work tree is taken: what `paths` name; without any all but what a build `made` and Git does
    not know.

    Both are globs below the folder `prefix` ("" or with "/" at its end).
    """

    prefix: str = ""
    paths: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    def of(self, names: Iterable[str], *, known: bool) -> list[str]:
        """Those of `names` that are taken; `known`: Git has them already."""
        if not self.paths and known:
            return list(names)
        named = matcher(self.paths or self.made)
        below = ((name, name.removeprefix(self.prefix).rstrip("/")) for name in names)
        return [name for name, path in below if (name.startswith(self.prefix) and named(path)) == bool(self.paths)]


ALL = Selection()


async def snapshot(
    git: Git, variables: dict[str, str], *, refuse: bool = False, selection: Selection = ALL
) -> Snapshot:
    """Bring the index of `variables` to what the files are: changed, staged, deleted, new but not ignored.

    Not taken are files over 64 MB and those that go through a filter (LFS, git-crypt), which is not run: their content
    would be stored as it must not be. With `refuse` one such file is BadInput. BadInput: over 2 GB or 200,000 files.
    """
    changed = selection.of(await _names(git, variables, "diff-files"), known=True)
    found = sorted({*changed, *selection.of(await _names(git, variables, "ls-files"), known=False)})
    nested = [path for path in found if path.endswith("/")]
    plain = [path for path in found if not path.endswith("/")]
    filtered = await _filtered(git, variables, plain)
    too_big = await asyncio.to_thread(_measured, git.top, plain)
    left_out = [f"{path}: it goes through the filter {name}, which is not run here" for path, name in filtered.items()]
    left_out += [f"{path}: it has {size:,} bytes, over {MAX_FILE_BYTES:,}" for path, size in too_big.items()]
    if refuse and left_out:
        raise BadInput("project", f"{left_out[0]}{f' (and {len(left_out) - 1} more)' if left_out[1:] else ''}")
    taken = [path for path in plain if path not in filtered and path not in too_big]
    await update(git, variables, taken)
    for path in nested:
        left_out += await _take_nested(git, variables, path)
    tree = await git.text("write-tree", variables=variables)
    return Snapshot(tree, tuple(taken + nested), tuple(left_out))


async def update(git: Git, variables: dict[str, str], paths: Iterable[str]) -> None:
    """Bring entries to what the files are now."""
    names = b"".join(os.fsencode(path) + b"\0" for path in paths)
    words = ("update-index", "-z", "--add", "--remove", "--replace", "--stdin")
    await git.run(*words, stdin=names, variables=variables, timeout_s=HASH_S)


async def _names(git: Git, variables: dict[str, str], command: str) -> list[str]:
    words = {
        # `dirty`: looking into a submodule would run git there with a configuration that nobody has read.
        "diff-files": ("diff-files", "-z", "--name-only", "--no-ext-diff", "--ignore-submodules=dirty"),
        "ls-files": ("ls-files", "-z", "--others", "--exclude-standard"),
    }[command]
    done = await git.run(*words, variables=variables, timeout_s=HASH_S)
    return [os.fsdecode(name) for name in done.out.split(b"\0") if name]


async def _filtered(git: Git, variables: dict[str, str], paths: Sequence[str]) -> dict[str, str]:
    """Which of the files go through a filter that the configuration knows, or LFS's: {path: its name}."""
    names = b"".join(os.fsencode(path) + b"\0" for path in paths)
    done = await git.run("check-attr", "-z", "--stdin", "filter", stdin=names, variables=variables)
    parts = [os.fsdecode(part) for part in done.out.split(b"\0")]
    known = {*git.filters(), "lfs", "git-crypt"}
    present = await asyncio.to_thread(lambda: {path for path in paths if os.path.lexists(git.top / path)})
    return {p: value for p, value in zip(parts[::3], parts[2::3], strict=False) if value in known and p in present}


def _measured(top: Path, paths: Sequence[str]) -> dict[str, int]:
    """The files that are too big: {path: bytes}."""
    too_big: dict[str, int] = {}
    total = count = 0
    for path in paths:
        try:
            status = (top / path).lstat()
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        if status.st_size > MAX_FILE_BYTES:
            too_big[path] = status.st_size
            continue
        total, count = total + status.st_size, count + 1
        if total > MAX_TREE_BYTES or count > MAX_TREE_FILES:
            raise BadInput(
                "project",
                f"{top} has over {MAX_TREE_FILES:,} files or {MAX_TREE_BYTES >> 30} GB that Git does not know: "
                "name what is built in .gitignore",
            )
    return too_big


async def _take_nested(git: Git, variables: dict[str, str], path: str) -> list[str]:
    """Take a repository that lies in the tree and is no submodule of it, as plain files; what was left out of it."""
    folder = git.top / path
    if await asyncio.to_thread(folder.is_symlink):
        return [f"{path}: a link"]
    inner = {**variables, "GIT_INDEX_FILE": variables["GIT_INDEX_FILE"] + ".nested"}
    inner |= {"GIT_WORK_TREE": str(folder), "GIT_DIR": await git.text("rev-parse", "--absolute-git-dir")}
    inside = Git(folder, git.settings, git.environment, git.excludes)
    try:
        taken = await snapshot(inside, inner)
        await git.run("read-tree", f"--prefix={path}", taken.tree, variables=variables)
    except GitFailed as error:
        return [f"{path}: a repository inside this one that cannot be taken ({error})"]
    finally:
        await asyncio.to_thread(Path(inner["GIT_INDEX_FILE"]).unlink, missing_ok=True)
    return [f"{path}{one}" for one in taken.left_out]


def identity(git: Git, author: str | None) -> dict[str, str]:
    """Variables for author and committer: `author` ("Name <mail>"), else the user's own, else ours. BadInput."""
    name, mail = DEFAULT_IDENTITY
    if (known := git.last("user.name")) and known.value and (post := git.last("user.email")) and post.value:
        name, mail = known.value, post.value
    committer = name, mail
    if author is not None:
        name, _, rest = author.partition("<")
        name, mail = name.strip(), rest.strip().removesuffix(">")
        if not name or not mail or not rest.strip().endswith(">") or set(author) & set("\n\r\0") or "<" in mail:
            raise BadInput("author", f"{author[:120]!r} is not of the form 'Name <mail@example.org>'")
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": mail,
        "GIT_COMMITTER_NAME": committer[0],
        "GIT_COMMITTER_EMAIL": committer[1],
    }


async def commit_tree(git: Git, tree: str, parents: Sequence[str], message: str, author: str | None = None) -> str:
    """A commit that no branch leads to yet; its id."""
    words = ("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-F", "-")
    data = message.encode("utf-8", "surrogateescape")
    return (await git.run(*words, stdin=data, variables=identity(git, author))).text
