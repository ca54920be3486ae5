"""The workers as fronts show them: those of a shared store, or the one of this home.

May import: config_prints, engine's start, home, idf, places, store, whereabouts. Never: a front.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mcp_server import places, whereabouts
from mcp_server.config_prints import prints
from mcp_server.engine.start import lock_holder, lock_id
from mcp_server.home import known_machine
from mcp_server.idf.doctor import Check
from mcp_server.model import BuildStatus, Lease
from mcp_server.store import leases, workers
from mcp_server.store.tables import BUILDS
from mcp_server.store.workers import Twin, WorkerRow

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

ON_DEMAND = "no worker is running: one is started as soon as there is something to do"
AWAY = "away"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker. `state`: serving, leaving, or away, which is not heard of any more; `builds`: open ones that it has.

    `differs`: the sections in which its config.yaml is not what the leader's is.
    """

    name: str
    machine: str | None
    home: str
    version: str
    state: str
    leads: bool
    builds: int
    started_at: datetime | None = None
    seen_at: datetime | None = None
    differs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Crew:
    """All workers, and what is to be said of them in a sentence; `well` where that asks nothing of anybody."""

    workers: Sequence[WorkerView]
    text: str
    well: bool


async def look(orchestrator: "Orchestrator") -> Crew:
    """The workers that are there, or were not long ago."""
    store = await orchestrator.store()
    if not store.is_shared:
        return await _alone(orchestrator)
    return _crew(await store.read(workers.list_workers))


def _crew(rows: Sequence[WorkerRow]) -> Crew:
    differs = whereabouts.differences(rows)
    views = [
        WorkerView(
            row.name,
            row.machine,
            row.home,
            row.version,
            row.state if row.alive else AWAY,
            row.leads,
            row.builds,
            row.started_at,
            row.seen_at,
            differs.get(row.id, ()),
        )
        for row in rows
    ]
    well = bool(rows) and all(row.alive for row in rows) and len({row.version for row in rows}) == 1 and not differs
    return Crew(views, whereabouts.team(rows), well)


async def held(orchestrator: "Orchestrator") -> Sequence[Lease]:
    """The leases of hosts and folders as this machine calls them."""
    store = await orchestrator.store()
    rows = await store.read(leases.holders)
    if not store.is_shared:
        return rows
    return places.here(rows, await asyncio.to_thread(known_machine, orchestrator.config.home))


async def checks(orchestrator: "Orchestrator") -> Sequence[Check]:
    """Lines for `doctor`, where machines share the store: of all workers, and of this machine among them."""
    store = await orchestrator.store()
    if not store.is_shared:
        return []
    rows, home = await store.read(workers.list_workers), orchestrator.config.home
    crew, machine = _crew(rows), await asyncio.to_thread(known_machine, home)
    found = [Check(name="workers", status="ok" if crew.well else "warn", found=crew.text)]
    lock = await asyncio.to_thread(lock_id, home)
    if sections := whereabouts.differences(rows, prints(orchestrator.config)).get(""):
        said = f"{orchestrator.config.file} differs from that of the worker that leads in {', '.join(sections)}"
        found.append(Check(name="config.yaml", status="warn", found=said, mend="have the same file on all machines"))
    for row in rows:
        if row.machine == machine and row.alive and row.lock not in (lock, None):
            found.append(Check(name="machine", status="fail", found=str(Twin(row, str(home)))))
    return found


async def _alone(orchestrator: "Orchestrator") -> Crew:
    home = orchestrator.config.home
    holder = await asyncio.to_thread(lock_holder, home)
    if holder is None:
        return Crew((), ON_DEMAND, well=True)
    version = holder.partition(" version ")[2].partition(" ")[0]
    count = sa.select(sa.func.count()).where(BUILDS.c.status == BuildStatus.RUNNING)
    builds = int(await (await orchestrator.store()).read(lambda c: c.scalar(count)) or 0)
    only = WorkerView(socket.gethostname(), None, str(home), version, "serving", leads=True, builds=builds)
    return Crew([only], f"1 worker ({holder})", well=True)
