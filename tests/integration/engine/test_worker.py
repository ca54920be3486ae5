"""Builds through a worker: order, limits, ends; and through its process: what happens when that goes."""

import asyncio
import os
import signal
from pathlib import Path

import anyio
import pytest

from mcp_server.engine import start
from mcp_server.errors import Conflict, NotFound, WorkerFailed
from mcp_server.model import BuildStatus, Plan, StageSpec, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from tests.support.faults import processes_with
from tests.support.workers import end_worker, something_open

WAIT_S = 30


def shell(folder: Path, script: str, *, directory: Path | None = None, timeout_s: float = 600) -> Plan:
    """A build of one stage that runs a shell script."""
    params = {"argv": ["sh", "-c", script], "project": str(folder)}
    place = str(directory) if directory else None
    return Plan(stages=(StageSpec(name="build", kind="command", params=params, directory=place, timeout_s=timeout_s),))


async def until_running(orchestrator: Orchestrator, build: int) -> BuildView:
    """The build once its first stage's job was started."""
    started = asyncio.Event()

    async def look(view: BuildView) -> None:
        if any(stage.status is StageStatus.RUNNING for stage in view.stages):
            started.set()

    waiting = asyncio.create_task(orchestrator.wait(build, WAIT_S, look))
    with anyio.fail_after(WAIT_S):
        await started.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    return await orchestrator.get(build)


@pytest.mark.worker_inside
async def test_a_build_ends_with_the_exit_code_of_its_job(orchestrator: Orchestrator, folder: Path) -> None:
    """Design. Never infer success."""
    good = await orchestrator.start_plan(folder, shell(folder, "echo error: all is well"), name="good")
    bad = await orchestrator.start_plan(folder, shell(folder, "echo SUCCESS; exit 7"), name="bad")

    green = await orchestrator.wait(good.build.id, WAIT_S)
    red = await orchestrator.wait(bad.build.id, WAIT_S)

    assert (green.build.status, green.stages[0].exit_code) == (BuildStatus.SUCCESS, 0)
    assert (red.build.status, red.build.reason, red.stages[0].exit_code) == (BuildStatus.FAILED, "exit", 7)
    assert "SUCCESS" in (red.build.build_output or "")


@pytest.mark.worker_inside
async def test_two_builds_of_one_directory_queue_up(orchestrator: Orchestrator, folder: Path) -> None:
    """Design: the lease. The second starts when the first is over, and says meanwhile what it waits for."""
    gate = folder / "gate"
    os.mkfifo(gate)
    first = await orchestrator.start_plan(
        folder, shell(folder, f"read x <{gate}", directory=folder / "build"), name="first"
    )
    await until_running(orchestrator, first.build.id)
    second = await orchestrator.start_plan(folder, shell(folder, "true", directory=folder / "build"), name="second")
    third = await orchestrator.start_plan(folder, shell(folder, "true", directory=folder / "other"), name="third")

    beside = await orchestrator.wait(third.build.id, WAIT_S)
    waiting = await orchestrator.get(second.build.id)
    await anyio.Path(gate).write_text("go\n")
    after = await orchestrator.wait(second.build.id, WAIT_S)

    assert beside.build.status is BuildStatus.SUCCESS
    assert waiting.build.status is BuildStatus.PENDING
    assert [lease.build for lease in waiting.blocked_by] == [first.build.id]
    assert after.build.status is BuildStatus.SUCCESS


@pytest.mark.worker_inside
async def test_a_cancel_ends_every_child_within_two_seconds(
    orchestrator: Orchestrator, folder: Path, ready: anyio.Path
) -> None:
    """Design. Also children that ignore TERM or left the session."""
    script = "(trap '' TERM; while :; do sleep 1; done) & setsid sleep 600 & echo >ready; wait"
    started = await orchestrator.start_plan(folder, shell(folder, script), name="stubborn")
    await ready.read_bytes()

    began = orchestrator.clock.monotonic()
    await orchestrator.cancel(started.build.id)
    view = await orchestrator.wait(started.build.id, WAIT_S)
    took = orchestrator.clock.monotonic() - began

    assert (view.build.status, view.stages[0].status) == (BuildStatus.CANCELLED, StageStatus.CANCELLED)
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []
    assert took < 2
    with pytest.raises(Conflict, match="over already"):
        await orchestrator.cancel(started.build.id)


