"""Times jobs over SSH against bare asyncssh and `ssh`, in one run, on a real sshd on loopback.

    python -m benchmarks.ssh [--runs 15] [--rtt-ms 20] [--megabytes 200] [--jobs 200]

Each figure is a median of runs that alternate with what they are compared to.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncssh

from mcp_server.config import Server
from mcp_server.hosts.base import JobSpec
from mcp_server.hosts.ssh import SshHost, SshOptions
from tests.support.cuts import Relay
from tests.support.sshd import Sshd, why_not

IDLE_S = 5.0
Row = tuple[str, str, str, str]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


async def round_trip(rtt_s: float, runs: int = 25) -> float:
    """Median seconds of a byte there and back through the relay: what it takes itself beside its delay is not ours."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    took: list[float] = []
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(echo, "127.0.0.1", 0))
        relay = Relay(server.sockets[0].getsockname()[1], rtt_s / 2)
        await stack.enter_async_context(relay.listening())
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        for _ in range(runs):
            began = time.perf_counter()
            writer.write(b"x")
            await reader.readexactly(1)
            took.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()
    return statistics.median(took)


async def latency(server: Sshd, folder: Path, runs: int, rtt_s: float) -> list[Row]:
    """Submit → running and exit → noticed, beside one round trip and a bare exec."""
    async with AsyncExitStack() as stack:
        port = server.port
        if rtt_s:
            port = (await stack.enter_async_context(Relay(server.port, rtt_s / 2).listening())).port
        server.configure(port=port, HostKeyAlias="box")
        server.known_hosts.write_text("box " + server.known_hosts.read_text().split(" ", 1)[1])
        host = SshHost(
            "box", Server(host="box", jobs_dir=str(folder)), options=SshOptions(ssh_config=server.ssh_config)
        )
        stack.push_async_callback(host.aclose)
        await host.status("warm-up")
        bare = await stack.enter_async_context(
            asyncssh.connect("box", config=[str(server.ssh_config)], known_hosts=str(server.known_hosts))
        )
        await bare.run("true")
        execs: list[float] = []
        starts: list[float] = []
        ends: list[float] = []
        for number in range(runs):
            began = time.perf_counter()
            await bare.run("true")
            execs.append(time.perf_counter() - began)
            stamp = folder / f"stamp{rtt_s}{number}"
            job = JobSpec(
                f"r{int(rtt_s * 1e3)}-{number}", ["sh", "-c", 'sleep 0.2; date +%s.%N >"$1"', "x", str(stamp)], "/"
            )
            began = time.perf_counter()
            await host.start(job)
            starts.append(time.perf_counter() - began)
            await host.wait(job.id)
            ends.append(time.time() - float(stamp.read_text()))
        start, end, floor = (statistics.median(values) for values in (starts, ends, execs))
        trip = await round_trip(rtt_s) if rtt_s else 0.0
        name = f"RTT {rtt_s * 1e3:.0f} ms"
        within = f"{ms(trip + 0.008)}: {_yes(start <= trip + 0.008)}"
        noticed = f"{ms(trip / 2 + 0.008)}: {_yes(end <= trip / 2 + 0.008)}"
        return [
            (f"submit → running, {name}", ms(start), f"bare exec {ms(floor)}", f"≤ 1 RTT + 8 ms = {within}"),
            (f"exit → noticed, {name}", ms(end), "", f"≤ one way + 8 ms = {noticed}"),
        ]


async def many(server: Sshd, folder: Path, count: int) -> list[Row]:
    """`count` sleeping jobs awaited on one host: our CPU, and the connections."""
    server.configure()
    server.know()
    host = SshHost("box", Server(host="box", jobs_dir=str(folder)), options=SshOptions(ssh_config=server.ssh_config))
    gate = folder / "gate"
    os.mkfifo(gate)
    descriptor = os.open(gate, os.O_RDWR)
    jobs = [JobSpec(f"m{number}", ["sh", "-c", 'read x <"$1"', "x", str(gate)], "/") for number in range(count)]
    began = time.perf_counter()
    await asyncio.gather(*(host.start(job) for job in jobs))
    took = time.perf_counter() - began
    waits = [asyncio.create_task(host.wait(job.id)) for job in jobs]
    await host.status("m0")
    await asyncio.sleep(1)
    before = time.process_time()
    await asyncio.sleep(IDLE_S)
    spent = (time.process_time() - before) / IDLE_S * 1e3
    assert host.shell.pool
    connections = len(host.shell.pool.links)
    os.write(descriptor, b"go\n" * count)
    await asyncio.gather(*waits)
    os.close(descriptor)
    await host.aclose()
    return [
        (f"{count} jobs started", ms(took), f"{ms(took / count)} each", ""),
        (
            f"{count} jobs awaited",
            f"{spent:.2f} ms/s of CPU",
            f"{connections} connection(s)",
            f"≤ 2 ms/s, 1: {_yes(spent <= 2 and connections == 1)}",
        ),
    ]


async def stream(server: Sshd, folder: Path, runs: int, megabytes: int) -> list[Row]:
    """A whole log, followed, against `ssh cat` of the same file."""
    server.configure()
    server.know()
    host = SshHost("box", Server(host="box", jobs_dir=str(folder)), options=SshOptions(ssh_config=server.ssh_config))
    await host.start(JobSpec("s", ["head", "-c", str(megabytes << 20), "/dev/zero"], "/"))
    await host.wait("s")
    log = next(folder.glob("*/s/log"))
    size = log.stat().st_size
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        seen = 0
        async for piece in host.follow("s"):
            seen += len(piece)
        ours.append(seen / (time.perf_counter() - began) / 1e6)
        assert seen == size
        command = ["ssh", "-F", str(server.ssh_config), "box", "cat", str(log)]
        began = time.perf_counter()
        await asyncio.to_thread(_drain, command)
        theirs.append(size / (time.perf_counter() - began) / 1e6)
    await host.aclose()
    mine, floor = statistics.median(ours), statistics.median(theirs)
    ratio = mine / floor
    return [
        (
            f"log of {size >> 20} MB",
            f"{mine:.0f} MB/s",
            f"ssh cat {floor:.0f} MB/s = {ratio:.2f} ×",
            f"≥ 0.8 ×: {_yes(ratio >= 0.8)}",
        )
    ]


def _drain(command: list[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout
        while os.read(process.stdout.fileno(), 1 << 20):
            pass


def _yes(good: bool) -> str:
    return "yes" if good else "NO"


async def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    server = Sshd(folder / "sshd")
    server.start()
    jobs = folder / "jobs"
    jobs.mkdir()
    try:
        rows = await latency(server, jobs, options.runs, 0)
        server.know()
        rows += await latency(server, jobs, options.runs, options.rtt_ms / 1e3)
        rows += await many(server, jobs, options.jobs)
        return rows + await stream(server, jobs, 3, options.megabytes)
    finally:
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--rtt-ms", type=float, default=20)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    if why := why_not():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(options, Path(folder)))
    print("| what | ours | beside it | limit |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
