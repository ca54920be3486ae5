"""The stages `git.commit` and `git.push`, begun once and begun again."""

from pathlib import Path

import pytest

from mcp_server.agents import push as push_module
from mcp_server.agents.workspace import make
from mcp_server.engine.stages.git_commit import GitCommit
from mcp_server.engine.stages.git_push import GitPush
from mcp_server.errors import Conflict
from mcp_server.model import Verdict
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


async def test_commit_of_a_pipeline_is_never_on_the_default_branch(tree: UserTree) -> None:
    """Issue: never to the default branch unless configured. The one its remote told, else main or master."""
    tree.write("main/main.c", "fixed\n")
    before = tree.everything()
    params = {"project": str(tree.top), "message": "x", "allow_default": False}

    refused = [
        await GitCommit().run(stage_context("git.commit", {**params, **more}, tree.environment))
        for more in ({}, {"branch": "main"})
    ]
    tree.git("checkout", "-q", "--detach")
    detached = await GitCommit().run(stage_context("git.commit", params, tree.environment))
    tree.git("checkout", "-q", "main")
    tree.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    other = await GitCommit().run(stage_context("git.commit", params, tree.environment))

    assert [one.result for one in (*refused, detached, other)] == ["fail", "fail", "fail", "pass"]
    assert "main may be the default branch" in refused[0].summary == refused[1].summary
    assert "is on no branch: name one" in detached.summary
    assert {name for name in before if name.startswith("main/")} <= set(tree.everything())


async def test_commit_of_paths_leaves_what_else_is_changed_or_staged(tree: UserTree) -> None:
    """Ours. As `git commit -- PATHS` does; and what a build makes is not taken, though nothing ignores it."""
    tree.write(".gitignore", "")
    tree.commit()
    for name in ("main/main.c", "main/new.c", "test/test_main.c", "docs/a.md", "build/a.o", "sdkconfig.old"):
        tree.write(name, "new\n")
    tree.git("add", "test")
    params = {"project": str(tree.top), "message": "x", "branch": "bot/1", "allow_default": False}

    some = await GitCommit().run(stage_context("git.commit", {**params, "paths": ["main/**"]}, tree.environment))
    left = tree.git("status", "--porcelain", "-uall").splitlines()
    rest = await GitCommit().run(stage_context("git.commit", params, tree.environment, build=8))

    assert some.details["files_changed"] == ["main/main.c", "main/new.c"]
    assert left == ["M  test/test_main.c", "?? build/a.o", "?? docs/a.md", "?? sdkconfig.old"]
    assert rest.details["files_changed"] == ["docs/a.md", "test/test_main.c"]
    assert tree.git("status", "--porcelain") == "?? build/\n?? sdkconfig.old"


async def test_commit_in_a_mended_copy_leads_the_named_branch_to_it(tree: UserTree, place: Path) -> None:
    """Ours. The copy stays on its own branch; one that is checked out is left, and so is one with other commits.

    A default branch is none to be named here either.
    """
    tree.git("checkout", "-q", "-b", "mine")
    space = await make(tree.top, place, "bo/fix-7", environment=tree.environment)
    (place / "main/main.c").write_text("fixed\n")
    params = {"project": str(space.folder), "message": "x", "whole": True, "allow_default": False}

    async def run(branch: str) -> Verdict:
        return await GitCommit().run(stage_context("git.commit", {**params, "branch": branch}, tree.environment))

    made = await run("bot/1")
    checked_out, default = await run("mine"), await run("main")
    tree.git("branch", "other", tree.git("commit-tree", "HEAD^{tree}", "-m", "other"))
    other = await run("other")

    assert made.details["branch"] == "bo/fix-7"
    assert made.summary.endswith("on bo/fix-7: 1 file; branch bot/1 leads to it")
    assert tree.git("rev-parse", "bot/1") == tree.git("rev-parse", "bo/fix-7") == made.details["commit_sha"]
    assert tree.git("rev-list", "--count", "main..bot/1") == "1"
    assert checked_out.details["notes"] == ["branch mine is checked out, and was left as it is"]
    assert default.result == "fail" and "main may be the default branch" in default.summary
    assert tree.git("rev-parse", "main") == tree.git("rev-parse", "mine")
    assert "with commits that this one does not come after" in other.summary
    assert tree.git("symbolic-ref", "HEAD") == "refs/heads/mine"


async def test_push_that_was_forbidden_meanwhile_is_refused(tree: UserTree, home: Path) -> None:
    """interfaces: security.allow_push."""
    (home / "config.yaml").write_text("security: {allow_push: never}\n")

    with pytest.raises(Conflict, match="allow_push"):
        await GitPush().run(stage_context("git.push", {"project": str(tree.top), "branch": "x"}, tree.environment))
