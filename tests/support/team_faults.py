"""Torments a team of workers on one PostgreSQL: killed, frozen, drained, cut off from the database or from the hosts.

A build is a diamond of four stages on a far host: every fifth build's `s2` fails, of every fourth one `s3` passes at
its second attempt only, every seventh is cancelled, and all `s2` are of one group.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from mcp_server.config import load_config
from mcp_server.errors import OrchestratorError, StoreError
from mcp_server.orchestrator import Orchestrator
from tests.support.cuts import Relay
from tests.support.postgres import Server
from tests.support.team import Team

WORKERS: tuple[int, ...] = (1, 2, 3)
SLOTS, BUILDS, PER_PROJECT = 4, 5, 3
FAILING, TWICE, CANCELLED = 5, 4, 7
OPEN_AT_ONCE = 12  # builds; more are ordered as long as faults are to come
CONFIG = f"""\
queue: {{{{lost_after: {{lost_after}}, per_worker: 20, builds: {BUILDS}, per_project: {PER_PROJECT}}}}}
security: {{{{callback_hosts: ["127.0.0.1"]}}}}
servers:
  far:
    exec: [sh, {{channel}}]
    workdir: {{work}}
    jobs_dir: {{work}}/jobs
    slots: {SLOTS}
"""
PIPELINE = """
pipeline:
  name: b{number}
  stages:
    - {{name: s1, server: far, command: "{work}/job {number} s1 {s1} 0", retry: {{on: [unreachable], {often}}}}}
    - name: s2
      server: far
      command: "{work}/job {number} s2 {s2} {code}"
      depends_on: [s1]
      concurrency: one
      retry: {{on: [unreachable], {often}}}
    - name: s3
      server: far
      command: "{work}/job {number} s3 {s3} {twice}"
      depends_on: [s1]
      retry: {{on: [unreachable, exit], {often}}}
    - name: s4
      server: far
      command: "{work}/job {number} s4 {s4} 0"
      depends_on: [s2, s3]
      retry: {{on: [unreachable], {often}}}
