"""A pipeline file that judges, lets an agent mend, commits and pushes, through a worker."""

import subprocess
from pathlib import Path

import pytest

from mcp_server.agents import push as push_module
from mcp_server.errors import BadInput, EnvironmentMissing, NotAgreed
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.fix_loop import diff, story
from tests.support.git_tree import UserTree, begun

pytestmark = [pytest.mark.worker_inside, pytest.mark.timeout(60)]

PIPELINE = """\
pipeline:
  name: nightly
  params: {branch: nightly/lamp}
  stages:
    - {name: build, command: "! grep 'return 1' main/main.c", retry: 0}
    - {name: doctor, uses: doctor, allow_failure: true}
    - {name: qa, uses: qa, depends_on: build}
    - name: commit
      uses: git.commit
      depends_on: qa
      with: {message: Mend the lamp, branch: "${params.branch}", author: Bot <bot@example.org>}
    - {name: push, uses: git.push, depends_on: commit, with: {branch: "${params.branch}"}}
    - {name: mend, uses: agent.fix, timeout: 30s, with: {agent: "patch:../diffs", max_rounds: 2, allow: main/**}}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserTree:
    """A user's repository with a remote that may be pushed to over file://."""
    monkeypatch.setattr(push_module, "PROTOCOLS", ("file",))
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "remote.git"], check=True)
    tree = begun(tmp_path / "project", tmp_path / "user")
    tree.git("remote", "add", "origin", f"file://{tmp_path}/remote.git")
    tree.git("push", "-q", "origin", "main")
    return tree


async def test_a_pipeline_is_mended_committed_and_pushed_and_the_users_tree_is_as_it_was(
    orchestrator: Orchestrator, tree: UserTree, tmp_path: Path
) -> None:
    """Docs. Nothing is begun unasked; each round in the record, by the file's own names."""
    diff(tmp_path / "diffs", "1.diff", 1, 3)
    before = tree.everything(but="bo/fix-1")
    pipeline = await orchestrator.read_pipeline(text=PIPELINE)

    with pytest.raises(NotAgreed, match="Push branch nightly/lamp of project to origin"):
        await orchestrator.start_pipeline(pipeline, tree.top)
    started = await orchestrator.start_pipeline(pipeline, tree.top, agreed=True)
    view = await orchestrator.wait(started.build.id, 40)

    told = [line for line in story(view) if "doctor" not in line]
    assert told[:1] + sorted(told[1:5]) + told[5:] == [
        "1 build failed",
        *("1 commit skipped", "1 mend success", "1 push skipped", "1 qa failed"),
        *("2 build success", "2 qa success", "2 commit success", "2 push success"),
    ]
    assert view.build.status is BuildStatus.SUCCESS
    left = tree.everything(but="bo/fix-1")
    assert {name for name in left if left[name] != before.get(name)} <= {
        *(f".git/{place}refs/heads/nightly/lamp" for place in ("", "logs/")),
    }
    remote = UserTree(tmp_path / "remote.git", tmp_path)
    assert remote.git("log", "--format=%an %s", "main..nightly/lamp") == "Bot Mend the lamp"
    assert tree.git("rev-parse", "nightly/lamp") == remote.git("rev-parse", "nightly/lamp")
    assert "return 3" in remote.git("show", "nightly/lamp:main/main.c")


async def test_an_agent_that_cannot_be_used_is_told_before_anything_is_built(
    orchestrator: Orchestrator, tree: UserTree
) -> None:
    """Ours."""
    gone = await orchestrator.read_pipeline(text=PIPELINE.replace("../diffs", "/nowhere"))

    with pytest.raises(EnvironmentMissing, match="cannot be used"):
        await orchestrator.start_pipeline(gone, tree.top, agreed=True)
    with pytest.raises(BadInput, match="no agent 'cluade'; did you mean 'claude'"):
        await orchestrator.read_pipeline(text=PIPELINE.replace("patch:../diffs", "cluade"))
    assert not await orchestrator.list()
