"""The service on a store of 10,000 builds beside a running one: REST, events to 500 WebSockets, memory, start.

    python -m benchmarks.service [--builds 10000] [--seconds 15] [--clients 500]

Requests are sent when they are due, 50 a second, however long the ones before take, and are timed from that moment.
An event is timed from before its transaction until a client has it. Exits 1 where a limit is passed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
import sqlalchemy as sa
import websockets.asyncio.client as websocket

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.model import BuildStatus, Plan, Stage, StageSpec, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds, events
from mcp_server.store.tables import BUILDS, STAGES
from tests.support.workers import end_everything

RATE = 50  # requests a second
P99_LIMIT_MS, EVENT_LIMIT_MS, MEMORY_LIMIT_MB, READY_LIMIT_S = 50, 150, 150, 2
WHOLE_LIMIT_MB = 200  # the service with all its WebSockets, 500 of them
EVENTS = 40  # timed ones
PROJECTS = 5
STAGES_EACH = ("setup", "build", "qemu")
RUNNING = 'pipeline: {name: p, stages: [{name: a, command: "while :; do date; sleep 0.05; done"}]}'


def copies(c: sa.Connection, ids: Sequence[str], count: int, now: datetime) -> None:
    """Builds 2 to `count`, made of the first with its stages: its own statements would take minutes."""
    build = dict(c.execute(sa.select(BUILDS)).mappings().one())
    stages = [dict(row) for row in c.execute(sa.select(STAGES)).mappings()]
    ends = (BuildStatus.SUCCESS, BuildStatus.SUCCESS, BuildStatus.FAILED, BuildStatus.CANCELLED)
    c.execute(
        sa.insert(BUILDS),
        [
            {
                **build,
                "id": number,
                "task_id": str(uuid.uuid4()),
                "args_key": str(number),
                "project_id": ids[number % PROJECTS],
                "status": ends[number % len(ends)],
                "duration": 10 + number % 90,
                "created_at": now - timedelta(minutes=5 * (count - number)),
                "completed_at": now - timedelta(minutes=5 * (count - number) - 1),
            }
            for number in range(2, count + 1)
        ],
    )
    c.execute(sa.insert(STAGES), [{**row, "build": n} for n in range(2, count + 1) for row in stages])
    for number in range(2, count + 1):
        for kind in ("stage.status", "build.status"):
            events.append(c, kind, number, now, {"status": "success"})


async def fill(orchestrator: Orchestrator, folder: Path, count: int) -> str:
    """Builds of some projects that are over, with their stages and events; the id of a project."""
    store, now = await orchestrator.store(), SystemClock().now()
    plan = Plan(stages=tuple(StageSpec(name=name, kind="command") for name in STAGES_EACH))

    def statements(c: sa.Connection) -> str:
        ids: list[str] = []
        for number in range(PROJECTS):
            (folder / f"p{number}").mkdir(parents=True)
            ids.append(builds.ensure_project(c, str(folder / f"p{number}"), f"p{number}", now).id)
        first, _ = builds.insert_build(c, builds.get_project(c, ids[0]), plan, name="full", args_key="1", now=now)
        builds.set_running(c, first.id, now)
        for name in STAGES_EACH:
            row = Stage(
                build=first.id,
                stage=name,
                kind="command",
                host="local",
                job_id="j",
                status=StageStatus.SUCCESS,
                started_at=now,
                ended_at=now,
            )
            builds.put_stage(c, row, now)
        builds.end_build(c, first.id, BuildStatus.SUCCESS, "exit", now)
        copies(c, ids, count, now)
        return ids[0]

    return await store.write(statements)


@contextlib.asynccontextmanager
async def served() -> AsyncGenerator[tuple[int, int, float]]:
    """A service: its port, its pid, and the seconds from its spawn to its first answer."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "mcp_server", "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        line = (await process.stderr.readline()).decode()
        port = int(line.split()[0].rpartition(":")[2])
        await Wire(port).ask("/healthz")
        yield port, process.pid, time.perf_counter() - began
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Wire:
    """One kept connection, as thin as can be: what is timed is the service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: bytes | None = None) -> Any:
        """The answer's JSON; a connection that was idle may have been closed, and is opened again."""
        try:
            return await self._ask(path, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._open = None
            return await self._ask(path, body)

    async def _ask(self, path: str, body: bytes | None) -> Any:
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._open
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + (body or b""))
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        content = await reader.readexactly(int(answer.partition("content-length: ")[2].split()[0]))
        assert answer.split()[1].startswith("2"), (path, content[:500])
        return json.loads(content)


