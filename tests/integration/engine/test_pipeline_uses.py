"""A pipeline file that judges, lets an agent mend or remark, commits and pushes, through a worker."""

import json
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
        *(f".git/{place}refs/{of}/nightly/lamp" for place in ("", "logs/") for of in ("heads", "remotes/origin")),
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


REMARKED = """\
pipeline:
  stages:
    - {name: build, command: "true"}
    - {name: qa, uses: qa, depends_on: build, with: {agent: "patch:../remarks.diff"}}
    - {name: other, uses: qa, depends_on: build, with: {agent: "patch:../diffs"}}
"""

REMARKS = [
    {"file": "main/main.c", "line": 3, "message": "BROKEN: it must fail,\nreally"},
    {"file": "/etc/passwd", "line": 3, "message": "elsewhere"},
    {"file": 5, "message": ""},
    "junk",
]


async def test_an_agents_remarks_are_warnings_of_the_record_and_decide_nothing(
    orchestrator: Orchestrator, tree: UserTree, tmp_path: Path
) -> None:
    """Issue: a model may add to it, never overrule it. One that leaves no list has failed, and its build has not."""
    added = f"--- /dev/null\n+++ b/REMARKS.json\n@@ -0,0 +1,1 @@\n+{json.dumps(REMARKS)}\n"
    (tmp_path / "remarks.diff").write_text(added)
    diff(tmp_path / "diffs", "1.diff", 1, 3)
    before = tree.everything()

    started = await orchestrator.start_pipeline(await orchestrator.read_pipeline(text=REMARKED), tree.top)
    view = await orchestrator.wait(started.build.id, 40)

    rows = {row.stage: row for row in view.stages}
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert view.build.status is BuildStatus.SUCCESS
    assert [str(rows[name].status) for name in ("qa", "qa.remarks", "other", "other.remarks")] == [
        *("success", "success", "success", "failed")
    ]
    assert verdicts["qa.remarks"] is not None and verdicts["other.remarks"] is not None
    common = {"severity": "warning", "kind": "remark", "stage": "qa.remarks", "by": "agent"}
    assert verdicts["qa.remarks"].details["issues"] == [
        {**common, "message": "BROKEN: it must fail, really", "file": "main/main.c", "line": 3},
        {**common, "message": "elsewhere"},
    ]
    assert "left no list of remarks" in verdicts["other.remarks"].summary
    assert tree.everything() == before
    assert not [path for path in (orchestrator.config.worktrees_dir).iterdir() if "remarks" in path.name]
