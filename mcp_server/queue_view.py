"""The queue as fronts show it: who waits, in which order, until when, and for what.

May import: config, errors, expected, model, turns, store, views, whereabouts. Never: engine, a front.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mcp_server.errors import OrchestratorError
from mcp_server.expected import OpenRow, Place, Room, places
from mcp_server.model import Build, BuildStatus
from mcp_server.store import queue, workers
from mcp_server.turns import Limits
from mcp_server.views import BuildView
from mcp_server.whereabouts import why_idle

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

CHEAP_S = 0.01  # a look that took no longer is made anew for whoever asks
SHARE = 20  # a longer one is kept for so many times as long: a twentieth of a core at most
MOST_KEPT_S = 5.0
STALE_S = 1.0  # what is expected moves with the time, also where nothing happens


@dataclass(frozen=True, slots=True)
class Picture:
    """The queue at one time: open builds by number, and the places of those that wait, in their order."""

    rows: Mapping[int, OpenRow]
    places: Mapping[int, Place]
    limits: Limits
    at: datetime

    @property
    def running(self) -> int:
        """Builds that count for the limits."""
        return sum(row.began is not None and row.priority >= 0 for row in self.rows.values())


class Queue:
    """Over one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self._looking = asyncio.Lock()
        self._kept: tuple[object, Picture] | None = None
        self._made_at = self._took_s = 0.0

    async def of(self, listed: Iterable[Build]) -> Mapping[int, Place]:
        """The places, by number, of those of some builds that wait."""
        waiting = [build.id for build in listed if build.status is BuildStatus.PENDING and not build.cancel_requested]
        if not waiting:
            return {}
        found = (await self.picture()).places
        return {number: found[number] for number in waiting if number in found}

    async def placed(self, view: BuildView) -> BuildView:
        """The view with its build's place, where it waits."""
        found = await self.of([view.build])
        return dataclasses.replace(view, queue=found[view.build.id]) if found else view

    async def picture(self) -> Picture:
        """The queue now; where that takes long, as it was a moment ago."""
        orchestrator = self._orchestrator
        async with self._looking:
            keep_s = min(SHARE * self._took_s, MOST_KEPT_S) if self._took_s > CHEAP_S else 0.0
            if self._kept is not None and time.monotonic() - self._made_at < keep_s:
                return self._kept[1]
            limits = Limits(orchestrator.config.queue.builds, orchestrator.config.queue.per_project)
            store, now = await orchestrator.store(), orchestrator.clock.now()
            known = self._kept
            made, took_s = await store.read(lambda c: self._look(c, limits, now, known))
            if made is not known:
                self._kept, self._made_at, self._took_s = made, time.monotonic(), took_s
            return made[1]

    def _look(
        self, c: sa.Connection, limits: Limits, now: datetime, known: tuple[object, Picture] | None
    ) -> tuple[tuple[object, Picture], float]:
        """The state of the queue and its picture, `known` where that is the same; seconds of a core that it took."""
        began = time.thread_time()
        state = (queue.state(c), limits)
        if known is not None and known[0] == state and abs((now - known[1].at).total_seconds()) < STALE_S:
            return known, 0.0
        found = queue.queue_rows(c)
        usual = queue.usual_durations(c, list(dict.fromkeys((row.project_id, row.name) for row in found)))
        rows = [
            OpenRow(
                row.id,
                row.project_id,
                row.project_name,
                row.priority,
                row.started_at,
                row.hosts,
                row.directory,
                usual.get((row.project_id, row.name)),
            )
            for row in found
        ]
        of = {row.project for row in rows if row.began is None}
        pools = {row.hosts: self._slots(row.hosts) for row in found}
        room = Room(limits, pools, queue.served(c, of) if len(of) > 1 else ())
        placed = _with_absences(c, found, places(rows, room, now))
        seen = Picture({row.id: row for row in rows}, placed, limits, now)
        return (state, seen), time.thread_time() - began

    def _slots(self, hosts: str) -> int:
        """Of the hosts that some references mean; 1 where one is not in config.yaml any more."""
        registry = self._orchestrator.machines.hosts
        try:
            names = {name for reference in hosts.split("|") for name in registry.resolve(reference)}
            return max(sum(registry.slots(name) for name in names), 1)
        except OrchestratorError:
            return 1


def _with_absences(c: sa.Connection, rows: Sequence[queue.QueueRow], found: Mapping[int, Place]) -> Mapping[int, Place]:
    """The places, where machines share the store: of a build that nobody who is there can do that is the reason."""
    if c.dialect.name == "sqlite":
        return found
    team, placed = workers.list_workers(c), dict(found)
    for row in rows:
        if row.id not in placed:
            continue
        why = why_idle(team, place=row.place, machine=row.machine, worker=row.worker, running=False)
        if why:
            placed[row.id] = dataclasses.replace(placed[row.id], expected_start=None, reason=why)
    return placed
