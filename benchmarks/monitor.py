"""What a serial monitor costs and how fast it is: idle, matching a line, and a stream of 3 Mbaud.

    python -m benchmarks.monitor [--idle-s 10] [--matches 50] [--megabytes 3]

A pty stands in for the board. Exits 1 where a limit is passed: 0.5 ms/s idle (the monitor with its log's follower),
20 ms from the board to whoever waits for the line, no byte lost at 0.3 MB/s.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mcp_server.hosts.base import JobSpec
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ports import lock_folder
from mcp_server.idf import monitor
from tests.support.faults import processes_with
from tests.support.pty_board import PtyBoard

IDLE_LIMIT = 0.5  # ms/s
MATCH_LIMIT_MS = 20
RATE = 300_000  # bytes/s: 3 Mbaud, ten bits a byte
TICK_S = 0.002
KEY = "board"


def cpu_s(jobs: Path) -> float:
    """Processor time of the job and of what follows its log, without the keeper of all logs of a machine."""
    total = 0.0
    for pid in processes_with(str(jobs)):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"_keep" in words or words[0] == b"sleep":
                continue
            total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    return total


async def idle(jobs: Path, seconds: float) -> float:
    """Milliseconds of processor time a second."""
    await asyncio.sleep(1)  # what started it all is over
    before = cpu_s(jobs)
    await asyncio.sleep(seconds)
    return (cpu_s(jobs) - before) * 1000 / seconds


async def matches(host: LocalHost, board: PtyBoard, count: int) -> list[float]:
    """Milliseconds from the board's line to its waiter, who is there already."""
    took: list[float] = []
    offset = 0
    for number in range(count):
        waiting = asyncio.create_task(monitor.wait_for(host, "m", offset, f"mark {number}$", 5))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        await board.say(b"I (100) main: mark %d\n" % number)
        line, offset = await waiting
        took.append((time.perf_counter() - began) * 1000)
        assert line is not None
    return took


async def stream(host: LocalHost, board: PtyBoard, size: int) -> tuple[int, float]:
    """Bytes lost of a stream at 3 Mbaud; processor time of the monitor in percent of one core."""
    lines = [b"I (%07d) wifi: rssi -61, channel 11, state run\r\n" % number for number in range(size // 50)]
    data, at = b"".join(lines), 0
    start = len(await whole(host))
    jobs, began = host.jobs_dir, time.perf_counter()
    before = cpu_s(jobs)
    while at < len(data):
        due = int((time.perf_counter() - began) * RATE)
        if due > at:
            await board.say(data[at:due])
            at = min(due, len(data))
        await asyncio.sleep(TICK_S)
    used = (cpu_s(jobs) - before) / (time.perf_counter() - began) * 100
    await board.say(b"the end\n")
    await monitor.wait_for(host, "m", start, "^the end$", 10)
    reader = monitor.BoardBytes()
    got = reader.feed((await whole(host))[start:])
    return len(data) + len(b"the end\n") - len(got) if got.startswith(data) else len(data), used


async def whole(host: LocalHost) -> bytes:
    log = b""
    while piece := await host.read_log("m", len(log), 1 << 20):
        log += piece
    return log


async def measure(folder: Path, idle_s: float, count: int, megabytes: float) -> int:
    host, board = LocalHost(folder / "jobs"), PtyBoard(folder / "ttyBoard")
    session = monitor.Session(str(board.path), lock_folder(await host.directory(), KEY), baud=3_000_000)
    await host.start(JobSpec("m", monitor.monitor_argv(session, far=False), "/", {"PATH": os.environ["PATH"]}))

    async def follow() -> None:
        async for _ in host.follow("m"):
            opened.set()

    opened = asyncio.Event()
    following = asyncio.create_task(follow())
    await opened.wait()
    try:
        cost = await idle(folder / "jobs", idle_s)
        took = await matches(host, board, count)
        lost, used = await stream(host, board, round(megabytes * 1e6))
    finally:
        await monitor.close(host, KEY)
        await host.wait("m")
        await following
        await host.aclose()
    worst = statistics.quantiles(took, n=20)[-1]
    sys.stdout.write(
        f"idle: {cost:.3f} ms/s (limit {IDLE_LIMIT})\n"
        f"match: median {statistics.median(took):.1f} ms, 95 % within {worst:.1f} ms (limit {MATCH_LIMIT_MS})\n"
        f"3 Mbaud, {megabytes:g} MB: {lost} bytes lost, {used:.0f} % of a core\n"
    )
    return int(cost > IDLE_LIMIT or worst > MATCH_LIMIT_MS or lost != 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle-s", type=float, default=10)
    parser.add_argument("--matches", type=int, default=50)
    parser.add_argument("--megabytes", type=float, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder), options.idle_s, options.matches, options.megabytes))


if __name__ == "__main__":
    sys.exit(main())
