"""Events to many readers: one look into the store for all of them, and a cursor each.

A reader that is slow holds nothing up and costs nothing: it finds what it missed in the store.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from mcp_server.following import new_events
from mcp_server.model import Event

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

KEPT = 5000  # newest events in memory
PAGE = 500  # events that one look into the store gives at most


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it goes over the wire: encoded once for everybody."""

    id: int
    build: int | None
    text: str


def encode(event: Event) -> Told:
    """The event's own data with its id, type, build and time."""
    whole = {**event.data, "id": event.id, "type": event.type, "build": event.build, "ts": event.ts.isoformat()}
    return Told(event.id, event.build, json.dumps(whole, separators=(",", ":")))


class Feed:
    """Follows the store of one orchestrator while the service runs."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self._told: deque[Told] = deque(maxlen=KEPT)
        self._last = 0
        self._more = asyncio.Event()
        self._ended = False
        self.ended = asyncio.Event()
        """Readers who are just being written to, and take nothing, are let go by it."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin at the newest event there is."""
        self._last = await self._orchestrator.last_event()
        self._task = asyncio.create_task(self._follow(), name="event feed")

    def end(self) -> None:
        """Let all readers go; a service that stops waits for them."""
        self._ended = True
        self._more.set()
        self.ended.set()

    async def aclose(self) -> None:
        """Stop following."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    @property
    def last(self) -> int:
        """The id of the newest event that was seen."""
        return self._last

    async def _follow(self) -> None:
        async with contextlib.aclosing(new_events(self._orchestrator, self._last)) as batches:
            async for found in batches:
                self._told.extend(encode(event) for event in found)
                self._last = found[-1].id
                self._more.set()
                self._more = asyncio.Event()

    async def after(self, cursor: int, build: int | None = None) -> AsyncGenerator[Told]:
        """Events above `cursor`, oldest first, of one build or all, each once; then those that come."""
        while True:
            more, last = self._more, self._last
            if cursor >= self._floor:
                found = list(takewhile(lambda told, seen=cursor: told.id > seen, reversed(self._told)))[::-1]
                cursor = max(cursor, last)
            else:
                rows = await self._orchestrator.events(cursor, build=build)
                found = [encode(event) for event in rows]
                # A page that is not full holds all there was, so also all up to `last`.
                cursor = max(found[-1].id if found else cursor, cursor if len(found) >= PAGE else last)
            for told in found:
                if build in (None, told.build):
                    yield told
            if cursor >= self._last and not self._ended:
                await more.wait()
            if self._ended:
                return

    @property
    def _floor(self) -> int:
        """Above this id memory has every event."""
        return self._told[0].id - 1 if self._told else self._last
