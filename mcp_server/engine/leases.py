"""Waiting in line for what only so many may have at once: host slots and build directories."""

import asyncio
from dataclasses import dataclass, field

import sqlalchemy as sa

from mcp_server.clock import Clock
from mcp_server.model import Lease
from mcp_server.store import leases as table
from mcp_server.store.database import Store


@dataclass(order=True)
class _Ticket:
    priority: int
    build: int
    number: int
    resource: str = field(compare=False)
    slots: int = field(compare=False)
    stage: str | None = field(compare=False)
    reason: str = field(compare=False)
    granted: asyncio.Future[Lease] = field(compare=False)


class LeaseLine:
    """Grants leases by priority, then to the older build. What a build held before a restart it gets back at once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._line: list[_Ticket] = []
        self._granting = asyncio.Lock()
        self._count = 0

    async def acquire(
        self, resource: str, *, slots: int, build: int, stage: str | None, reason: str, priority: int
    ) -> Lease:
        """A slot of `resource`, when it is this build's turn. Cancelling leaves the line; nothing stays taken."""
        self._count += 1
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        ticket = _Ticket(priority, build, self._count, resource, slots, stage, reason, granted)
        self._line.append(ticket)
        try:
            await self.offer(resource)
            return await granted
        finally:
            if ticket in self._line:
                self._line.remove(ticket)

    async def offer(self, resource: str) -> None:
        """Let the next in line have what was given back; who gave it back calls this once that is committed."""
        async with self._granting:
            line = sorted(t for t in self._line if t.resource == resource and not t.granted.done())
            if not line:
                return
            now = self._clock.now()

            def statements(c: sa.Connection) -> list[Lease | None]:
                return [table.take(c, resource, t.slots, t.build, t.stage, t.reason, now) for t in line]

            for ticket, lease in zip(line, await self._store.write(statements), strict=True):
                if lease is None:
                    continue
                if ticket in self._line and not ticket.granted.done():
                    ticket.granted.set_result(lease)
                    self._line.remove(ticket)
                else:  # its waiter left while the row was written
                    await self._store.write(lambda c, lost=lease: table.release(c, lost, now))