@pytest.mark.worker_inside
async def test_a_pending_build_is_cancelled_without_ever_running(orchestrator: Orchestrator, folder: Path) -> None:
    """Ours."""
    script = "touch ran; sleep 600"
    first = await orchestrator.start_plan(folder, shell(folder, script, directory=folder / "build"), name="first")
    await until_running(orchestrator, first.build.id)
    script = "touch never"
    second = await orchestrator.start_plan(folder, shell(folder, script, directory=folder / "build"), name="second")

    await orchestrator.cancel(second.build.id)
    view = await orchestrator.wait(second.build.id, WAIT_S)
    await orchestrator.cancel(first.build.id)
    await orchestrator.wait(first.build.id, WAIT_S)

    assert view.build.status is BuildStatus.CANCELLED
    assert not (folder / "never").exists()


@pytest.mark.worker_inside
async def test_a_time_limit_is_a_reason_of_its_own(orchestrator: Orchestrator, folder: Path) -> None:
    """Interfaces: reason `timeout`."""
    started = await orchestrator.start_plan(folder, shell(folder, "sleep 600", timeout_s=0.3), name="slow")

    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "timeout")
    assert view.stages[0].verdict is not None
    assert view.stages[0].verdict.result == "timeout"


@pytest.mark.worker_inside
async def test_a_job_whose_supervisor_was_killed_is_lost_and_its_children_are_ended(
    orchestrator: Orchestrator, folder: Path, ready: anyio.Path
) -> None:
    """Design. `lost` is an answer, and never shown as running."""
    started = await orchestrator.start_plan(folder, shell(folder, "echo >ready; sleep 600"), name="x")
    await ready.read_bytes()
    (spec,) = (orchestrator.config.jobs_dir).glob("*/*/spec")
    os.kill(int(spec.read_text().split()[1]), signal.SIGKILL)

    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "lost")
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []


async def test_a_job_whose_record_vanished_is_lost_and_not_run_again(
    orchestrator: Orchestrator, folder: Path, home: Path
) -> None:
    """Ours. A replaced pod looks like this: to start the attempt anew would flash, or deploy, twice."""
    started = await orchestrator.start_plan(folder, shell(folder, "echo run >>ran; sleep 1"), name="x")
    with anyio.fail_after(WAIT_S):
        while not any((row.resolved or {}).get("started") for row in (await orchestrator.get(started.build.id)).stages):
            await orchestrator.wait(started.build.id, 0.1)
    end_worker(home, signal.SIGKILL)
    (record,) = (home / "jobs").glob("*/*-build-1-1")
    record.rename(home / "elsewhere")
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "lost")
    assert (folder / "ran").read_text() == "run\n"
    end_worker(home)
    with anyio.fail_after(5):  # its supervisor, and the timer of the whole time limit, end with the command
        while processes_with(str(home / "jobs")):  # noqa: ASYNC110  # a process that is not ours tells nobody
            await anyio.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_job_outlives_its_worker_and_the_next_one_takes_it_up(
    orchestrator: Orchestrator, folder: Path, ready: anyio.Path, home: Path, how: signal.Signals
) -> None:
    """Design. The job is started once and its whole log is there."""
    gate = folder / "gate"
    os.mkfifo(gate)
    script = f"echo x >>count; echo before; echo >ready; read x <{gate}; echo after; exit 5"
    started = await orchestrator.start_plan(folder, shell(folder, script), name="x")
    await ready.read_bytes()
    end_worker(home, how)

    orphaned = await orchestrator.get(started.build.id)
    await anyio.Path(gate).write_text("go\n")
    view = await orchestrator.wait(started.build.id, WAIT_S)
    log = await orchestrator.log(started.build.id)

    assert orphaned.build.status is BuildStatus.RUNNING
    assert (view.build.status, view.stages[0].exit_code) == (BuildStatus.FAILED, 5)
    assert (folder / "count").read_text() == "x\n"
    assert log.text == "before\nafter"


async def test_whoever_looks_at_an_open_build_brings_the_worker_back(
    orchestrator: Orchestrator, folder: Path, ready: anyio.Path, home: Path
) -> None:
    """Ours. A build whose worker was killed must not read `running` for ever; its duration is the job's own."""
    os.mkfifo(folder / "over")
    started = await orchestrator.start_plan(folder, shell(folder, "echo >ready; echo >over"), name="x")
    await ready.read_bytes()
    end_worker(home, signal.SIGKILL)
    await anyio.Path(folder / "over").read_bytes()
    await orchestrator.host("local").wait((await orchestrator._view(started.build.id)).stages[0].job_id or "")

    await orchestrator.list()
    async with orchestrator.changes() as changed:
        with anyio.fail_after(WAIT_S):
            while (view := await orchestrator._view(started.build.id)).build.status.is_open:
                await changed.wait()

    ended = await orchestrator.host("local").status(view.stages[0].job_id or "")
    assert ended.exit is not None
    assert ended.exit.ended_at is not None
    assert view.build.completed_at is not None
    assert view.build.completed_at.timestamp() == pytest.approx(ended.exit.ended_at)


