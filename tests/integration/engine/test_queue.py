"""The queue with real jobs: limits while builds run, turns between projects, a cancel of what waits."""

import asyncio
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator

pytestmark = [pytest.mark.timeout(60), pytest.mark.worker_inside]


async def started(orchestrator: Orchestrator, folder: Path, text: str) -> int:
    folder.mkdir(exist_ok=True)
    stage = StageSpec(name="build", kind="command", params={"project": str(folder), "command": text})
    return (await orchestrator.start_plan(folder, Plan(stages=(stage,)), name="b")).build.id


async def test_builds_run_within_the_limits_and_by_turns(
    orchestrator: Orchestrator, home: Path, tmp_path: Path, ready: anyio.Path
) -> None:
    """Issue: limits global, per project and per host, fairness; what waits tells its place, and can be cancelled."""
    (home / "config.yaml").write_text("queue: {builds: 2, per_project: 1}\nservers: {local: {slots: 2}}\n")
    await orchestrator.refresh()
    gate = tmp_path / "gate"
    held = await started(orchestrator, tmp_path / "a", f"echo > {ready}; until [ -e {gate} ]; do sleep 0.05; done")
    with anyio.fail_after(30):
        await ready.read_bytes()
    mine = [await started(orchestrator, tmp_path / "a", f"true {number}") for number in range(4)]
    doomed = await started(orchestrator, tmp_path / "a", "true doomed")
    other = await started(orchestrator, tmp_path / "b", "true other")
    async with asyncio.timeout(40):
        assert (await orchestrator.wait(other, 30)).build.status is BuildStatus.SUCCESS  # past five of the other's
        view = await orchestrator.get(mine[1])
        assert view.queue is not None
        while view.queue.of > 5:  # on a slow machine a picture of a moment ago is shown
            await asyncio.sleep(0.1)
            view = await orchestrator.get(mine[1])
            assert view.queue is not None
        assert (view.queue.position, view.queue.of, view.queue.expected_start) == (2, 5, None)
        assert view.queue.reason == "project a has 1 of 1 builds running"
        await orchestrator.cancel(doomed)
        assert (await orchestrator.wait(doomed, 30)).build.status is BuildStatus.CANCELLED
        assert (await orchestrator.get(held)).build.status is BuildStatus.RUNNING
        gate.touch()
        views = [await orchestrator.wait(number, 30) for number in (held, *mine)]
    spans = [(view.build.started_at, view.build.completed_at) for view in views]
    known: list[tuple[datetime, datetime]] = [(begin, end) for begin, end in spans if begin and end]
    assert [view.build.status for view in views] == [BuildStatus.SUCCESS] * 5
    assert len(known) == 5 and all(end <= begin for (_, end), (begin, _) in pairwise(known))
