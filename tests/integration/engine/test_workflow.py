"""The workflow through a worker: the demo's firmware by its real plan, boards by a virtual chip, who does what when."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mcp_server import workflow_plans
from mcp_server.demo.chip.client import VirtualChip
from mcp_server.demo.place import fix_patch, lay_out
from mcp_server.device_plans import Firmware
from mcp_server.model import BuildStatus, Stage, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from mcp_server.workflow_plans import Board
from mcp_server.workflows import WorkflowAsk
from tests.support.flashable import lay_out as lay_out_build
from tests.support.flashable import program
from tests.support.git_tree import UserTree
from tests.support.workflows import WAIT_S, examined, shell, workflow

pytestmark = [pytest.mark.worker_inside, pytest.mark.timeout(60)]

PASSED = ("SELF TEST PASSED",)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo's firmware with its mistake, in a repository, and the diff that mends it beside it."""
    project = lay_out(tmp_path / "greenhouse")
    tree = UserTree(project, tmp_path / "user")
    tree.git("init", "-q", "-b", "main")
    tree.commit("as it is")
    (tmp_path / "fix.diff").write_text(fix_patch())
    return project


async def run(orchestrator: Orchestrator, ask: WorkflowAsk) -> BuildView:
    started = await orchestrator.workflows.run(ask)
    return await orchestrator.wait(started.build.id, WAIT_S)


async def events(orchestrator: Orchestrator, build: int, kind: str) -> Sequence[dict[str, Any]]:
    return [dict(one.data) for one in await orchestrator.newest_events(build, 500) if one.type == kind]


def row(view: BuildView, name: str, round_: int = 1) -> Stage:
    return next(row for row in view.stages if (row.stage, row.round) == (name, round_))


async def test_broken_firmware_is_mended_run_and_committed_and_the_record_tells_who_did_what(
    orchestrator: Orchestrator, demo: Path, tmp_path: Path
) -> None:
    """Issue and seed: five phases, roles, two rounds; events with the seed's keys; the copy is configured as it was."""
    ask = WorkflowAsk(str(demo), agent=f"patch:{tmp_path / 'fix.diff'}", flash=True, expect=PASSED)
    view = await run(orchestrator, ask)

    assert (view.build.status, view.build.round) == (BuildStatus.SUCCESS, 2)
    in_round_2 = {row.stage: str(row.status) for row in view.stages if row.round == 2}
    names = ("setup", "build", "flash", "boot", "qemu", "doctor", "qa")
    assert in_round_2 == dict.fromkeys(names, "success") | {"flash": "skipped", "boot": "skipped"}
    built = [row(view, "build", number) for number in (1, 2)]
    hashes = [one.verdict.details["sdkconfig_sha256"] for one in built if one.verdict]
    assert len(hashes) == 2 and hashes[0] == hashes[1]
    fix = row(view, "fix")
    assert fix.resolved and built[1].resolved
    assert built[1].resolved["build_dir"] == fix.resolved["folder"] + "/build"
    assert "valve_opne" in (demo / "main/thermostat.c").read_text()
    tree = UserTree(demo, tmp_path / "user")
    assert "valve_open()" in tree.git("show", "bo/fix-1:main/thermostat.c")
    assert tree.git("status", "--porcelain", "--untracked-files=no") == ""

    told = await events(orchestrator, view.build.id, "agent.status")
    assert all({"job_id", "agent", "status", "task"} <= one.keys() for one in told)
    assert {one["agent"] for one in told} == set(workflow_plans.ROLES)
    assert {one["status"] for one in told} == {"idle", "working", "completed", "error"}
    wrong = next(one for one in told if (one["agent"], one["status"]) == ("BUILDER", "error"))
    assert wrong["task"].startswith("build: main/thermostat.c:8 ") and "valve_opne" in wrong["task"]
    idle = [one["task"] for one in told if one["status"] == "idle" and one["round"] == 2]
    assert idle == [f"{name}: firmware for the linux target runs on no board" for name in ("flash", "boot")]
    (started,) = await events(orchestrator, view.build.id, "workflow.started")
    assert started.keys() >= {"job_id", "project_path", "timestamp"}
    (completed,) = await events(orchestrator, view.build.id, "workflow.completed")
    assert completed.keys() >= {"job_id", "success", "duration", "result"} and completed["success"] is True


