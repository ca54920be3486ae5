"""What comes before a stage's files and job: its host answers, and a synced tree is this build's alone."""

import asyncio
from collections.abc import Awaitable, Callable

from mcp_server.engine.leases import LeaseLine
from mcp_server.hosts.base import Host
from mcp_server.model import Build, Lease

SHOWN_S = 1  # a host that takes longer to answer is worth a word

Tell = Callable[[str], Awaitable[None]]


async def reach(host: Host, tell: Tell) -> None:
    """Return once the host answers. HostUnreachable: nothing was asked of it, so another may take its place."""
    reaching = asyncio.ensure_future(host.directory())
    try:
        done, _ = await asyncio.wait({reaching}, timeout=SHOWN_S)
        if not done:
            await tell(f"reaching host {host.name}")
        await reaching
    finally:
        reaching.cancel()
        await asyncio.wait({reaching})


class Trees:
    """The synced trees of one build: another build's sync would change what its jobs read. Its stages share them."""

    def __init__(self, line: LeaseLine, build: Build) -> None:
        self._line, self._build = line, build
        self._held: dict[str, asyncio.Task[Lease]] = {}

    async def hold(self, resource: str, tell: Tell) -> None:
        """Return when the tree is this build's, until the build ends."""
        if resource not in self._held:
            self._held[resource] = asyncio.create_task(self._line.acquire_one(resource, build=self._build))
        holding = self._held[resource]
        done, _ = await asyncio.wait({holding}, timeout=SHOWN_S)
        if not done:
            await tell("waiting for the synced tree, which another build uses")
        await asyncio.shield(holding)

    async def aclose(self) -> None:
        """Stop waiting; what is held goes with the build."""
        for task in self._held.values():
            task.cancel()
        if self._held:
            await asyncio.wait(self._held.values())
