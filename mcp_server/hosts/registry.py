"""Every host of the configuration by name: opened when first asked for, kept, replaced when its entry changes."""

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from mcp_server.config import Config, Server
from mcp_server.config_rules import LOCAL
from mcp_server.errors import BadInput
from mcp_server.hosts.base import Host
from mcp_server.hosts.exec import ExecHost
from mcp_server.hosts.far import FarHost
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ssh import SshHost, SshOptions
from mcp_server.yaml_model import nearest

Close = Callable[[], Awaitable[None]]


class Hosts:
    """The hosts of one process. `environment` (default: this process's) says where ~/.ssh and the agent are."""

    def __init__(
        self, config: Config, environment: Mapping[str, str] | None = None, options: SshOptions | None = None
    ) -> None:
        self._config = config
        self._environment = dict(os.environ if environment is None else environment)
        self._options = options
        self._open: dict[str, Host] = {}
        self._meant: Mapping[str, Sequence[str]] | None = None  # by every text that means some hosts
        self._retired: set[Close] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def names(self) -> Sequence[str]:
        """`local`, then the servers in the configuration's order."""
        return [LOCAL, *(name for name in self._config.servers if name != LOCAL)]

    def resolve(self, reference: str) -> Sequence[str]:
        """The hosts meant by a name, else by an alias, else by a tag. BadInput names the nearest known one."""
        if self._meant is None:
            self._meant = self._references()
        if reference not in self._meant:
            raise BadInput("host", f"no server '{reference[:60]}'{nearest(reference, list(self._meant))}")
        return self._meant[reference]

    def _references(self) -> Mapping[str, Sequence[str]]:
        """The hosts of each name, alias and tag: a name goes before an alias of the same text, that before a tag."""
        servers = {name: self.server(name) for name in self.names()}
        aliases: dict[str, list[str]] = {}
        tags: dict[str, list[str]] = {}
        for name, server in servers.items():
            if server.alias:
                aliases.setdefault(server.alias, []).append(name)
            for tag in dict.fromkeys(server.tags):
                tags.setdefault(tag, []).append(name)
        meant: dict[str, Sequence[str]] = {name: [name] for name in servers}
        return {**meant, **{k: v for k, v in (tags | aliases).items() if k not in meant}}

    def server(self, name: str) -> Server:
        """The configuration's entry. BadInput for an unknown name."""
        if name == LOCAL:
            return self._config.local
        if name not in self._config.servers:
            raise BadInput("host", f"no server '{name[:60]}'{nearest(name, list(self.names()))}")
        return self._config.servers[name]

    def get(self, name: str) -> Host:
        """The host of this very name; nothing is dialled until it is used. BadInput for an unknown name."""
        if name not in self._open:
            self._open[name] = self._make(name, self.server(name))
        return self._open[name]

    def opened(self) -> Mapping[str, Host]:
        """Those that were asked for in this process."""
        return dict(self._open)

    def slots(self, name: str) -> int:
        """How many stages may run there at once."""
        return self.server(name).slots or self._config.defaults.parallel_limit

    def update(self, config: Config) -> None:
        """Take over a changed configuration. A host whose way there changed is made anew when next asked for.

        The old one serves whoever still holds it, and is closed when nobody does.
        """
        self._meant = None
        before, self._config = {name: self.server(name) for name in self._open}, config
        for name, old in before.items():
            new = config.local if name == LOCAL else config.servers.get(name)
            if name != LOCAL and (new is None or _way(new) != _way(old)):
                self._retire(self._open.pop(name))

    async def aclose(self) -> None:
        """Let go of every connection, also of retired hosts. Jobs run on."""
        hosts, self._open = list(self._open.values()), {}
        retired, self._retired = list(self._retired), set()
        await asyncio.gather(*(host.aclose() for host in hosts), *(close() for close in retired), *self._closing)

    def _make(self, name: str, server: Server) -> Host:
        if name == LOCAL:
            return LocalHost(self._config.jobs_dir)
        if server.exec:
            return ExecHost(name, server.exec, self._environment, server.jobs_dir)
        return SshHost(name, server, self._environment, self._options)

    def _retire(self, host: Host) -> None:
        assert isinstance(host, FarHost)
        close = host.closer()
        self._retired.add(close)
        with suppress(RuntimeError):  # without a loop nothing can have been opened
            loop = asyncio.get_running_loop()
            weakref.finalize(host, loop.call_soon_threadsafe, self._unused, close).atexit = False

    def _unused(self, close: Close) -> None:
        if close in self._retired:
            self._retired.remove(close)
            task = asyncio.ensure_future(close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _way(server: Server) -> tuple[object, ...]:
    """What of an entry a connection depends on."""
    return server.host, server.user, server.port, server.exec, server.jobs_dir
