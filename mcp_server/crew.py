"""The workers as fronts show them: those of a shared store, or the one of this home.

May import: engine's start, idf, store, whereabouts. Never: a front.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mcp_server import whereabouts
from mcp_server.engine.start import lock_holder
from mcp_server.idf.doctor import Check
from mcp_server.model import BuildStatus
from mcp_server.store import workers
from mcp_server.store.tables import BUILDS

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

ON_DEMAND = "no worker is running: one is started as soon as there is something to do"
AWAY = "away"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker. `state`: serving, leaving, or away, which is not heard of any more; `builds`: open ones that it has."""

    name: str
    machine: str | None
    home: str
    version: str
    state: str
    leads: bool
    builds: int
    started_at: datetime | None = None
    seen_at: datetime | None = None


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
    rows = await store.read(workers.list_workers)
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
        )
        for row in rows
    ]
    well = bool(rows) and all(row.alive for row in rows) and len({row.version for row in rows}) == 1
    return Crew(views, whereabouts.team(rows), well)


async def checks(orchestrator: "Orchestrator") -> Sequence[Check]:
    """A line for `doctor`, where machines share the store."""
    if not (await orchestrator.store()).is_shared:
        return []
    crew = await look(orchestrator)
    return [Check(name="workers", status="ok" if crew.well else "warn", found=crew.text)]


async def _alone(orchestrator: "Orchestrator") -> Crew:
    home = orchestrator.config.home
    holder = await asyncio.to_thread(lock_holder, home)
    if holder is None:
        return Crew((), ON_DEMAND, well=True)
    version = holder.rpartition(" ")[2] if " version " in holder else ""
    count = sa.select(sa.func.count()).where(BUILDS.c.status == BuildStatus.RUNNING)
    builds = int(await (await orchestrator.store()).read(lambda c: c.scalar(count)) or 0)
    only = WorkerView(socket.gethostname(), None, str(home), version, "serving", leads=True, builds=builds)
    return Crew([only], f"1 worker ({holder})", well=True)
