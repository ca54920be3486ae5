"""What comes before a stage's files and job: its host answers, and what only one build may use is this one's."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mcp_server.clock import Clock
from mcp_server.engine.delayed import Delayed
from mcp_server.engine.leases import LeaseLine
from mcp_server.hosts.base import Host
from mcp_server.model import Build, Lease

SHOWN_S = 1  # a host that takes longer to answer is worth a word
TAKEN_S = 0.2  # what is free is had sooner

Tell = Callable[[str], Coroutine[Any, Any, None]]


async def reach(host: Host, clock: Clock, tell: Tell) -> None:
    """Return once the host answers. HostUnreachable: nothing was asked of it, so another may take its place."""
    word = Delayed(clock, SHOWN_S, lambda: tell(f"reaching host {host.name}"))
    try:
        await host.directory()
        await word.finish()
    finally:
        await word.aclose()


class Belongings:
    """What a build has for itself from its first use to its end: synced trees, serial ports. Its stages share them."""

    def __init__(self, line: LeaseLine, build: Build) -> None:
        self._line, self._build = line, build
        self._held: dict[str, asyncio.Task[Lease]] = {}

    async def hold(self, resource: str, what: str, tell: Tell) -> None:
        """Return when `resource` is this build's, until the build ends; `what` says in words what is waited for."""
        if resource not in self._held:
            self._held[resource] = asyncio.create_task(self._line.acquire_one(resource, build=self._build))
        holding = self._held[resource]
        done, _ = await asyncio.wait({holding}, timeout=TAKEN_S)
        if not done:
            number = await self._line.holder_of(resource)
            await tell(f"waiting for {what}, which {'another build' if number is None else f'build {number}'} uses")
        await asyncio.shield(holding)

    async def aclose(self) -> None:
        """Stop waiting; what is held goes with the build."""
        for task in self._held.values():
            task.cancel()
        if self._held:
            await asyncio.wait(self._held.values())
