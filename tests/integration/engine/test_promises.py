"""The six promises that the seeds' original makes and breaks, each kept."""

import asyncio
import signal
from pathlib import Path

import pytest

from mcp_server.demo.chip.client import VirtualChip
from mcp_server.model import BuildStatus, Plan, StageStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.faults import kill_jobs
from tests.support.fix_loop import WAIT_S, diff, fix_of, plan, run
from tests.support.flashable import lay_out, program
from tests.support.git_tree import UserTree, begun
from tests.support.workers import end_worker
from tests.support.workflows import examined

pytestmark = pytest.mark.timeout(60)
inside = pytest.mark.worker_inside


@pytest.fixture
def tree(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "project", tmp_path / "user")


def only(plan_: Plan, command: str) -> Plan:
    """The plan with another command and nobody who mends."""
    (stage,) = plan_.stages
    changed = stage.model_copy(update={"params": {**stage.params, "command": command}})
    return plan_.model_copy(update={"stages": (changed,), "fix": None, "workspace": None})


@inside
async def test_1_success_is_reported(orchestrator: Orchestrator, tree: UserTree) -> None:
    """There every build that is kept ends `failed`."""
    view = await run(orchestrator, tree, only(plan(tree.top), "echo there was no error"))

    assert view.build.status is BuildStatus.SUCCESS
    (completed,) = [e for e in await orchestrator.newest_events(view.build.id, 99) if e.type == "workflow.completed"]
    assert completed.data["success"] is True


@inside
async def test_2_a_failing_build_is_never_flashed(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """There the old image is flashed, and runs, and passes."""
    built = lay_out(tmp_path / "door-lock" / "build", app=program(60_000))
    async with VirtualChip(tmp_path / "flash").running() as chip:
        view = await examined(orchestrator, built, chip.port, "exit 1")
        assert set(chip.flash) == {0xFF}

    assert view.build.status is BuildStatus.FAILED
    assert {row.status for row in view.stages if row.stage in ("flash", "boot")} == {StageStatus.SKIPPED}


@inside
async def test_3_the_fixer_is_reached_and_can_apply(orchestrator: Orchestrator, tree: UserTree, tmp_path: Path) -> None:
    """There no issue has a file, so that nothing can ever be mended."""
    diff(tmp_path / "diffs", "1.diff", 1, 3)
    view = await run(orchestrator, tree, plan(tree.top, agent=f"patch:{tmp_path / 'diffs'}"))

    assert view.build.status is BuildStatus.SUCCESS
    assert fix_of(view)["files_changed"] == ["main/main.c"]
    assert await orchestrator.workflows.apply(view.build.id) == ("main/main.c",)


@inside
async def test_4_testers_are_parallel(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """There they wait for each other in one event loop."""
    built = lay_out(tmp_path / "door-lock" / "build", app=program(60_000))
    async with VirtualChip(tmp_path / "flash").running() as chip:
        view = await examined(orchestrator, built, chip.port)

    rows = {row.stage: row for row in view.stages}
    flash, emulator = rows["flash"], rows["qemu"]
    assert flash.started_at and flash.ended_at and emulator.started_at and emulator.ended_at
    assert flash.started_at < emulator.ended_at and emulator.started_at < flash.ended_at


@inside
@pytest.mark.parametrize(
    ("said", "code", "status"),
    [("0 errors, error.c compiled", 0, BuildStatus.SUCCESS), ("Hello World, build complete", 1, BuildStatus.FAILED)],
)
async def test_5_no_text_is_taken_for_success_or_failure(
    orchestrator: Orchestrator, tree: UserTree, said: str, code: int, status: BuildStatus
) -> None:
    """There a build passes if its text has no "error", and a test if it has "Hello World"."""
    view = await run(orchestrator, tree, only(plan(tree.top), f"echo '{said}'; exit {code}"))

    assert view.build.status is status


async def test_6_nothing_stays_running_after_a_restart(orchestrator: Orchestrator, tree: UserTree, home: Path) -> None:
    """There what ran in the dead process says `running` for ever."""
    started = await orchestrator.start_plan(
        tree.top, only(plan(tree.top), f"touch {home}/up; exec sleep 60"), name="loop"
    )
    async with asyncio.timeout(20):
        while not (home / "up").exists():  # noqa: ASYNC110 - a job tells nobody
            await asyncio.sleep(0.02)
    end_worker(home, signal.SIGKILL)
    kill_jobs(home)
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert view.build.status is BuildStatus.FAILED
    assert all(not row.status.is_open for row in view.stages)
    assert view.stages[-1].reason == "lost"


@inside
async def test_and_a_retry_keeps_the_old_record(orchestrator: Orchestrator, tree: UserTree) -> None:
    """There a retry writes over it."""
    first = await run(orchestrator, tree, only(plan(tree.top), "exit 3"))
    started = await orchestrator.retry(first.build.id)
    again = await orchestrator.wait(started.build.id, WAIT_S)
    old = await orchestrator.get(first.build.id)

    assert again.build.retry_of == first.build.id != again.build.id
    assert (old.build.status, old.stages, old.build.completed_at) == (
        first.build.status,
        first.stages,
        first.build.completed_at,
    )
