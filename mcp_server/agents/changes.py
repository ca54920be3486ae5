"""What was done in a workspace, read from the files, and what of it nobody allowed."""

import asyncio
import os
import posixpath
import re
import tempfile
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mcp_server.agents.git import Git, real_path
from mcp_server.agents.snapshot import HASH_S, snapshot, temporary_index
from mcp_server.agents.submodules import changed_since
from mcp_server.agents.workspace import Workspace
from mcp_server.hosts.globs import matcher

MAX_DIFF = 1 << 20  # bytes of the diff's text
MAX_TEST_DIFF = 8 << 20  # bytes of the tests' diff, which is only counted
_MAX_TEST_NAMES = 1000  # names on one command line
DIFF = ("diff-tree", "-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")

_LINK, _SUBMODULE, _EXECUTABLE = "120000", "160000", "100755"
_TEST = re.compile(r"(^|/)(tests?|test_apps|__tests__)/|(^|/)(pytest_|test_)[^/]*$|[_.\-](tests?|spec)\.[^/.]+$", re.I)
_ASSERTION = re.compile(
    rb"\b(TEST_ASSERT\w*|TEST_CASE\w*|TEST_F|TEST_P|TEST|EXPECT\w*|ASSERT\w*|REQUIRE\w*|CHECK\w*"
    rb"|RUN_TEST|assert\w*|expect\w*|dut\.expect\w*|def test_\w*|it|test)\s*[( :.]"
)
_SKIPPED = re.compile(
    rb"TEST_IGNORE|\[ignore\]|\bDISABLED_|GTEST_SKIP|mark\.(skip|xfail)|pytest\.skip|^\s*#\s*if\s+0\b"
)

_COMMENT = re.compile(
    rb"\s*(//|/?\*|#(?!\s*if\s+0\b))"
)  # of C, C++ and JavaScript, of Python and CMake; `#if 0` is none


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file. `path` is relative to the work tree's root; `added`, `removed` are lines, None where it is binary.

    Modes are Git's six digits, "000000" for none. `target` is where a link leads, as it is written, or its very end
    where that is outside of the work tree.
    """

    path: str
    status: Literal["added", "changed", "deleted", "submodule"]
    added: int | None
    removed: int | None
    old_mode: str = "000000"
    new_mode: str = "000000"
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes between the commit `since` and the files now, `tree` being those as a Git tree's id.

    `diff` has at most 1 MB, `cut` says that there is more. `left_out` are sentences on changed files that were not
    looked at. `prefix` is the project's folder in the work tree, with "/" at its end, "" where it is the same.
    `tests`: {path: (assertions removed, added, switched off)}, None where there was too much to count.
    """

    since: str
    tree: str
    files: tuple[FileChange, ...]
    diff: str = ""
    cut: bool = False
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    tests: Mapping[str, tuple[int, int, int] | None] = field(default_factory=dict[str, tuple[int, int, int] | None])

    def __bool__(self) -> bool:
        return bool(self.files or self.left_out)


async def changes(
    workspace: Workspace, since: str | None = None, environment: Mapping[str, str] | None = None
) -> Changes:
    """What differs from the commit `since`, by default from the user's tree as it was; nothing of the worktree is
    written, and nothing is stored in the repository.
    """
    since = since or workspace.base
    async with now(workspace, environment) as (git, variables, tree, left_out):
        files = await _files(git, variables, since, tree)
        words = (*DIFF, "-p", "--full-index", *_as_text(files), since, tree)
        done = await git.run(*words, variables=variables, limit=MAX_DIFF, check=False)
        tests = await _tests(git, variables, since, tree, [one.path for one in files if _TEST.search(one.path)])
    known = {one.path for one in files}
    for path, held in workspace.submodules.items():
        if path not in known and await changed_since(workspace.place, path, held, environment):
            files.append(FileChange(path, "submodule", None, None, _SUBMODULE, _SUBMODULE))
    text = done.out.decode("utf-8", "replace")
    if done.cut:
        text = text[: text.rfind("\n") + 1] + f"[the diff is longer than {MAX_DIFF:,} bytes: the rest is left out]\n"
    return Changes(since, tree, tuple(files), text, done.cut, workspace.prefix, tuple(left_out), tests)


def _as_text(files: Sequence[FileChange]) -> Sequence[str]:
    """Every file is shown as text where attributes were changed: by them a file could hide as a binary one."""
    return ["--text"] if any(posixpath.basename(one.path).lower() == ".gitattributes" for one in files) else []


