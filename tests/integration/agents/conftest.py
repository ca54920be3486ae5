"""A user's repository and a place for a workspace; a folder with one mistake."""

from pathlib import Path

import pytest

from tests.support.git_tree import UserTree, begun

WRONG = "def add(a, b):\n    return a - b\n\nassert add(2, 2) == 4\nprint('calc ok')\n"


@pytest.fixture
def tree(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "project", tmp_path / "user")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "worktrees/1"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Mended by `a + b` in calc.py."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "calc.py").write_text(WRONG)
    return folder


@pytest.fixture(scope="module")
def sdk() -> None:
    """Imported once, so that no test's time limit pays for it."""
    import anthropic  # noqa: PLC0415

    assert anthropic.__version__