"""
OFTEN = "times: 8, backoff: 1s"  # hosts are cut off for 5 s at most
JOB = """\
#!/bin/sh
# build, stage, seconds, exit code ("once": the first attempt fails)
cd "$(dirname "$0")"
echo "$BO_JOB" >>"started/$1.$2"
echo "+ $1 $2" >>ran
sleep "$3"
echo "- $1 $2" >>ran
[ "$4" != once ] || { [ "$(wc -l <"started/$1.$2")" -gt 1 ]; exit; }
exit "$4"
"""


@dataclass
class Report:
    """What was done, and everything that was not as promised."""

    faults: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    figures: dict[str, object] = field(default_factory=dict[str, object])
    broken: list[str] = field(default_factory=list[str])


class TormentedTeam(Team):
    """Each worker reaches the database by a relay of its own."""

    config = CONFIG
    relays: dict[int, Relay]


class RestartedServer:
    """The server, which can be ended as its packages do it, and begun again."""

    def __init__(self, server: Server) -> None:
        self.server, self.pid = server, server.pid
        self._again: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)
        self._command = Path(f"/proc/{server.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        self._program = str(Path(f"/proc/{server.pid}/exe").readlink())
        self._user = Path(f"/proc/{server.pid}").stat().st_uid

    async def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT as an update does it, SIGQUIT as a crash."""
        os.kill(self.pid, how)
        while (self.server.folder / "postmaster.pid").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def begin(self) -> None:
        """Start it again; it takes connections soon."""
        self._again = subprocess.Popen(
            self._command,
            executable=self._program,
            user=self._user,
            env=self._environment,
            cwd=self.server.folder,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._again.pid

    def close(self) -> None:
        if self._again is not None:
            self._again.send_signal(signal.SIGQUIT)
            self._again.wait(20)


class Receiver:
    """Takes callbacks, and notes how often each came."""

    def __init__(self) -> None:
        self.came: Counter[str] = Counter()
        self.port = 0

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-l"))
            await reader.readexactly(length)
            self.came[head.split()[1]] += 1
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


class Torment:
    """One run over `faults` faults."""

    def __init__(self, team: TormentedTeam, server: RestartedServer, front: Orchestrator, seed: int) -> None:
        self.team, self.server, self.front = team, server, front
        self.chance, self.report, self.receiver = random.Random(seed), Report(), Receiver()
        self.numbers: dict[int, int] = {}  # build: number
        self.read: list[int] = []
        self._free = set(WORKERS)
        self._server_free = True
        self._busy: set[asyncio.Task[None]] = set()

    async def run(self, faults: int, longest_s: float, limit_s: float) -> Report:
        began = time.monotonic()
        receiving = await self.receiver.listen()
        following = asyncio.create_task(self._follow())
        ordering = asyncio.create_task(self._order(longest_s))
        while sum(self.report.faults.values()) < faults:
            await asyncio.sleep(self.chance.uniform(0.2, 1.0))
            self._one_more()
        ordering.cancel()
        await asyncio.wait(self._busy)
        while await self._open() and time.monotonic() - began < limit_s:
            self._start_who_left()
            await asyncio.sleep(0.5)
        self.report.figures["seconds"] = round(time.monotonic() - began)
        await asyncio.sleep(3)  # callbacks
        following.cancel()
        receiving.close()
        return self.report

    # -- the work ----------------------------------------------------------------------------------------------------

    async def _order(self, longest_s: float) -> None:
        folders = [self.team.top / name for name in ("red", "blue")]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        number = 0
        while True:
            try:
                if len(await self._open()) < OPEN_AT_ONCE:
                    number += 1
                    await self._order_one(number, folders[number % 2], longest_s)
                    continue
            except StoreError:
                pass  # the server is away: the same number is not ordered again, whatever became of it
            await asyncio.sleep(0.1)

    async def _order_one(self, number: int, folder: Path, longest_s: float) -> None:
        code = 3 if number % FAILING == 0 else 0
        times = {name: f"{self.chance.uniform(0, longest_s):.2f}" for name in ("s1", "s2", "s3", "s4")}
        twice = "once" if number % TWICE == 0 else 0
        text = PIPELINE.format(number=number, work=self.team.work, code=code, twice=twice, often=OFTEN, **times)
        order = self.front.orders.pipeline(await self.front.read_pipeline(text=text), folder)
        callback = f"http://127.0.0.1:{self.receiver.port}/{number}"
        plan = order.plan.model_copy(update={"callback": callback})
        build = (await self.front.start_plan(folder, plan, name=order.name, agreed=True)).build.id
        self.numbers[build] = number
        if number % CANCELLED == 0:
            self._begin(self._cancel(build))

    async def _cancel(self, build: int) -> None:
        await asyncio.sleep(self.chance.uniform(0, 8))
        while True:
            with contextlib.suppress(OrchestratorError):
                await self.front.cancel(build)
                return
            if build not in await self._open():
                return
            await asyncio.sleep(0.5)

    async def _open(self) -> list[int]:
        def ask() -> list[int]:
            try:
                with self.server.server.connect(self.team.database) as c:
                    rows = c.execute("SELECT id FROM builds WHERE status IN ('pending', 'running')").fetchall()
                    return [int(row[0]) for row in rows]
            except psycopg.OperationalError:
                return [0]

        return await asyncio.to_thread(ask)

    async def _follow(self) -> None:
        after = 0
        while True:
            with contextlib.suppress(OrchestratorError):
                for event in await self.front.events(after):
                    if event.id <= after:
                        self.report.broken.append(f"event {event.id} came after {after}")
                    after = event.id
                    self.read.append(after)
            await asyncio.sleep(0.02)

    # -- the faults --------------------------------------------------------------------------------------------------

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._busy.add(task)  # kept: all are waited for at the end

    def _one_more(self) -> None:
        self._start_who_left()
        if self._server_free and self.chance.random() < 0.06:
            self._server_free = False
            self.report.faults["server restarted"] += 1
            self._begin(self._server_away())
            return
        if len(self._free) < 2:  # one is always left alone
            return
        number = self.chance.choice(sorted(self._free))
        kinds: dict[str, Callable[[int], Awaitable[None]]] = {
            "SIGKILL": self._kill,
            "SIGSTOP": self._freeze,
            "SIGTERM": self._drain,
            "database: RST": self._reset,
            "database: silence": self._silence,
            "database: slow": self._slow,
            "hosts cut off": self._no_hosts,
        }
        kind = self.chance.choice(sorted(kinds))
        self.report.faults[kind] += 1
        self._free.remove(number)
        self._begin(self._alone(number, kinds[kind]))

    def _start_who_left(self) -> None:
        """As systemd does: one that was started while the database was away has ended."""
        self.team.start(*(number for number in sorted(self._free) if self.team.has_left(number)))

    async def _alone(self, number: int, fault: Callable[[int], Awaitable[None]]) -> None:
        try:
            await fault(number)
        finally:
            self._free.add(number)

    async def _server_away(self) -> None:
        await self.server.end()
        await asyncio.sleep(self.chance.uniform(0, 4))
        self.server.begin()
        await asyncio.sleep(5)
        self._server_free = True

    async def _kill(self, number: int) -> None:
        await asyncio.to_thread(self.team.signal, number, signal.SIGKILL)
        await asyncio.sleep(self.chance.choice([0, self.chance.uniform(0, 3)]))
        self.team.start(number)
        await asyncio.sleep(1)

    async def _drain(self, number: int) -> None:
        await asyncio.to_thread(self.team.signal, number, signal.SIGTERM)
        self.team.start(number)
        await asyncio.sleep(1)

    async def _freeze(self, number: int) -> None:
        self.team.signal(number, signal.SIGSTOP)
        await asyncio.sleep(self.chance.choice([1.5, self.chance.uniform(1, 6), self.chance.uniform(5, 15)]))
        self.team.signal(number, signal.SIGCONT)

    async def _reset(self, number: int) -> None:
        relay = self.team.relays[number]
        relay.refuse()
        relay.reset()
        await asyncio.sleep(self.chance.choice([0, self.chance.uniform(0, 5)]))
        relay.restore()

    async def _silence(self, number: int) -> None:
        relay = self.team.relays[number]
        relay.silence()
        await asyncio.sleep(self.chance.uniform(0.5, 7))
        relay.resume() if self.chance.random() < 0.5 else relay.restore()

    async def _slow(self, number: int) -> None:
        relay = self.team.relays[number]
        relay.delay_s = self.chance.uniform(0.02, 0.2)
        await asyncio.sleep(3)
        relay.delay_s = 0

    async def _no_hosts(self, number: int) -> None:
        await asyncio.to_thread(self.team.cut_hosts, number)
        await asyncio.sleep(self.chance.uniform(0.5, 5))
        self.team.mend_hosts(number)


@contextlib.asynccontextmanager
async def relays(server: Server) -> AsyncGenerator[dict[int, Relay]]:
    """A relay to the server for each worker."""
    async with contextlib.AsyncExitStack() as stack:
        yield {number: await stack.enter_async_context(Relay(server.port).listening()) for number in WORKERS}


def make_front(team: Team) -> Orchestrator:
    """A front on a machine of its own."""
    os.environ.update(team.environment(0))
    return Orchestrator(load_config())
