"""A user's repository and a place for a workspace."""

from pathlib import Path

import pytest

from tests.support.git_tree import UserTree, begun


@pytest.fixture
def tree(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "project", tmp_path / "user")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "worktrees/1"
