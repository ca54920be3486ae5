"""What a workflow costs beside its stages, how its testers overlap, and the memory of twenty at once.

    python -m benchmarks.workflow [--runs 5] [--at-once 20]

The firmware is the demo's, mended, built by its simulated ESP-IDF; the board is a virtual chip. No agent takes part.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from mcp_server.agents import patch
from mcp_server.config import load_config
from mcp_server.demo.chip.client import VirtualChip
from mcp_server.demo.place import SELF_TEST_PASSED, fix_patch, lay_out
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from mcp_server.workflows import WorkflowAsk
from tests.support.faults import worker_pid
from tests.support.flashable import lay_out as lay_out_build
from tests.support.flashable import program
from tests.support.workers import end_worker
from tests.support.workflows import examined

OWN_LIMIT_S, OVERLAP_LIMIT, MEMORY_LIMIT_MB = 0.3, 0.95, 300
WAIT_S = 300


def seconds_of(view: BuildView, name: str) -> tuple[float, float]:
    """A stage's first and last moment."""
    row = next(row for row in view.stages if row.stage == name)
    assert row.started_at and row.ended_at, row
    return row.started_at.timestamp(), row.ended_at.timestamp()


def healthy(folder: Path) -> WorkflowAsk:
    project = lay_out(folder)
    patch.apply(fix_patch().encode(), project)
    return WorkflowAsk(str(project), expect=(SELF_TEST_PASSED,))


async def own_time(orchestrator: Orchestrator, ask: WorkflowAsk, runs: int) -> tuple[float, float]:
    """Median seconds of a whole workflow from the order to the verdict, and of what is not its stages'."""
    found: list[tuple[float, float]] = []
    for _ in range(runs + 1):
        began = time.monotonic()
        started = await orchestrator.workflows.run(ask)
        view = await orchestrator.wait(started.build.id, WAIT_S)
        took = time.monotonic() - began
        assert view.build.status is BuildStatus.SUCCESS, view
        length = {
            name: end - start
            for name in ("setup", "build", "qemu", "doctor", "qa")
            for start, end in [seconds_of(view, name)]
        }
        stages = length["setup"] + length["build"] + length["qemu"] + max(length["doctor"], length["qa"])
        found.append((took, took - stages))
    return median(took for took, _ in found[1:]), median(own for _, own in found[1:])  # the first starts the worker


async def overlap(orchestrator: Orchestrator, place: Path) -> float:
    """What part of the shorter of board and emulator the other was at work, too."""
    build_dir = lay_out_build(place / "door-lock" / "build", app=program(200_000))
    async with VirtualChip(place / "flash").running() as chip:
        view = await examined(orchestrator, build_dir, chip.port)
    assert view.build.status is BuildStatus.SUCCESS, view
    board, emulator = (seconds_of(view, "flash")[0], seconds_of(view, "boot")[1]), seconds_of(view, "qemu")
    shorter = min(board[1] - board[0], emulator[1] - emulator[0])
    return (min(board[1], emulator[1]) - max(board[0], emulator[0])) / shorter


def memory_mb(home: Path) -> float:
    """Of the worker and everything that supervises its jobs, shared pages counted once; not of the jobs themselves."""
    total = 0
    worker = worker_pid(home)
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.pid == worker or ("_supervise" in words and any(str(home) in word for word in words)):
                total += process.memory_full_info().pss or process.memory_info().rss  # some sandboxes tell no pss
        except psutil.Error:
            continue
    return total / 1e6


async def at_once(orchestrator: Orchestrator, home: Path, place: Path, count: int) -> tuple[float, float]:
    """The most memory of ours in MB while so many workflows are under way, and the seconds that they took."""
    asks = [healthy(place / f"greenhouse-{number}") for number in range(count)]
    began, most = time.monotonic(), 0.0
    started = [await orchestrator.workflows.run(ask) for ask in asks]
    waiting = [asyncio.create_task(orchestrator.wait(one.build.id, WAIT_S)) for one in started]
    while not all(task.done() for task in waiting):
        most = max(most, await asyncio.to_thread(memory_mb, home))
        await asyncio.sleep(0.5)
    views = [task.result() for task in waiting]
    assert all(view.build.status is BuildStatus.SUCCESS for view in views), [view.build.status for view in views]
    return most, time.monotonic() - began


async def run(runs: int, count: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="bo-workflow-") as folder:
        place = Path(folder)
        (home := place / "home").mkdir()
        orchestrator = Orchestrator(load_config({**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}))
        try:
            took, own = await own_time(orchestrator, healthy(place / "greenhouse"), runs)
            print(f"a workflow: {took:.2f} s, {own:.3f} s of it not its stages' (limit {OWN_LIMIT_S})", flush=True)
            shared = await overlap(orchestrator, place)
            print(
                f"testers overlap for {100 * shared:.1f} % of the shorter (limit {100 * OVERLAP_LIMIT:.0f})", flush=True
            )
            most, all_s = await at_once(orchestrator, home, place, count)
            print(f"{count} at once: {most:.0f} MB of ours (limit {MEMORY_LIMIT_MB}), {all_s:.1f} s")
        finally:
            await orchestrator.aclose()
            end_worker(home)
    return own <= OWN_LIMIT_S and shared >= OVERLAP_LIMIT and most <= MEMORY_LIMIT_MB


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=20)
    given = parser.parse_args()
    return 0 if asyncio.run(run(given.runs, given.at_once)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
