"""Events without a store, and who waits for them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from mcp_server.model import Event


class Changed(asyncio.Event):
    """Waiting takes it back, as with the real one."""

    async def wait(self) -> Literal[True]:
        await super().wait()
        self.clear()
        return True


@dataclass
class Happenings:
    """What a test lets happen. `watchers` wait for more; `looks` were taken at the events."""

    happened: Sequence[Event] = ()
    watchers: int = 0
    looks: int = 0
    turned: Changed = field(default_factory=Changed)
    signal: Changed = field(default_factory=Changed)

    @contextlib.asynccontextmanager
    async def changes(self) -> AsyncGenerator[asyncio.Event]:
        """As the orchestrator's, `changed` being set by hand; `watchers` are in it."""
        self.watchers += 1
        self.turned.set()
        try:
            yield self.signal
        finally:
            self.watchers -= 1
            self.turned.set()

    def happen(self, build: int | None, times: int = 1) -> None:
        """Events of a build, and the signal that something changed."""
        for _ in range(times):
            self.happened = [
                *self.happened,
                Event(id=len(self.happened) + 1, type="x", build=build, ts=datetime.now(UTC)),
            ]
        self.signal.set()

    async def last_event(self) -> int:
        return len(self.happened)

    async def events(self, after: int) -> Sequence[Event]:
        self.looks += 1
        return [event for event in self.happened if event.id > after]
