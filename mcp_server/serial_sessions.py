"""Serial sessions: builds of one stage that watch a board's port, read on by whoever asks.

May import: model, config, errors, device_plans, references, hosts, idf, store, views. Never: engine, a front.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server import device_plans, logs
from mcp_server.errors import BadInput, Conflict, HostError, NotFound
from mcp_server.hosts.base import Host, JobId, JobState
from mcp_server.hosts.ports import find_port, refuse_stranger
from mcp_server.idf import monitor
from mcp_server.idf.board_reset import reset_board
from mcp_server.model import BuildStatus, Stage, StageStatus
from mcp_server.store import builds, earlier
from mcp_server.views import Started

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

NAME = "monitor"
KIND = "idf.monitor"
TO_BEGIN_S = 5
TO_CLOSE_S = 5
LOOK_S = 0.05
SETTLE_S = 0.15  # after the first new byte: a board says more than one line at a time
MOST_SESSIONS = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """What is new in a session. `found`: the line that was waited for; `left`: more was there than was asked for."""

    session: int
    text: str
    open: bool
    wait_for: str | None = None
    found: str | None = None
    left: bool = False
    note: str = ""
    broken: bool = False
    """It ended as it should not have: the port was taken, or gone for too long."""

    @property
    def failed(self) -> bool:
        """The line that was waited for did not come, or there is no session to read."""
        missed = self.wait_for is not None and self.found is None
        return missed or self.broken or (not self.open and not self.text)

    def summary(self) -> str:
        """The last line of an answer: whether it was found, how to go on."""
        parts = [f"session {self.session} {'open' if self.open else 'closed'}"]
        if self.wait_for is not None:
            parts.append("found" if self.found is not None else f"no line matched {self.wait_for[:80]!r} in that time")
        if self.left:
            parts.append("more is there: read on")
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)


class Sessions:
    """The serial sessions of a home. Where each reader of this process is, is remembered here."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self._read_to: dict[int, int] = {}

    async def open(self, port: str | None, host: str, *, baud: int | None, triggered_by: str) -> "Started":
        """A session on a port, or the open one that has it. Without `baud`: as it was last heard, else 115200.

        Raises BadInput where there is no such host or port, Conflict where a program that is no job has it.
        """
        orchestrator = self._orchestrator
        name = orchestrator.machines.hosts.resolve(host)[0]
        machine = orchestrator.host(name)
        found = await find_port(machine, port)
        if (number := await self._on(name, found.key)) is not None:
            return Started((await orchestrator.get(number)).build, joined=True)
        refuse_stranger(found, await machine.directory())
        where = {"port": found.stable or found.path, "key": found.key}
        if baud is None:
            store = await orchestrator.store()
            baud = await store.read(lambda c: earlier.last_baud(c, name, found.key))
        else:
            monitor.checked_baud(baud)
        plan = device_plans.monitor(where, host=name, baud=baud, idle_s=monitor.IDLE_S)
        return await orchestrator.start_plan(
            f"{name}:{found.path}", plan, name=NAME, triggered_by=triggered_by, project_name=found.key
        )

    async def _on(self, host: str, key: str) -> int | None:
        """The open session on a port."""
        store = await self._orchestrator.store()
        for status in (BuildStatus.RUNNING, BuildStatus.PENDING):
            for build in await store.read(lambda c, s=status: builds.list_builds(c, status=s, limit=MOST_SESSIONS)):
                stage = build.plan.stages[0]
                if stage.kind == KIND and (stage.host, stage.params.get("key")) == (host, key):
                    return build.id
        return None

    async def read(self, reference: int | str, *, wait_for: str | None, timeout_s: float, max_bytes: int) -> Reading:
        """What came since the last reading here, at most `max_bytes`; up to a line in which `wait_for` is found.

        Without a pattern it returns with the first output there is, at the latest after `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        number, stage = await self._begun(reference, timeout_s)
        note = ""
        if stage.job_id is None:
            said = stage.progress.message if stage.progress else "it has not begun"
            said = stage.verdict.summary if stage.verdict else said
            return Reading(number, "", stage.status.is_open, wait_for, note=said)
        host = self._orchestrator.host(stage.host)
        if stage.status.is_open:
            await self._keep(host, stage)
        start, found = self._read_to.get(number, 0), None
        if wait_for is None:
            data, at = await self._new(host, stage.job_id, start, max_bytes, end)
        else:
            found, stop = await monitor.wait_for(host, stage.job_id, start, wait_for, max(0.0, end - loop.time()))
            begin = max(start, stop - max_bytes)  # the line that was found must be seen, whatever came before it
            data, at = await host.read_log(stage.job_id, begin, stop - begin), stop
            if begin > start:
                data = data.partition(b"\n")[2] or data
                note = f"{begin - start} bytes before that: build_log({number}, offset={start})"
        self._read_to[number] = at
        more = bool((await monitor.read(host, stage.job_id, at, 1))[0])
        view = await self._orchestrator.get(number)
        status = view.build.status
        broken = status is BuildStatus.FAILED
        return Reading(number, logs.clean(data), status.is_open, wait_for, found, more, note, broken)

    async def send(self, reference: int | str, data: str, *, reset: bool) -> str:
        """Reset the board, then send text; what was done. Conflict: the session is over, or that could not be done."""
        if not reset and not data:
            raise BadInput("data", "is empty: give text to send, or reset=true")
        number, stage = await self._begun(reference, 5)
        if not stage.status.is_open:
            raise Conflict(f"{_ended(number, stage)}: open one with serial_monitor")
        if stage.job_id is None:
            raise Conflict(f"session {number} has not begun: ask again")
        key, host = str((stage.resolved or {}).get("key") or ""), self._orchestrator.host(stage.host)
        if (borrower := await _borrower(host, key, stage.job_id)) is not None:
            raise Conflict(f"session {number} has lent its port to {borrower}: ask again once that is over")
        told: list[str] = []
        if reset:
            await _reset(number, host, stage.job_id, key, "; nothing was sent" if data else "")
            told.append("board reset")
        if data:
            sent = data.encode("utf-8", "surrogateescape")
            if not await monitor.send(host, key, sent):
                after = "; the board was reset" if reset else ""
                raise Conflict(f"session {number} takes no commands, it may just be ending: nothing was sent{after}")
            told.append(f"{len(sent)} bytes sent")
        return f"session {number}: {', then '.join(told)}"

    async def close(self, reference: int | str) -> str:
        """End a session, and say what became of it; once it is closed its port is free."""
        orchestrator, told = self._orchestrator, False
        try:
            number, stage = await self._begun(reference, 0)
        except Conflict:  # it waits for the worker, which is not to begin it any more
            number, stage = (await orchestrator.get(reference)).build.id, None
        if stage is not None and not stage.status.is_open:
            return f"{_ended(number, stage)} already"
        if stage is not None and stage.job_id is not None:
            key = (stage.resolved or {}).get("key") or ""
            told = await monitor.close(orchestrator.host(stage.host), key)
        if not told:
            with suppress(Conflict):  # it has just ended by itself
                await orchestrator.cancel(number)
        view = await orchestrator.wait(number, TO_CLOSE_S)
        if view.build.status.is_open:
            return f"session {number} was told to close, and has not done it within {TO_CLOSE_S} s"
        if view.build.status is BuildStatus.FAILED or not (told or view.build.status is BuildStatus.CANCELLED):
            return f"{_ended(number, view.stages[-1])} already"
        return f"session {number} closed"

    async def _begun(self, reference: int | str, timeout_s: float) -> tuple[int, Stage]:
        """The session's row, once its job is started or will not be."""
        orchestrator = self._orchestrator
        view = await orchestrator.get(reference)
        number = view.build.id
        if view.build.plan.stages[0].kind != KIND:
            raise BadInput("session", f"build {number} is no serial session: serial_monitor opens one")
        end = asyncio.get_running_loop().time() + max(timeout_s, TO_BEGIN_S)
        async with orchestrator.changes() as changed:
            while True:
                view = await orchestrator.get(number)
                row = view.stages[-1] if view.stages else None
                left = end - asyncio.get_running_loop().time()
                if row is not None and (not row.status.is_open or left <= 0 or await self._started(row)):
                    return number, row
                if left <= 0:
                    raise Conflict(f"session {number} waits for the worker: ask again")
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, LOOK_S if row and row.job_id else 1))

    async def _started(self, row: Stage) -> bool:
        """Whether its job is there: the row is written first."""
        if row.job_id is None:
            return False
        return (await self._orchestrator.host(row.host).status(row.job_id)).state is not JobState.ABSENT

    async def _keep(self, host: Host, stage: Stage) -> None:
        """Somebody reads: the session stays open. One that is just ending need not hear it."""
        key = (stage.resolved or {}).get("key")
        if key:
            try:
                await monitor.keep(host, key)
            except HostError:
                return

    async def _new(self, host: Host, job: JobId, start: int, max_bytes: int, end: float) -> tuple[bytes, int]:
        """Bytes behind `start`: those that are there, else the first that come until `end`."""
        try:
            piece = await monitor.read(host, job, start, max_bytes)
        except NotFound:
            return b"", start
        if piece[0] or asyncio.get_running_loop().time() >= end:
            return piece
        await _first_byte(host, job, start, end)
        return await monitor.read(host, job, start, max_bytes)