@asynccontextmanager
async def now(
    workspace: Workspace, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[Git, dict[str, str], str, tuple[str, ...]]]:
    """The files as they are: git, variables under which the tree's objects can be read, its id, what was left out.

    Objects go into a folder that is deleted, so that what an agent leaves lying about does not fill the repository.
    The index begun with is the one that was kept aside: that in the worktree may hide changed files.
    """
    git = await workspace.git(environment)
    objects = await asyncio.to_thread(_objects, await git.path("objects"))
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="bo-objects-")
    try:
        async with temporary_index(git, workspace.state / "index") as variables:
            variables |= {"GIT_OBJECT_DIRECTORY": folder.name, "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects)}
            taken = await snapshot(git, variables)
            yield git, variables, taken.tree, taken.left_out
    finally:
        await asyncio.to_thread(folder.cleanup)


def _objects(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _quoted(path: Path) -> str:
    """A path in a list that ":" separates."""
    text = str(path)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _files(git: Git, variables: Mapping[str, str], since: str, tree: str) -> list[FileChange]:
    done = await git.run(*DIFF, "-z", "--raw", "--numstat", since, tree, variables=variables, timeout_s=HASH_S)
    parts = [os.fsdecode(part) for part in done.out.split(b"\0")]
    modes: dict[str, tuple[str, str, str]] = {}
    at = 0
    while at + 1 < len(parts) and parts[at].startswith(":"):
        old, new, _, _, letter = parts[at][1:].split(" ")
        modes[parts[at + 1]] = (old, new, letter)
        at += 2
    counts: dict[str, tuple[int | None, int | None]] = {}
    for part in parts[at:]:
        if part:
            added, removed, path = part.split("\t", 2)
            counts[path] = (None, None) if added == "-" else (int(added), int(removed))
    return await asyncio.to_thread(_changes, git.top, modes, counts)


def _changes(
    top: Path, modes: Mapping[str, tuple[str, str, str]], counts: Mapping[str, tuple[int | None, int | None]]
) -> list[FileChange]:
    found: list[FileChange] = []
    for path, (old, new, letter) in modes.items():
        status = "added" if letter == "A" else "deleted" if letter == "D" else "changed"
        target = None
        if new == _LINK:
            try:
                target = str((top / path).readlink())
            except OSError:
                target = ""
            end = real_path(top / path)
            if not _leads_out(path, target) and not end.is_relative_to(top):
                target = str(end)
        if _SUBMODULE in (old, new):
            status = "submodule"
        found.append(FileChange(path, status, *counts.get(path, (None, None)), old, new, target))
    return found


async def _tests(
    git: Git, variables: Mapping[str, str], since: str, tree: str, paths: Sequence[str]
) -> dict[str, tuple[int, int, int] | None]:
    if not paths:
        return {}
    found: dict[str, tuple[int, int, int] | None] = dict.fromkeys(paths)
    # As text: attributes, which may be new as well, can call any file a binary one, of which no line is shown.
    words = (*DIFF, "-z", "-p", "-U0", "--text", since, tree, "--", *paths[:_MAX_TEST_NAMES])
    done = await git.run(*words, variables=variables, limit=MAX_TEST_DIFF, check=False)
    if done.cut:
        return found
    # With -z names are not quoted; a name is known by the order of the files, which is that of the list.
    pieces = re.split(rb"(?m)^diff --git ", done.out)[1:]
    if len(pieces) == len(paths):
        found |= {path: _counted(piece) for path, piece in zip(paths, pieces, strict=True)}
    return found


def _counted(piece: bytes) -> tuple[int, int, int]:
    body = piece[max(piece.find(b"\n@@ "), 0) :].splitlines()
    minus = [line[1:] for line in body if line.startswith(b"-")]
    plus = [line[1:] for line in body if line.startswith(b"+")]
    off = _matching(_SKIPPED, plus) - _matching(_SKIPPED, minus)
    return _matching(_ASSERTION, minus), _matching(_ASSERTION, plus), max(off, 0)


def _matching(pattern: re.Pattern[bytes], lines: Iterable[bytes]) -> int:
    # A line that is only a comment asserts nothing: commenting a test out takes it away.
    return sum(1 for line in lines if pattern.search(line[:2000]) and not _COMMENT.match(line))


def outside(changes: Changes, allowed: Sequence[str], forbidden: Sequence[str]) -> list[str]:
    """A sentence for each change that may not be kept; [] where all is well.

    `allowed` and `forbidden` are globs below the project's folder; nothing in `allowed` means all of that folder.
    Never allowed are links that lead out, changes of submodules, files made executable and those not looked at.
    """
    is_allowed, is_forbidden = matcher(allowed), matcher(forbidden)
    found: list[str] = []
    for one in changes.files:
        inner = one.path.removeprefix(changes.prefix)
        if not one.path.startswith(changes.prefix):
            found.append(f"{one.path}: outside the project's folder")
        elif is_forbidden(inner):
            found.append(f"{one.path}: among the forbidden paths")
        elif allowed and not is_allowed(inner):
            found.append(f"{one.path}: not among the allowed paths")
        if one.status == "submodule":
            found.append(f"{one.path}: a submodule was changed")
        if one.target is not None and _leads_out(one.path, one.target):
            found.append(f"{one.path}: a link that leads out, to {one.target[:200]}")
        if one.new_mode == _EXECUTABLE and one.old_mode != _EXECUTABLE:
            found.append(f"{one.path}: made executable")
    return found + [f"{sentence} (changed, but not looked at)" for sentence in changes.left_out]


def _leads_out(path: str, target: str) -> bool:
    if target.startswith("/") or not target:
        return True
    parts = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)).split("/")
    return parts[0] == ".." or any(part.lower() == ".git" for part in parts)


def removed_tests(changes: Changes) -> list[str]:
    """A sentence for each test file that was deleted, or that asserts less than before, or switches tests off."""
    found: list[str] = []
    for one in changes.files:
        if one.path not in changes.tests:
            continue
        if one.status == "deleted":
            found.append(f"{one.path}: a test file was deleted")
            continue
        if (counted := changes.tests[one.path]) is None:
            found.append(f"{one.path}: too much of the tests was changed to count their assertions")
            continue
        minus, plus, off = counted
        if minus > plus:
            found.append(f"{one.path}: {minus} lines with assertions or tests were removed, {plus} added")
        if off:
            found.append(f"{one.path}: {off} lines were added that switch tests off")
    return found
