"""Times builds through the MCP server against bare idf.py and ninja, alternately, in one run.

    python benchmarks/build.py [--project DIR] [--runs N] [--markdown]

Without --project the demo's firmware is built, by a real ESP-IDF if one is found, else by the simulated one. Each
figure is a median; ours runs from the tool call to the verdict with a warm worker.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcp import Client, StdioServerParameters

from mcp_server.agents.patch import apply
from mcp_server.clock import SystemClock
from mcp_server.config import Config, load_config
from mcp_server.demo.place import fix_patch, lay_out
from mcp_server.engine.start import lock_holder
from mcp_server.idf.activation import activate
from mcp_server.idf.environment import job_environment
from mcp_server.model import Plan, StageSpec
from mcp_server.orchestrator import Orchestrator

IDLE_S = 15


class Bench:
    """One project, one home, one server."""

    def __init__(self, config: Config, orchestrator: Orchestrator, client: Client, project: Path, runs: int) -> None:
        self.config, self.orchestrator, self.client = config, orchestrator, client
        self.project, self.runs = project, runs
        self.rows: list[tuple[str, str, str, str]] = []

    async def prepare(self) -> None:
        installation = await self.orchestrator.installation(self.project)
        activated = await activate(installation, self.config.home / "cache", os.environ)
        self.env = job_environment(activated, os.environ)
        self.idf_py = [str(installation.python), str(installation.idf_py), "build"]
        self.ninja = [str(shutil.which("ninja", path=self.env["PATH"])), "-C", "build", "all"]
        self.source = next(self.project.glob("main/*.c"))

    async def ours(self) -> float:
        """Seconds from the tool call to the verdict."""
        began = time.perf_counter()
        result = await self.client.call_tool("idf_build", {"project": str(self.project), "wait_s": 55})
        took = time.perf_counter() - began
        assert not result.is_error, result.content
        return took

    async def bare(self, command: list[str]) -> float:
        """Seconds of a bare command, output thrown away."""
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.project, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert await process.wait() == 0
        return time.perf_counter() - began

    async def compare(
        self, name: str, command: list[str], before: Callable[[], None], limit: Callable[[float], float], said: str
    ) -> None:
        """Ours and the bare command in turns, each after `before`."""
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(self.runs):
            before()
            bare.append(await self.bare(command))
            before()
            ours.append(await self.ours())
        mine, floor = statistics.median(ours), statistics.median(bare)
        within = "yes" if mine <= limit(floor) else "NO"
        self.rows.append(
            (name, f"{mine * 1e3:.0f} ms", f"{floor * 1e3:.0f} ms = {mine / floor:.2f} ×", f"{said}: {within}")
        )

    async def latency(self) -> None:
        """From the call to the id, and from a job's last act to its verdict in the front."""
        starts: list[float] = []
        ends: list[float] = []
        folder = self.config.home / "latency"
        folder.mkdir()
        for number in range(max(self.runs, 10)):
            stamp = folder / str(number)
            script = f"sleep 0.4; date +%s.%N >{stamp}"
            spec = StageSpec(name="x", kind="command", params={"argv": ["sh", "-c", script], "project": str(folder)})
            began = time.perf_counter()
            started = await self.orchestrator.start_plan(folder, Plan(stages=(spec,)), name=f"x{number}")
            starts.append(time.perf_counter() - began)
            await self.orchestrator.wait(started.build.id, 30)
            ends.append(time.time() - float(stamp.read_text()))
        for name, values, limit in (("start → id", starts, 0.1), ("exit → noticed by the front", ends, None)):
            worst, middle = max(values), statistics.median(values)
            said = "" if limit is None else f"≤ 100 ms: {'yes' if worst <= limit else 'NO'}"
            self.rows.append((name, f"{middle * 1e3:.0f} ms", f"worst {worst * 1e3:.0f} ms", said))

    async def idle(self) -> None:
        """What the worker costs while nothing is to be done."""
        pid = int((lock_holder(self.config.home) or "pid 0").split()[1])
        before = cpu_s(pid)
        await SystemClock().sleep(IDLE_S)
        spent = (cpu_s(pid) - before) / IDLE_S * 1e3
        within = "yes" if spent <= 2 else "NO"
        self.rows.append(("worker, idle", f"{spent:.1f} ms/s of CPU", f"{rss_mb(pid):.0f} MB", f"≤ 2 ms/s: {within}"))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS"))


async def measure(project: Path | None, runs: int, home: Path) -> Bench:
    config = load_config({**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)})
    config.make_home()
    if project is None:
        project = lay_out(home / "firmware")
        apply(fix_patch().encode(), project)
    environment = {**os.environ, "BUILD_ORCHESTRATOR_HOME": str(home)}
    server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_server", "mcp"], env=environment)
    orchestrator = Orchestrator(config)
    async with Client(server) as client:
        bench = Bench(config, orchestrator, client, project, runs)
        await bench.prepare()
        build = project / "build"

        def fresh() -> None:
            shutil.rmtree(build, ignore_errors=True)

        def touched() -> None:
            bench.source.touch()

        def untouched() -> None:
            pass

        await bench.ours()
        await bench.compare("first build", bench.idf_py, fresh, lambda s: s * 1.05, "≤ 1.05 × idf.py build")
        await bench.ours()
        await bench.compare("one file", bench.ninja, touched, lambda s: s * 1.15 + 0.06, "≤ 1.15 × ninja + 60 ms")
        await bench.compare(
            "nothing to do", bench.ninja, untouched, lambda s: s * 1.15 + 0.06, "≤ 1.15 × ninja + 60 ms"
        )
        await bench.latency()
        await bench.idle()
    await orchestrator.aclose()
    return bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        bench = asyncio.run(measure(options.project, options.runs, home))
        os.kill(int((lock_holder(home) or "").split()[1]), 15)
    print(f"| {bench.runs} runs | ours | bare | limit |\n|---|---|---|---|")
    for row in bench.rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