async def rest(port: int, count: int, project: str, seconds: float) -> dict[str, list[float]]:
    """Milliseconds from when each request was due, by what was asked."""
    choice, free = random.Random(1), [Wire(port)]
    took: dict[str, list[float]] = {}
    kinds = {
        "builds, 50": lambda: "/api/builds",
        "builds, a page far below": lambda: f"/api/builds?limit=50&after={choice.randint(100, count)}",
        "builds, failed of a project": lambda: "/api/builds?status=failed&project=p2",
        "a build": lambda: f"/api/builds/{choice.randint(1, count)}",
        "a build's events": lambda: f"/api/builds/{choice.randint(1, count)}/events",
        "projects": lambda: "/api/projects",
        "stats of all": lambda: "/api/stats",
        "stats of a project": lambda: f"/api/projects/{project}/stats",
    }

    async def one(kind: str, due: float) -> None:
        wire = free.pop() if free else Wire(port)
        await wire.ask(kinds[kind]())
        took.setdefault(kind, []).append((time.perf_counter() - due) * 1000)
        free.append(wire)

    for path in kinds.values():  # a service that has just begun loads what it needs
        await free[0].ask(path())
    began = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(round(seconds * RATE)):
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(choice.choice(list(kinds)), due))
    return took


def rss_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


async def sockets(
    orchestrator: Orchestrator, port: int, pid: int, clients: int
) -> tuple[list[float], list[float], float]:
    """Milliseconds until one client, and until the last, has an event; the service's growth in MB by the clients."""
    store = await orchestrator.store()
    before = rss_mb(pid)
    async with contextlib.AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(websocket.connect(f"ws://127.0.0.1:{port}/ws?build=1", compression=None))
            for _ in range(clients)
        ]
        each: list[float] = []
        last: list[float] = []
        for number in range(EVENTS):
            receiving = [asyncio.create_task(arrival(one)) for one in opened]
            await asyncio.sleep(0.05)
            began, now = time.perf_counter(), SystemClock().now()
            await store.write(lambda c, n=number, t=now: events.append(c, "workflow.progress", 1, t, {"progress": n}))
            arrived = [(at - began) * 1000 for at in await asyncio.gather(*receiving)]
            each += arrived
            last.append(max(arrived))
        return each, last, rss_mb(pid) - before


async def arrival(socket: websocket.ClientConnection) -> float:
    await socket.recv()
    return time.perf_counter()


def p99(found: Sequence[float]) -> float:
    return quantiles(found, n=100)[-1] if len(found) > 1 else found[0]


async def measure(folder: Path, count: int, seconds: float, clients: int) -> int:
    orchestrator = Orchestrator(load_config())
    try:
        project = await fill(orchestrator, folder / "src", count)
        ready: list[float] = []
        for _ in range(3):
            async with served() as (_, _, took):
                ready.append(took)
        async with served() as (port, pid, took):
            ready.append(took)
            asked = json.dumps({"yaml": RUNNING, "project": "p1"}).encode()
            running = (await Wire(port).ask("/api/pipelines", asked))["build_id"]
            while (await Wire(port).ask(f"/api/builds/{running}"))["status"] != "running":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # First, so that memory which requests left free hides nothing.
            each, last, grown = await sockets(orchestrator, port, pid, clients)
            whole = rss_mb(pid)
            by_kind = await rest(port, count, project, seconds)
            await Wire(port).ask(f"/api/builds/{running}/cancel", b"{}")
            await orchestrator.wait(running, 10)
    finally:
        await orchestrator.aclose()
    every = [one for found in by_kind.values() for one in found]
    print(f"REST, {len(every)} requests, {RATE}/s, {count:,} builds, one running")
    for kind, found in by_kind.items():
        print(f"  {kind:28} p50 {median(found):6.1f} ms   p99 {p99(found):6.1f} ms")
    print(f"  {'all':28} p50 {median(every):6.1f} ms   p99 {p99(every):6.1f} ms (limit {P99_LIMIT_MS})")
    print(
        f"event → {clients} WebSockets: each p50 {median(each):.1f} ms, p99 {p99(each):.1f} ms "
        f"(limit {EVENT_LIMIT_MS}); the last of them p50 {median(last):.1f} ms, worst {max(last):.1f} ms"
    )
    print(f"memory of {clients} WebSockets: {grown:.1f} MB (limit {MEMORY_LIMIT_MB}); ", end="")
    print(f"service and them: {whole:.0f} MB (limit {WHOLE_LIMIT_MB})")
    print(f"ready: median {median(ready):.2f} s, worst {max(ready):.2f} s (limit {READY_LIMIT_S})")
    slow = p99(every) > P99_LIMIT_MS or p99(each) > EVENT_LIMIT_MS
    return int(slow or grown > MEMORY_LIMIT_MB or whole > WHOLE_LIMIT_MB or median(ready) > READY_LIMIT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        os.environ["BUILD_ORCHESTRATOR_HOME"] = str(home)
        try:
            return asyncio.run(measure(folder, options.builds, options.seconds, options.clients))
        finally:
            end_everything(home)


if __name__ == "__main__":
    sys.exit(main())
