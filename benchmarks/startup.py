"""From spawn to the answer to `initialize`: our server against a bare MCPServer script, and the memory of ours.

    python benchmarks/startup.py [--runs 9]

Both are started alternately, so that a busy machine slows both; exits 1 where the ratio or the memory is above its
limit. The second figure of each is the first tools/list. Linux reads memory from /proc, elsewhere it is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_RATIO = 1.15
MOST_RSS_MB = 100
SETTLE_S = 1.0  # the modules that the first call needs are loaded shortly after the first answer

BARE = """
from mcp.server import MCPServer
server = MCPServer("bare")
@server.tool()
async def noop() -> str:
    return "ok"
server.run("stdio")
"""


@dataclass
class Starts:
    """Milliseconds of every run."""

    command: list[str]
    initialize: list[float] = field(default_factory=list[float])
    tools: list[float] = field(default_factory=list[float])
    rss_mb: list[float] = field(default_factory=list[float])

    def run(self, environment: dict[str, str], *, settle: bool) -> None:
        """Start once, ask twice, end it by closing its stdin."""
        began = time.perf_counter()
        with subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as server:
            client = {"name": "bench", "version": "1"}
            ask(server, 1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
            self.initialize.append(1000 * (time.perf_counter() - began))
            send(server, {"jsonrpc": "2.0", "method": "notifications/initialized"})
            ask(server, 2, "tools/list")
            self.tools.append(1000 * (time.perf_counter() - began))
            if settle:
                time.sleep(SETTLE_S)
                if (rss := rss_mb(server.pid)) is not None:
                    self.rss_mb.append(rss)
            assert server.stdin is not None
            server.stdin.close()


def ask(server: subprocess.Popen[bytes], number: int, method: str, **params: Any) -> None:
    """One request and its answer."""
    send(server, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    assert server.stdout is not None
    answer = json.loads(server.stdout.readline())
    assert answer["id"] == number, answer
    assert "result" in answer, answer


def send(server: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()


def rss_mb(pid: int) -> float | None:
    """Resident memory, None where /proc does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description="Time from spawn to initialize, against a bare MCPServer script.")
    parser.add_argument("--runs", type=int, default=9, help="of each, at least 7")
    runs = max(parser.parse_args().runs, 7)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        environment = {**os.environ, "BUILD_ORCHESTRATOR_HOME": f"{folder}/home"}
        bare, ours = Starts([sys.executable, str(script)]), Starts([sys.executable, "-m", "mcp_server", "mcp"])
        for number in range(runs + 1):
            for starts in (bare, ours):
                starts.run(environment, settle=number == runs)
        for starts in (bare, ours):  # the first ones fill the disk's cache
            del starts.initialize[0], starts.tools[0]
    ratio = statistics.median(ours.initialize) / statistics.median(bare.initialize)
    for name, starts in (("bare MCPServer", bare), ("build-orchestrator mcp", ours)):
        first, second = statistics.median(starts.initialize), statistics.median(starts.tools)
        memory = f", {starts.rss_mb[0]:.0f} MB" if starts.rss_mb else ""
        print(f"{name}: initialize {first:.0f} ms, tools/list {second:.0f} ms{memory} (medians of {runs})")
    print(f"ratio {ratio:.2f}, at most {MOST_RATIO}")
    return int(ratio > MOST_RATIO or any(rss > MOST_RSS_MB for rss in ours.rss_mb))


if __name__ == "__main__":
    sys.exit(main())
