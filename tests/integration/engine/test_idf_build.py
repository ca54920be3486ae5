"""ESP-IDF builds through a worker, with the demo's simulated ESP-IDF and the machine's real compiler."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from mcp_server import plans
from mcp_server.config import load_config
from mcp_server.demo.place import SELF_TEST_PASSED, fix_patch, lay_out
from mcp_server.idf.diagnostics import render
from mcp_server.model import BuildStatus, Plan, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from mcp_server.workflow_plans import Developer
from tests.support.faults import processes_with
from tests.support.workers import end_everything

pytestmark = pytest.mark.worker_inside

WAIT_S = 40


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    """A fresh copy of the demo's firmware, its mistake included."""
    return lay_out(tmp_path / "firmware")


@pytest_asyncio.fixture
async def second(tmp_path: Path) -> AsyncIterator[Orchestrator]:
    """Another home, as of another user or another machine's container, on the same projects."""
    home = tmp_path / "second"
    orchestrator = Orchestrator(load_config({**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}))
    yield orchestrator
    await orchestrator.aclose()
    end_everything(home)


def mend(firmware: Path) -> None:
    subprocess.run(["patch", "-p1", "-s"], input=fix_patch(), text=True, cwd=firmware, check=True)


async def build(orchestrator: Orchestrator, project: Path, *, clean: bool = False) -> BuildView:
    started = await orchestrator.start_build(str(project), clean=clean)
    return await orchestrator.wait(started.build.id, WAIT_S)


async def test_a_mistake_is_named_then_mended_then_built_by_ninja(orchestrator: Orchestrator, firmware: Path) -> None:
    """Design: idf.py configures, ninja rebuilds; the first cause in a few lines."""
    red = await build(orchestrator, firmware)
    mend(firmware)
    green = await build(orchestrator, firmware)
    again = await build(orchestrator, firmware)

    assert (red.build.status, red.stages[0].exit_code) == (BuildStatus.FAILED, 2)
    verdict = red.stages[0].verdict
    assert verdict is not None
    assert verdict.diagnosis is not None
    text = render(verdict.diagnosis)
    assert "main/thermostat.c:8:9 error: implicit declaration of function 'valve_opne'" in text
    assert len(text.encode()) <= 700
    assert [view.build.status for view in (green, again)] == [BuildStatus.SUCCESS] * 2
    decided = [(view.stages[0].resolved or {})["why"] for view in (red, green, again)]
    assert [why.startswith("ninja: ") for why in decided] == [False, True, True], decided
    compiled = [row.verdict.details.get("compile") for view in (green, again) for row in view.stages if row.verdict]
    assert [one and [file["file"] for file in one["files"]] for one in compiled] == [["main/thermostat.c"], None]
    elf = next(artifact for artifact in green.artifacts if artifact.path == "greenhouse.elf")
    assert elf.size == (firmware / "build" / "greenhouse.elf").stat().st_size
    assert len(elf.sha256) == 64


async def test_one_build_goes_from_red_through_the_fix_to_a_passed_run(
    orchestrator: Orchestrator, firmware: Path
) -> None:
    """Design: rounds of the graph with a fix between them, each attempt a row of its own."""
    patch = firmware.parent / "fix.patch"
    patch.write_text(fix_patch())
    installation = await orchestrator.installation(firmware)
    plan = Plan(
        stages=(
            plans.idf_build(firmware, installation, timeout_s=60),
            plans.idf_run(firmware, expect=[SELF_TEST_PASSED], fail_on=["FAILED"], timeout_s=20),
        ),
        fix=Developer(agent=f"patch:{patch}").stage(str(firmware)),
        max_rounds=2,
        workspace=str(firmware),
    )

    started = await orchestrator.start_plan(firmware, plan, name="demo")
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert view.build.status is BuildStatus.SUCCESS
    assert [(stage.round, stage.stage, str(stage.status)) for stage in view.stages] == [
        (1, "build", "failed"),
        (1, "run", "skipped"),
        (1, "fix", "success"),
        (2, "build", "success"),
        (2, "run", "success"),
    ]
    assert view.build.round == 2
    assert SELF_TEST_PASSED in str(view.build.test_results)
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []  # the firmware itself would go on for ever


async def test_a_ninja_started_by_hand_is_waited_for(orchestrator: Orchestrator, firmware: Path) -> None:
    """Ours. Two ninjas in one build directory break each other's files."""
    mend(firmware)
    await build(orchestrator, firmware)
    gate, up = firmware / "gate", firmware / "up"
    os.mkfifo(gate)
    os.mkfifo(up)
    rules = f"rule wait\n  command = echo up >{up}; read x <{gate}\nbuild done: wait\n"
    (firmware / "build" / "by_hand.ninja").write_text(rules)
    ninja = shutil.which("ninja", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert ninja is not None
    by_hand = await asyncio.create_subprocess_exec(
        ninja, "-C", str(firmware / "build"), "-f", "by_hand.ninja", stdout=subprocess.DEVNULL
    )

    seen = asyncio.Event()

    async def look(view: BuildView) -> None:
        if any(stage.progress and "started by hand" in stage.progress.message for stage in view.stages):
            seen.set()

    with anyio.fail_after(WAIT_S):
        await anyio.Path(up).read_text()  # it works in the directory now
        started = await orchestrator.start_build(str(firmware))
        waiting = asyncio.create_task(orchestrator.wait(started.build.id, WAIT_S, look))
        await seen.wait()
        await anyio.Path(gate).write_text("go\n")
        await by_hand.wait()
        view = await waiting

    assert view.build.status is BuildStatus.SUCCESS


async def test_two_homes_never_build_one_directory_at_once(
    orchestrator: Orchestrator, second: Orchestrator, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Design: the job itself holds a kernel lock; the one that waited decides anew what is to be done."""
    mend(firmware)
    monkeypatch.setenv("IDF_DEMO_STEP_S", "0.3")
    views = await asyncio.gather(build(orchestrator, firmware), build(second, firmware))

    assert [view.build.status for view in views] == [BuildStatus.SUCCESS] * 2
    attempts = sorted(len(view.stages) for view in views)
    assert attempts in ([1, 1], [1, 2])  # 1, 1: they never met


async def test_a_hanging_idf_py_is_cancelled_to_its_last_child(
    orchestrator: Orchestrator, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. idf.py starts cmake, ninja and compilers; all must go."""
    monkeypatch.setenv("IDF_DEMO_HANG", "1")
    started = await orchestrator.start_build(str(firmware))
    running = asyncio.Event()

    async def look(view: BuildView) -> None:
        if any(stage.status is StageStatus.RUNNING for stage in view.stages):
            running.set()

    waiting = asyncio.create_task(orchestrator.wait(started.build.id, WAIT_S, look))
    with anyio.fail_after(WAIT_S):
        await running.wait()
        await orchestrator.cancel(started.build.id)
        view = await waiting

    assert view.build.status is BuildStatus.CANCELLED
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []


async def test_a_project_that_vanished_while_it_was_pending_fails_with_its_sentence(
    orchestrator: Orchestrator, firmware: Path
) -> None:
    """Ours. What was true when the build was asked for is looked at again when it starts."""
    started = await orchestrator.start_build(str(firmware))
    shutil.rmtree(firmware)
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert view.build.status is BuildStatus.FAILED
    assert view.build.reason in ("bad_input", "exit")  # exit: it had begun already
