"""The stages `git.commit` and `git.push`, begun once and begun again."""

from pathlib import Path

import pytest

from mcp_server.agents import push as push_module
from mcp_server.engine.stages.git_commit import GitCommit
from mcp_server.engine.stages.git_push import GitPush
from tests.support.git_tree import UserTree
from tests.support.stage_context import stage_context


async def test_commit_carries_the_build_and_is_made_once(tree: UserTree) -> None:
    """Issue. A worker that took over finds it by its last line, also after more was changed."""
    tree.write("main/main.c", "fixed\n")
    params = {"project": str(tree.top), "message": "fix: led", "author": "Bot <b@x.org>", "branch": "bot/1"}
    context = stage_context("git.commit", params, tree.environment)

    first = await GitCommit().run(context)
    tree.write("main/other.c")
    again = await GitCommit().run(context)

    assert first.result == again.result == "pass"
    assert first.details == again.details
    assert first.details["files_changed"] == ["main/main.c"]
    assert first.details["branch"] == "bot/1"
    assert first.details["commit_sha"] == tree.git("rev-parse", "bot/1")
    assert tree.git("log", "-1", "--format=%B").strip() == "fix: led\n\nBuild: abcd1234-7"
    assert tree.git("rev-list", "--count", "main..bot/1") == "1"


async def test_nothing_to_commit_passes_with_the_commit_that_is_there(tree: UserTree) -> None:
    """Ours."""
    context = stage_context("git.commit", {"project": str(tree.top), "message": "x"}, tree.environment)

    verdict = await GitCommit().run(context)

    assert verdict.result == "pass"
    assert verdict.details["commit_sha"] == tree.git("rev-parse", "HEAD")
    assert verdict.details["files_changed"] == []


async def test_push_says_where_it_went_and_fails_with_a_reason(
    tree: UserTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue."""
    monkeypatch.setattr(push_module, "PROTOCOLS", ("file",))
    tree.git("init", "-q", "--bare", "-b", "main", str(tmp_path / "origin.git"))
    tree.git("remote", "add", "origin", f"file://{tmp_path}/origin.git")
    tree.git("checkout", "-q", "-b", "bot/1")
    context = stage_context("git.push", {"project": str(tree.top)}, tree.environment)

    done = await GitPush().run(context)
    again = await GitPush().run(context)
    tree.git("checkout", "-q", "main")
    refused = await GitPush().run(context)

    assert done.result == again.result == "pass"
    assert done.details["pushed_to"] == f"file://{tmp_path}/origin.git"
    assert done.details["branch"] == "bot/1"
    assert refused.result == "fail"
    assert refused.details["outcome"] == "default_branch"
    assert "allow_default" in refused.summary
    assert refused.details["pushed_to"] is None
