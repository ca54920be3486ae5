"""A worker is killed in each phase of a workflow: the next one goes on in the same round, and repeats nothing."""

import asyncio
import signal
from pathlib import Path

import pytest

from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.workflow_plans import Developer
from tests.support.extras import need
from tests.support.faults import worker_pid
from tests.support.fix_loop import WAIT_S, agent, mend, story
from tests.support.git_tree import UserTree, begun
from tests.support.workers import end_worker

need("acp")
pytestmark = pytest.mark.timeout(90)

ROUND_1 = ["1 setup success", "1 build success", "1 test failed", "1 qa failed", "1 fix success"]
ROUND_2 = ["2 setup success", "2 build success", "2 test success", "2 qa success"]
PHASES = ("setup", "build", "test", "qa", "fix")


@pytest.fixture
def tree(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "project", tmp_path / "user")


def step(name: str, counted: Path) -> str:
    """Counts itself; the first time it waits until it may go on."""
    ran, go = counted / name, counted / f"{name}.go"
    return f"echo x >> {ran}; while [ ! -e {go} ]; do sleep 0.05; done"


@pytest.mark.parametrize("phase", ["setup", "build", "test", "fix"])
async def test_a_killed_worker_costs_no_round_and_repeats_no_stage(
    phase: str, orchestrator: Orchestrator, tree: UserTree, home: Path, tmp_path: Path
) -> None:
    """Issue: kill tests in every phase. Jobs run on and are found again, the agent's session among them."""
    counted = tmp_path / "counted"
    counted.mkdir()
    for name in PHASES:
        if name != phase:
            (counted / f"{name}.go").touch()
    agent(home, [("sh", step("fix", counted)), mend(1, 3)])
    project = str(tree.top)

    def stage(name: str, command: str, *after: str) -> StageSpec:
        params = {"command": f"{step(name, counted)}; {command}", "project": project, "workdir": project}
        return StageSpec(name=name, kind="command", params=params, depends_on=after, timeout_s=40)

    stages = [
        stage("setup", "true"),
        stage("build", "true", "setup"),
        stage("test", "grep 'return 3' main/main.c", "build"),
    ]
    quality = StageSpec(
        name="qa", kind="qa", params={"project": project}, depends_on=("test",), always=True, timeout_s=40
    )
    fix = Developer(agent="scripted", timeout_s=60).stage(project)
    plan = Plan(stages=(*stages, quality), fix=fix, max_rounds=3, workspace=project)
    started = await orchestrator.start_plan(tree.top, plan, name="loop")
    async with asyncio.timeout(30):
        while not (counted / phase).exists():  # noqa: ASYNC110 - a job tells nobody
            await asyncio.sleep(0.02)
    before = worker_pid(home)
    end_worker(home, signal.SIGKILL)
    (counted / f"{phase}.go").touch()
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert worker_pid(home) != before
    assert story(view) == [*ROUND_1, *ROUND_2]
    assert all(row.attempt == 1 for row in view.stages)
    assert view.build.status is BuildStatus.SUCCESS
    assert {name: len((counted / name).read_text().split()) for name in ("setup", "build", "test", "fix")} == {
        "setup": 2,
        "build": 2,
        "test": 2,
        "fix": 1,
    }
    assert tree.git("rev-list", "--count", "main..bo/fix-1") == "2"
