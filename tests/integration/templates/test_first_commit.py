"""What a project that was made says of itself: its template, and its first commit."""

import shutil
from pathlib import Path

import pytest

from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.templates import create, created_already, first_commit
from tests.integration.templates.conftest import git

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "projects"
    folder.mkdir()
    return folder / "made"


async def test_a_project_says_of_what_it_was_made(place: Path) -> None:
    """Ours. So that a stage that begins again leaves it alone, and one with other variables does not."""
    await create("web-page", place, {"name": "a"})

    assert created_already("web-page", place, {"name": "a"})
    assert not created_already("web-page", place, {"name": "b"})
    assert not created_already("esp-idf-app", place, {"name": "a"})
    assert not created_already("web-page", place.parent / "none", {"name": "a"})


async def test_without_copier_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours."""
    monkeypatch.setattr("mcp_server.templates.creation._has_copier", lambda: False)

    with pytest.raises(EnvironmentMissing, match=r"pip install 'build-orchestrator\[agents\]'"):
        await create("web-page", place, {"name": "a"})


async def test_the_first_commit_has_everything_and_runs_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. Neither the user's hooks nor their settings; a second call finds the first one's."""
    ran = tmp_path / "ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (hooks / "pre-commit").chmod(0o755)
    (tmp_path / "user" / ".gitconfig").write_text(f"[core]\nhooksPath = {hooks}\n[commit]\ngpgSign = true\n")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    await create("esp-idf-app", place, {"name": "a"})
    (place / "build").mkdir()
    (place / "build" / "x").write_text("x")

    commit = await first_commit(place, "A Bot <bot@example.org>")

    assert git(place, "log", "--format=%H|%an|%ae|%s") == f"{commit}|A Bot|bot@example.org|Made from a template"
    assert git(place, "status", "--porcelain") == ""
    files = git(place, "ls-files").splitlines()
    assert ".copier-answers.yml" in files
    assert "build/x" not in files
    assert git(place, "symbolic-ref", "--short", "HEAD") == "main"
    assert not ran.exists()
    assert await first_commit(place, "B <b@example.org>") == commit


@pytest.mark.parametrize("author", ["", "Name", "Name <>", "<a@b>", "A\n<a@b>", "A <a b>"])
async def test_an_author_is_a_name_and_a_mail(author: str, place: Path) -> None:
    """Ours."""
    with pytest.raises(BadInput, match=r"^author: should be like"):
        await first_commit(place, author)
