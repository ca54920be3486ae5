"""What Git says of a folder that is built."""

import json
import subprocess
from pathlib import Path

import anyio
import pytest

from mcp_server.engine.source import read_commit
from mcp_server.errors import StoreError
from mcp_server.model import BuildStatus, Ending, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds

WAITS = "until [ -e {} ]; do sleep 0.02; done"


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=Ada Ö", "-c", "user.email=a@b.c")
    done = subprocess.run(["git", "-C", str(folder), *author, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "feature/one")
    return folder


async def test_a_commit_is_told_with_its_author_branch_and_what_differs_from_it(tree: Path, tmp_path: Path) -> None:
    """Ours. What was built is its commit only where no file of it is another one."""
    none: dict[str, str | None] = {"commit_sha": ""}
    assert await read_commit(str(tmp_path)) == none  # no Git here
    assert await read_commit(str(tree)) == none  # and no commit yet
    (tree / "main.c").write_text("int main;\n")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "first: a line\n\nand more of it")
    first = {"commit_sha": git(tree, "rev-parse", "HEAD"), "commit_author": "Ada Ö", "commit_message": "first: a line"}

    assert await read_commit(str(tree)) == {**first, "branch": "feature/one"}
    (tree / "new.c").touch()  # of which Git knows nothing
    assert await read_commit(str(tree)) == {**first, "branch": "feature/one"}
    (tree / "main.c").write_text("int other;\n")
    dirty = {**first, "commit_sha": f"{first['commit_sha']}+dirty"}
    assert await read_commit(str(tree)) == {**dirty, "branch": "feature/one"}
    git(tree, "commit", "-qam", "second")
    second = await read_commit(str(tree))
    assert (second["commit_sha"], second["commit_message"]) == (git(tree, "rev-parse", "HEAD"), "second")
    git(tree, "checkout", "-q", "--detach", "HEAD~1")
    assert await read_commit(str(tree)) == {**first, "branch": None}


@pytest.mark.worker_inside
@pytest.mark.parametrize(("patience_s", "while_it_runs"), [(30, False), (0, True)])
async def test_the_commit_of_a_build_is_noted_while_it_runs_or_with_an_end_that_comes_at_once(
    orchestrator: Orchestrator, tree: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float, *, while_it_runs: bool
) -> None:
    """Ours. Of a build that is over in a moment it would be a second write of the same row."""
    monkeypatch.setattr("mcp_server.engine.build_run.NOTE_S", patience_s)
    go = tree / ".git" / "go"
    git(tree, "commit", "-q", "--allow-empty", "-m", "first")
    noted: list[int] = []
    set_facts = builds.set_facts

    def note(c: builds.sa.Connection, number: int, **facts: str | int | None) -> None:
        noted.append(number)
        set_facts(c, number, **facts)
        go.touch()

    if not while_it_runs:
        go.touch()
    monkeypatch.setattr(builds, "set_facts", note)
    stage = StageSpec(name="build", kind="command", params={"project": str(tree), "command": WAITS.format(go)})
    plan = Plan(stages=(stage,), on_success=Ending(archive=True))
    started = await orchestrator.start_plan(tree, plan, name="b")
    with anyio.fail_after(30):
        view = await orchestrator.wait(started.build.id, 30)

    assert (view.build.commit_sha, view.build.branch) == (git(tree, "rev-parse", "HEAD"), "feature/one")
    assert len(noted) == while_it_runs
    kept = json.loads((Path(view.build.artifacts_path or "") / "manifest.json").read_text())
    assert (kept["commit_sha"], kept["branch"]) == (view.build.commit_sha, "feature/one")


@pytest.mark.worker_inside
async def test_a_commit_that_cannot_be_noted_spoils_no_build_and_is_one_line(
    orchestrator: Orchestrator, tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours. The database is away just then: the build goes on, and its end is written with the commit."""
    git(tree, "commit", "-q", "--allow-empty", "-m", "first")

    go = tree / ".git" / "go"

    def away(*_: object, **__: object) -> None:
        go.touch()
        raise StoreError("the database is away")

    monkeypatch.setattr(builds, "set_facts", away)
    monkeypatch.setattr("mcp_server.engine.build_run.NOTE_S", 0)
    stage = StageSpec(name="build", kind="command", params={"project": str(tree), "command": WAITS.format(go)})
    started = await orchestrator.start_plan(tree, Plan(stages=(stage,)), name="b")
    with anyio.fail_after(30):
        view = await orchestrator.wait(started.build.id, 30)

    assert (view.build.status, view.build.commit_sha) == (BuildStatus.SUCCESS, git(tree, "rev-parse", "HEAD"))
    assert [(one.getMessage(), one.exc_info) for one in caplog.records] == [("the database is away", None)]
