"""Globs mean on every host what Python's glob says, and a folder's name means all that lies below it."""

import glob
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_server.errors import BadInput
from mcp_server.hosts.globs import find_words, matcher

NAMES = ["a", "b", "ab", ".a", "a.b", "[a]", "a]", "-", "!", "*"]
FILES = [
    *NAMES[:3], ".h", "d/a", "d/.h", "d/ab", "d/a.b", "d/[a]", "d/e/a", "d/e/b", "d/e/.h", "d/e/f/ab", ".c/a",
    ".c/d/b", "ba/a", "b]/-", "x/!/a", "x/*/b", "x/*/c d", "new\nline/a",
]  # fmt: skip

pieces = st.sampled_from(["a", "b", "d", "e", ".", "*", "?", "[", "]", "!", "-", "[a-c]", "[!a]", "[]a]", "[b-a]", "x"])
parts = st.one_of(st.sampled_from(["**", "*", "d", "e", ".c"]), st.lists(pieces, min_size=1, max_size=4).map("".join))
patterns = st.lists(parts, min_size=1, max_size=4).map("/".join).filter(
    lambda pattern: not {"", ".", ".."} & set(pattern.split("/"))
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for path in FILES:
        folder, _, name = path.rpartition("/")
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_text(path)
    return root


def files_of(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def by_python(root: Path, pattern: str) -> set[str]:
    """What the documentation of `glob` says, and what lies in the folders that it names."""
    found = set(glob.glob(pattern, root_dir=root, recursive=True)) - {""}  # noqa: PTH207
    everything = files_of(root)
    inside = {path for path in everything if any(path.startswith(f"{folder.rstrip('/')}/") for folder in found)}
    last = pattern.rpartition("/")[2]
    return (found & everything) | (set() if last == "**" else inside)


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pattern=patterns)
def test_a_pattern_names_what_python_says(tree: Path, pattern: str) -> None:
    """Python's documentation of glob; the folders are ours."""
    is_named = matcher([pattern])
    assert {path for path in files_of(tree) if is_named(path)} == by_python(tree, pattern)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(patterns, min_size=1, max_size=3))
@example(some=["[!a]"])
@example(some=["d/[]a]"])
@pytest.mark.parametrize("find", [["find"], ["busybox", "find"]], ids=["gnu", "busybox"])
def test_find_prints_at_least_what_is_named(tree: Path, find: Sequence[str], some: list[str]) -> None:
    """Ours: its own idea of a pattern may be wider, never narrower."""
    if not shutil.which(find[0]):
        pytest.skip(f"{find[0]} is not installed")
    said = subprocess.run([*find, *find_words(some)], cwd=tree, capture_output=True, check=False)
    printed = {path.removeprefix("./") for path in said.stdout.decode().split("\0")}
    is_named = matcher(some)
    assert {path for path in files_of(tree) if is_named(path)} <= printed


def test_find_stays_out_of_folders_that_no_pattern_can_name(tree: Path) -> None:
    """Ours: one deep folder that nobody asked for may hold a million files."""
    said = subprocess.run(["find", *find_words(["d/*.b", "ba"])], cwd=tree, capture_output=True, check=True)
    assert not [path for path in said.stdout.decode().split("\0") if path.startswith(("./x", "./.c", "./new"))]


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../x", "a/../../b", "a\0b"])
def test_a_pattern_that_leads_out_is_refused(pattern: str) -> None:
    """Ours."""
    with pytest.raises(BadInput):
        matcher([pattern])
    with pytest.raises(BadInput):
        find_words([pattern])
