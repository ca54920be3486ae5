"""What the parts of a worker share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcp_server.clock import Clock
from mcp_server.config import Config
from mcp_server.engine.leases import LeaseLine
from mcp_server.errors import BadInput
from mcp_server.hosts.base import Host
from mcp_server.store.database import Store


@dataclass
class Services:
    """One worker's store, hosts, time and leases."""

    config: Config
    store: Store
    clock: Clock
    hosts: Mapping[str, Host]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __post_init__(self) -> None:
        self.leases = LeaseLine(self.store, self.clock)

    def host(self, name: str) -> Host:
        """The host of this name. BadInput: unknown."""
        if name not in self.hosts:
            raise BadInput("host", f"{name!r} is unknown; known: {', '.join(sorted(self.hosts))}")
        return self.hosts[name]

    def slots(self, name: str) -> int:
        """How many jobs a host may run at once."""
        server = self.config.servers.get(name)
        return (server.slots if server else None) or self.config.defaults.parallel_limit