async def test_a_worker_that_cannot_start_is_not_started_for_ever(
    orchestrator: Orchestrator, folder: Path, home: Path
) -> None:
    """Ours. Its last words are what the user needs; the build stays pending and loses nothing."""
    await something_open(orchestrator)
    (home / "config.yaml").write_text("defaults: {parallel_limit: many}\n")
    with pytest.raises(WorkerFailed, match="parallel_limit"):
        for _ in range(10):
            await orchestrator.poke()
            for child, _ in start._started:
                await asyncio.to_thread(child.wait)


@pytest.mark.worker_inside
async def test_a_slow_git_does_not_hold_up_a_build(
    orchestrator: Orchestrator, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. What is built matters more than under which name."""
    (tmp_path / "git").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    started = await orchestrator.start_plan(folder, shell(folder, "true"), name="x")
    began = orchestrator.clock.monotonic()
    view = await orchestrator.wait(started.build.id, WAIT_S)

    assert view.build.status is BuildStatus.SUCCESS
    assert orchestrator.clock.monotonic() - began < 20  # git would have taken 60


@pytest.mark.worker_inside
async def test_a_job_directory_of_another_build_is_never_joined(
    orchestrator: Orchestrator, folder: Path, home: Path
) -> None:
    """Design. A database that was restored from a copy gives numbers out again; the old job's record stays."""
    started = await orchestrator.start_plan(folder, shell(folder, "echo mine"), name="x")
    done = await orchestrator.wait(started.build.id, WAIT_S)
    (machine,) = [path for path in (home / "jobs").iterdir() if path.is_dir() and not path.name.startswith(".")]
    job = done.stages[0].job_id or ""
    (machine / job).rename(machine / job.replace("-1-build-", "-2-build-"))

    second = await orchestrator.start_plan(folder, shell(folder, "echo other"), name="x")
    view = await orchestrator.wait(second.build.id, WAIT_S)

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "job_conflict")


@pytest.mark.worker_inside
async def test_stages_run_in_the_order_of_their_graph_and_a_failure_skips_what_follows(
    orchestrator: Orchestrator, folder: Path
) -> None:
    """Design: the stage graph."""

    def stage(name: str, script: str, *needs: str) -> StageSpec:
        params = {"argv": ["sh", "-c", script], "project": str(folder)}
        return StageSpec(name=name, kind="command", params=params, depends_on=needs)

    plan = Plan(
        stages=(
            stage("last", "echo last >>order", "left", "right"),
            stage("left", "echo left >>order; exit 1", "first"),
            stage("right", "echo right >>order", "first"),
            stage("first", "echo first >>order"),
        )
    )
    started = await orchestrator.start_plan(folder, plan, name="graph")
    view = await orchestrator.wait(started.build.id, WAIT_S)

    order = (folder / "order").read_text().split()
    assert (order[0], sorted(order[1:])) == ("first", ["left", "right"])
    assert {stage.stage: str(stage.status) for stage in view.stages} == {
        "first": "success",
        "left": "failed",
        "right": "success",
        "last": "skipped",
    }


@pytest.mark.worker_inside
async def test_a_retry_is_a_new_build_of_what_did_not_pass(orchestrator: Orchestrator, folder: Path) -> None:
    """Interfaces. Nothing is overwritten: the old record stays as it was."""
    started = await orchestrator.start_plan(folder, shell(folder, "test -e mended"), name="x")
    failed = await orchestrator.wait(started.build.id, WAIT_S)
    (folder / "mended").touch()

    again = await orchestrator.retry(started.build.id)
    view = await orchestrator.wait(again.build.id, WAIT_S)

    assert (view.build.status, view.build.retry_of) == (BuildStatus.SUCCESS, started.build.id)
    assert (await orchestrator.get(started.build.id)).build == failed.build
    with pytest.raises(Conflict, match="only a failed or cancelled build"):
        await orchestrator.retry(view.build.id)
    with pytest.raises(NotFound, match="no build 999"):
        await orchestrator.retry(999)


@pytest.mark.worker_inside
async def test_output_that_is_no_text_is_kept_byte_for_byte(orchestrator: Orchestrator, folder: Path) -> None:
    """Ours. NUL and broken UTF-8 must not break the record."""
    started = await orchestrator.start_plan(folder, shell(folder, r"printf 'a\000\377\n'; exit 1"), name="x")
    view = await orchestrator.wait(started.build.id, WAIT_S)
    raw = await orchestrator.host("local").read_log(view.stages[0].job_id or "", 0)

    assert raw == b"a\x00\xff\n"
    assert "�" in (view.build.build_output or "")
