"""Globs mean on every host what Python's glob says, and a folder's name means all that lies below it."""

import fnmatch
import glob
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mcp_server.errors import BadInput
from mcp_server.hosts.globs import find_words, matcher
from mcp_server.hosts.tree import Excludes

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


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=patterns)
def test_a_pattern_names_what_python_says(tree: Path, pattern: str) -> None:
    """Python's documentation of glob; the folders are ours."""
    is_named = matcher([pattern])
    assert {path for path in files_of(tree) if is_named(path)} == by_python(tree, pattern)


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


LONG = {
    "stars": ("*a" * 12 + ".bin", "a" * 40 + ".deb"),
    "many stars": ("*a" * 100 + "*b", "a" * 255),
    "any letters": ("*?" * 60 + "*x", "a" * 250),
    "sets": ("*[a-z]" * 40 + ".o", "a" * 250),
    "folders": ("**/a/" * 20 + "x", "a/" * 60 + "b"),
    "any folders": ("**/*/" * 20 + "x", "a/" * 60 + "b"),
    "folders in a row": ("**/" * 40 + "x", "a/" * 60 + "b"),
    "both": ("**/*a*a*a*a*a*b/" * 10 + "**", ("a" * 60 + "/") * 30 + "x"),
    "below a folder": ("**/" * 20 + "a/" + "*/" * 20 + "x", "a/" * 60 + "b"),
}


@pytest.mark.parametrize("case", LONG)
def test_no_pattern_takes_long(case: str) -> None:
    """Ours: one pattern of a pipeline must not hold up everything else, be it of `artifacts` or of `exclude`."""
    pattern, path = LONG[case]
    text = f"""
from mcp_server.hosts.globs import matcher
from mcp_server.hosts.tree import Excludes
print(matcher([{pattern!r}])({path!r}), Excludes([{pattern!r}]).match({path!r}, True))
"""
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=5, check=True)
    assert said.stdout.split() == ["False", "False"]


WORD = st.text("ab.", min_size=1, max_size=4)
PART = st.one_of(st.just("**"), st.text("ab.*?", min_size=1, max_size=5).filter(lambda part: "**" not in part))


def by_trying(parts: Sequence[str], names: Sequence[str]) -> bool:
    """What the documentation of .gitignore says, all ways of it tried."""
    if not parts or not names:
        return not parts and not names
    if parts[0] != "**":
        return fnmatch.fnmatchcase(names[0], parts[0]) and by_trying(parts[1:], names[1:])
    least = 1 if len(parts) == 1 else 0
    return any(by_trying(parts[1:], names[end:]) for end in range(least, len(names) + 1))


@settings(derandomize=True)
@given(parts=st.lists(PART, min_size=1, max_size=5), names=st.lists(WORD, min_size=1, max_size=6))
@example(parts=["**", "*a*b*a", "**", "a", "**", "b"], names=["a", "abba", "b", "a", "a", "b"])
@example(parts=["**", "**", "a*", "*b", "**"], names=["a", "a", "b", "ab", "b"])
def test_the_first_fit_is_as_good_as_all(parts: list[str], names: list[str]) -> None:
    """Ours: what makes matching fast changes no answer."""
    pattern = "/".join(parts)
    assume(".." not in parts)
    bound = parts if len(parts) > 1 else ["**", *parts]
    assert Excludes([pattern]).match("/".join(names), True) is by_trying(bound, names)


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../x", "a/../../b", "a\0b"])
def test_a_pattern_that_leads_out_is_refused(pattern: str) -> None:
    """Ours."""
    with pytest.raises(BadInput):
        matcher([pattern])
    with pytest.raises(BadInput):
        find_words([pattern])
