"""What a clone holds that is nowhere else, seen by a real git."""

import os
import shutil
from pathlib import Path

import pytest

from mcp_server import only_here
from mcp_server.errors import Unpushed
from tests.support.git_tree import UserTree, begun

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def clone(tmp_path: Path) -> UserTree:
    origin = begun(tmp_path / "served", tmp_path / "user")
    origin.git("clone", "-q", "--depth=1", f"file://{origin.top}", str(tmp_path / "clone"))
    clone = UserTree(tmp_path / "clone", tmp_path / "user")
    clone.git(
        "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"
    )  # a shallow clone has one branch's
    return clone


async def refusal(clone: UserTree) -> str:
    """ "" where nothing would be lost."""
    try:
        await only_here.check_nothing_lost(clone.top, os.environ)
    except Unpushed as error:
        return str(error)
    return ""


async def test_what_is_at_the_origin_or_made_by_a_build_is_no_loss(clone: UserTree) -> None:
    """Ours. A refusal that comes each time would be answered without being read."""
    clone.write("build/lamp.bin")
    clone.write("sdkconfig")
    clone.write(".git/info/exclude", "")
    clone.git("branch", "bo/build-1")
    clone.git("tag", "-a", "v1", "-m", "of a commit that was pushed")
    assert await refusal(clone) == ""
    clone.write(".gitignore", "sdkconfig\n")
    clone.git("commit", "-q", "-a", "-m", "build is not ignored")
    clone.git("push", "-q", "origin", "HEAD:refs/heads/there")
    assert clone.git("status", "--porcelain") == "?? build/" and await refusal(clone) == ""


async def test_commits_of_every_kind_are_named_a_few_of_them(clone: UserTree) -> None:
    """Ours. Branches, a stash, a tag, a detached HEAD: whatever deleting it would lose."""
    clone.write("main/main.c", "half of a thought\n")
    clone.git("stash", "push", "-q")
    assert "commits that no remote-tracking branch has: stash." in await refusal(clone)
    clone.git("stash", "drop", "-q")
    clone.git("checkout", "-q", "--detach")
    clone.commit("on no branch")
    assert "remote-tracking branch has: HEAD, which is on no branch. Nothing is deleted" in await refusal(clone)
    clone.git("tag", "-a", "kept", "-m", "kept")
    clone.git("checkout", "-q", "main")
    assert "remote-tracking branch has: tags/kept." in await refusal(clone)
    clone.git("tag", "-d", "kept")
    for number in range(11):
        clone.git("checkout", "-q", "-b", f"bo/build-{number:02}", "main")
        clone.commit("made by a bot")
    said = await refusal(clone)
    assert "remote-tracking branch has: bo/build-00, bo/build-01," in said and "bo/build-07 and 3 more. Nothing" in said
    clone.git("push", "-q", "origin", "--all")
    assert await refusal(clone) == ""


async def test_what_is_not_committed_is_named(clone: UserTree, tmp_path: Path) -> None:
    """Ours. Also while the repository names programs: none is run."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "filter.x.clean", "filter.x.smudge"):
        clone.git("config", key, str(trap))
    clone.write(".git/info/attributes", "* filter=x\n")
    clone.write("main/main.c", "changed\n")
    clone.write("notes\x1b[31m.txt")
    said = await refusal(clone)
    assert "holds changes that are not committed: main/main.c, notes" in said and "\x1b" not in said
    assert not (tmp_path / "sprung").exists()


async def test_what_git_cannot_tell_of_is_not_deleted_unasked(clone: UserTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. An unreadable repository, none at all, one that takes too long; nothing is there: nothing is lost."""
    monkeypatch.setattr(only_here, "LOOK_S", 0.0)
    assert "could not be looked through by git within 0 s" in await refusal(clone)
    monkeypatch.undo()
    shutil.rmtree(clone.top / ".git" / "objects")
    assert f"{clone.top} cannot be read by git" in await refusal(clone)
    shutil.rmtree(clone.top / ".git")
    assert "is no Git repository any more" in await refusal(clone)
    shutil.rmtree(clone.top)
    assert await refusal(clone) == ""