async def _borrower(host: Host, key: str, job: JobId) -> str | None:
    """Who has the port of a session's job for now. A boot watch writes itself down in the session's place."""
    owner = await monitor.owner(host, key)
    if owner is None or (owner.job == job and not owner.lent):
        return None
    return owner.lent or "a boot watch"


async def _reset(number: int, host: Host, job: JobId, key: str, besides: str) -> None:
    """Conflict where the board was not reset; `besides` is what else was not done then."""
    end = await reset_board(host, job, key)
    if end is None:
        raise Conflict(f"session {number} takes no commands, it may just be ending: the board was not reset{besides}")
    if not end.done:
        raise Conflict(f"session {number}: the board was not reset: {end.why}{besides}")


def _ended(number: int, stage: Stage) -> str:
    """`session 42 is closed`, of one that is over."""
    if stage.status is StageStatus.SUCCESS:
        return f"session {number} is closed"
    if stage.status is StageStatus.CANCELLED:
        return f"session {number} was cancelled"
    why = stage.verdict.summary if stage.verdict else ""
    return f"session {number} has ended{f' ({why})' if why else ''}"


async def _first_byte(host: Host, job: JobId, start: int, end: float) -> None:
    """Return when there is output behind `start`, and a moment more has passed; or at `end`."""

    async def look() -> None:
        async for piece in host.follow(job, start):
            if piece:
                break

    try:
        async with asyncio.timeout_at(end):
            await look()
            await asyncio.sleep(SETTLE_S)
    except TimeoutError:
        return
