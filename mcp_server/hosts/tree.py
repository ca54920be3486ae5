"""What of a source tree is brought to another host: its files, folders and links without what a build makes there."""

import base64
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mcp_server.errors import BadInput, NotFound
from mcp_server.hosts.globs import path_expression

MARKER = ".build-orchestrator-sync"
"""The folder in a target that says what was brought there."""
STAGING = f"{MARKER}/tmp"  # noqa: S108  # below the target
"""Where rsync keeps what has not arrived whole; emptied by the next sync."""

DEFAULT_EXCLUDES = (".git", "/build/", "__pycache__/", ".DS_Store")
"""`.git` is often larger than the tree. ESP-IDF takes an app's version from `git describe`, so whoever builds elsewhere
passes it on (`-DPROJECT_VER=`). managed_components and ignored files are brought: a build may need them."""

NOT_SOURCE = frozenset({"CMakeCache.txt", "CACHEDIR.TAG", "pyvenv.cfg"})
"""A folder with one of these is made by CMake, a tool's cache or a Python environment, whatever it is called."""

Entry = tuple[str | int, ...]
"""("f", size in bytes, mtime in ns, mode), ("l", target) or ("d", mode)."""
Tree = dict[str, Entry]
"""By path, parents before what is in them."""
Manifest = Mapping[str, Sequence[str | int]]
"""What was brought to a target; of an entry that may have changed since only the kind is known."""


class Excludes:
    """Patterns as in .gitignore: "/" in front or within binds to the root, at the end means folders only."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._any = _whole(pattern for pattern in self.patterns if not pattern.endswith("/"))
        self._folders = _whole(self.patterns)

    def match(self, path: str, is_folder: bool) -> bool:
        """Whether this very path is left out; for a path in a folder that is left out, ask for the folder."""
        return path == MARKER or (self._folders if is_folder else self._any).fullmatch(path) is not None

    def cover(self, path: str) -> bool:
        """Whether the path or a folder above it is left out. Its own kind is not known: either will do."""
        parts = path.split("/")
        return any(self.match("/".join(parts[:end]), True) for end in range(1, len(parts) + 1))

    def find_words(self) -> list[str]:
        """Arguments that keep `find` out of folders with plain names; the rest is left out by `match`."""
        shapes = ["-path", f"./{MARKER}"]
        for pattern in self.patterns:
            name = pattern.strip("/")
            if pattern.endswith("/") and not re.search(r"[][*?\\]", name):
                bound = "/" in pattern.rstrip("/")
                shapes += ["-o", "-path", f"./{name}"] if bound else ["-o", "-name", name]
        return ["(", "-type", "d", "(", *shapes, ")", "-prune", ")", "-o"]


def _whole(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, patterns)) or r"(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    parts = [part for part in pattern.split("/") if part]
    if not parts or "\0" in pattern or ".." in parts:
        raise BadInput("exclude", f"{pattern!r} must be a pattern as in .gitignore, without '..'")
    return path_expression(parts if "/" in pattern.rstrip("/") else ["**", *parts], dots=True)


def walk(source: Path, excludes: Excludes) -> Tree:
    """The tree below `source`. Links stay links; sockets, devices and pipes are left out. NotFound: no folder."""
    tree: Tree = {}
    _walk(os.fspath(source), "", excludes, tree)
    return tree


def _walk(folder: str, prefix: str, excludes: Excludes, tree: Tree) -> bool:
    """False where the folder is none of the source."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if prefix and isinstance(error, FileNotFoundError):
            return True  # gone since its parent was read
        raise NotFound(f"{folder} cannot be read as a folder: {error.strerror}") from None
    if prefix and any(entry.name in NOT_SOURCE for entry in entries):
        return False
    for entry in entries:
        path, is_folder = prefix + entry.name, entry.is_dir(follow_symlinks=False)
        if excludes.match(path, is_folder):
            continue
        if (found := describe(entry.path)) is None:
            continue
        tree[path] = found
        if is_folder and not _walk(entry.path, path + "/", excludes, tree):
            del tree[path]
    return True


def describe(path: str) -> Entry | None:
    """An entry as it is now; None where it is gone or of no kind that is brought."""
    try:
        facts = os.lstat(path)
        match stat.S_IFMT(facts.st_mode):
            case stat.S_IFREG:
                return ("f", facts.st_size, facts.st_mtime_ns, facts.st_mode & 0o777)
            case stat.S_IFDIR:
                return ("d", facts.st_mode & 0o777)
            case stat.S_IFLNK:
                return ("l", os.readlink(path))  # noqa: PTH115  # its bytes need not be UTF-8
            case _:
                return None
    except OSError:
        return None


def without_builds(paths: Iterable[str], folders: Iterable[str], excludes: Excludes) -> tuple[list[str], list[str]]:
    """Of a far tree's files and links, and of its folders, those that `walk` would keep."""
    files, among = list(paths), set(folders)
    for path in files:
        among.update(_parents(path))
    left_out = {folder for folder in among if excludes.match(folder, True)}
    for path in [*files, *among]:
        folder, _, name = path.rpartition("/")
        if folder and name in NOT_SOURCE:
            left_out.add(folder)
    kept = [folder for folder in among if folder not in left_out and left_out.isdisjoint(_parents(folder))]
    return (
        sorted(path for path in files if not excludes.match(path, False) and left_out.isdisjoint(_parents(path))),
        sorted(kept),
    )


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def digest(tree: Manifest) -> str:
    """Of the paths and their kinds: while it stays the same, nothing has to be deleted."""
    whole = "\0".join(f"{entry[0]}{path}" for path, entry in tree.items())
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()


def gone(old: Manifest, new: Manifest, excludes: Excludes) -> tuple[list[str], list[str]]:
    """Files and links, then folders, that were brought and are no more, or are of another kind now.

    What is left out now is left alone; a folder comes after what is in it.
    """
    lost = [path for path, entry in old.items() if path not in new or new[path][0] != entry[0]]
    lost = [path for path in lost if not excludes.cover(path)]
    folders = [path for path in lost if old[path][0] == "d"]
    return [path for path in lost if old[path][0] != "d"], sorted(folders, key=len, reverse=True)


def pack(manifest: Manifest) -> str:
    """A manifest as one word."""
    return base64.b64encode(zlib.compress(json.dumps(manifest).encode(), 1)).decode()


def unpack(text: str) -> Manifest:
    """What `pack` made; nothing where it is of another make, and then nothing is deleted."""
    try:
        return json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    except (ValueError, zlib.error):
        return {}
