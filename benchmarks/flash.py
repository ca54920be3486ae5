"""Times flashes through the worker against bare esptool, on the virtual chip.

    python -m benchmarks.flash [--runs 2] [--kilobytes 400] [--bits 460800]

Both write the same images to the same chip, by turns. `--bits` is what the line carries: a real board's 460,800 bit/s,
0 as fast as it goes. Ours ends when the verdict is there, and has hashed, leased, locked, logged and stored by then.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mcp_server.config import load_config
from mcp_server.demo.chip.client import VirtualChip
from mcp_server.idf.flash import plan_flash
from mcp_server.model import Artifact, BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from tests.support.flashable import lay_out, program, recorded
from tests.support.workers import end_everything

MOST = 0.05


async def bare(build_dir: Path, artifacts: list[Artifact], port: str) -> float:
    """Seconds of `python -m esptool`, with the same words."""
    words = (await asyncio.to_thread(plan_flash, build_dir, artifacts)).command(port)
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "esptool", *words, cwd=build_dir, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise SystemExit("bare esptool failed")
    return time.perf_counter() - began


async def ours(orchestrator: Orchestrator, build_dir: Path, artifacts: list[Artifact], port: str) -> float:
    """Seconds from the request to the verdict."""
    images = [artifact.model_dump(mode="json") for artifact in artifacts]
    params = {"project": str(build_dir.parent), "build_dir": str(build_dir), "port": port, "images": images}
    plan = Plan(stages=(StageSpec(name="flash", kind="idf.flash", params=params, timeout_s=300),))
    began = time.perf_counter()
    started = await orchestrator.start_plan(build_dir.parent, plan, name="flash", agreed=True)
    view = await orchestrator.wait(started.build.id, 300)
    if view.build.status is not BuildStatus.SUCCESS:
        raise SystemExit(f"our flash failed: {view.stages[-1].verdict}")
    return time.perf_counter() - began


async def measure(folder: Path, runs: int, kilobytes: int, bits: int) -> int:
    build_dir = lay_out(folder / "project" / "build", app=program(kilobytes << 10))
    artifacts = list(await recorded(build_dir))
    home = folder / "home"
    orchestrator = Orchestrator(load_config({**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}))
    faults = (f"slow={bits}",) if bits else ()
    times: list[tuple[float, float]] = []
    try:
        async with VirtualChip(folder / "flash", faults=faults).running() as chip:
            await ours(orchestrator, build_dir, artifacts, chip.port)  # starts the worker
            for _ in range(runs):
                alone = await bare(build_dir, artifacts, chip.port)
                times.append((alone, await ours(orchestrator, build_dir, artifacts, chip.port)))
    finally:
        await orchestrator.aclose()
        end_everything(home)
    alone, whole = (statistics.median(column) for column in zip(*times, strict=True))
    added = whole / alone - 1
    print(f"| {kilobytes} kB at {bits or 'any'} bit/s | {alone:.2f} s | {whole:.2f} s | {added:+.1%} |")
    return int(bool(bits) and added > MOST)


def main() -> int:
    """Prints one row: what was flashed, esptool alone, through the worker, what that adds (at most 5 %)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--kilobytes", type=int, default=400)
    parser.add_argument("--bits", type=int, default=460_800)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flash-") as folder:
        return asyncio.run(measure(Path(folder), options.runs, options.kilobytes, options.bits))


if __name__ == "__main__":
    sys.exit(main())
