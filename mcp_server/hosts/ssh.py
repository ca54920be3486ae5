"""A host behind SSH. asyncssh is imported when the first connection is made, and outside the event loop."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.config import Server
from mcp_server.hosts.base import Channel
from mcp_server.hosts.far import FarHost, FarShell

if TYPE_CHECKING:
    from mcp_server.hosts.ssh_config import Sources
    from mcp_server.hosts.ssh_pool import Pool


@dataclass(frozen=True)
class SshOptions:
    """What the settings do not say, or a test wants otherwise; None: as in the ssh configuration, else the default.

    `ssh_config` stands in for ~/.ssh/config and the system's; times in seconds.
    """

    ssh_config: Path | None = None
    keepalive_s: float | None = None
    keepalives: int = 3
    connect_s: float | None = None
    backoff_s: Sequence[float] = (0.5, 1.0)
    idle_s: float = 60.0


class SshShell(FarShell):
    """The Shell port through a pool of connections."""

    def __init__(
        self,
        name: str,
        server: Server,
        environment: Mapping[str, str] | None = None,
        options: SshOptions | None = None,
    ) -> None:
        super().__init__(name, server.jobs_dir)
        self._server = server
        self._environment = os.environ if environment is None else environment
        self._options = options or SshOptions()
        self._making = asyncio.Lock()
        self.pool: Pool | None = None
        self._closed = False

    async def run(self, program: str) -> Channel:
        pool = self.pool or await self._made()
        return await pool.run(f"sh -c '{program}'")

    async def aclose(self) -> None:
        self._closed = True
        async with self._making:
            if self.pool:
                await self.pool.aclose()

    async def _made(self) -> "Pool":
        async with self._making:
            if self.pool is None:
                await asyncio.to_thread(import_module, "mcp_server.hosts.ssh_pool")  # a tenth of a second
                self.pool = _pool(self.name, self._server, self._environment, self._options)
                if self._closed:
                    await self.pool.aclose()
            return self.pool


class SshHost(FarHost):
    """The Host port over SSH, by the user's ~/.ssh/config; `server` has the last word on host, user and port."""

    def __init__(
        self,
        name: str,
        server: Server,
        environment: Mapping[str, str] | None = None,
        options: SshOptions | None = None,
    ) -> None:
        self.shell: SshShell
        super().__init__(SshShell(name, server, environment, options))


def sources_of(environment: Mapping[str, str], options: SshOptions) -> "Sources":
    """Where the settings of a connection come from."""
    from mcp_server.hosts.ssh_config import Keepalive, Sources  # noqa: PLC0415

    keepalive = Keepalive(options.keepalive_s, options.keepalives) if options.keepalive_s else None
    return Sources(environment, options.ssh_config, keepalive, options.connect_s)


def _pool(name: str, server: Server, environment: Mapping[str, str], options: SshOptions) -> "Pool":
    from mcp_server.hosts.ssh_pool import Pool  # noqa: PLC0415

    sources = sources_of(environment, options)
    return Pool(name, server, sources, backoff_s=options.backoff_s, idle_s=options.idle_s)