async def test_an_sdkconfig_that_was_changed_since_is_refused(
    orchestrator: Orchestrator, demo: Path, tmp_path: Path
) -> None:
    """Issue: its hash must equal the failed build's, else what is mended is not what failed."""
    failed = await orchestrator.start_build(str(demo))
    await orchestrator.wait(failed.build.id, WAIT_S)
    with (demo / "sdkconfig").open("a") as file:
        file.write("CONFIG_MORE=y\n")
    started = await orchestrator.workflows.fix(failed.build.id, agent=f"patch:{tmp_path / 'fix.diff'}")
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert (view.build.status, [row.stage for row in view.stages]) == (BuildStatus.FAILED, ["fix"])
    assert view.stages[0].verdict
    assert view.stages[0].verdict.summary.startswith("sdkconfig has changed since build 1 failed: build again")


async def test_no_board_and_no_emulator_are_said_and_hold_nobody_up(orchestrator: Orchestrator, folder: Path) -> None:
    """Issue: skip rules, said in the record; the build may still pass."""
    tests = workflow_plans.Tests(Board(skip="no board is connected"), emulator="no emulator for esp32c3 is installed")
    plan = workflow(shell("build", "true", folder), Firmware(str(folder), str(folder / "build"), "esp32c3"), tests)
    started = await orchestrator.start_plan(folder, plan, name="workflow", agreed=True)
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert view.build.status is BuildStatus.SUCCESS
    skipped = {one.stage: one.reason for one in view.stages if one.status is StageStatus.SKIPPED}
    assert skipped == dict.fromkeys(("flash", "boot", "qemu"), "when")
    told = await events(orchestrator, view.build.id, "agent.status")
    assert [one["task"] for one in told if one["status"] == "idle"] == [
        "flash: no board is connected",
        "boot: no board is connected",
        "qemu: no emulator for esp32c3 is installed",
    ]


@pytest.fixture
def flashable(tmp_path: Path) -> Path:
    return lay_out_build(tmp_path / "door-lock" / "build", app=program(200_000))


async def test_the_testers_work_at_the_same_time(orchestrator: Orchestrator, flashable: Path, tmp_path: Path) -> None:
    """Issue: flash ∥ emulator, 95 % of the shorter; the doctor and quality after both, at the same time, too."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        view = await examined(orchestrator, flashable, chip.port)

    assert view.build.status is BuildStatus.SUCCESS, [(one.stage, one.verdict) for one in view.stages]
    rows = {one.stage: one for one in view.stages}
    times = {name: (one.started_at, one.ended_at) for name, one in rows.items() if one.started_at and one.ended_at}
    board, emulator = (times["flash"][0], times["boot"][1]), times["qemu"]
    shorter = min((end - start).total_seconds() for start, end in (board, emulator))
    overlap = (min(board[1], emulator[1]) - max(board[0], emulator[0])).total_seconds()
    assert overlap >= 0.95 * shorter
    doctor, quality = times["doctor"], times["qa"]
    assert doctor[0] < quality[1] and quality[0] < doctor[1]
    assert min(doctor[0], quality[0]) >= max(board[1], emulator[1])


async def test_after_a_failed_build_nothing_is_flashed_and_it_is_examined_all_the_same(
    orchestrator: Orchestrator, flashable: Path, tmp_path: Path
) -> None:
    """Issue: doctor and quality always; a firmware that was not built is never run."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        view = await examined(orchestrator, flashable, chip.port, "echo 'main/a.c:1:2: error: no b'; exit 1")
        assert set(chip.flash) == {0xFF}

    assert view.build.status is BuildStatus.FAILED
    assert {one.stage: str(one.status) for one in view.stages} == {
        "build": "failed",
        "flash": "skipped",
        "boot": "skipped",
        "qemu": "skipped",
        "doctor": str(row(view, "doctor").status),
        "qa": "failed",
    }
    assert row(view, "doctor").ended_at is not None
    verdict = row(view, "qa").verdict
    assert verdict and verdict.details["issues"][0]["file"] == "main/a.c"
