"""What the parts of a worker share."""

import asyncio
import logging
import os
from collections.abc import Container, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_server.clock import Clock
from mcp_server.config import Config
from mcp_server.config_file import ConfigFile
from mcp_server.engine.callbacks import Callbacks
from mcp_server.engine.fair import Begun, Fair
from mcp_server.engine.leases import Choice, LeaseLine, Pool
from mcp_server.engine.source import read_commit
from mcp_server.engine.together import Together
from mcp_server.engine.traces import Traces
from mcp_server.engine.uploads import Uploads
from mcp_server.errors import BadInput, ConfigError, HostUnreachable
from mcp_server.hosts.base import Host
from mcp_server.hosts.registry import Hosts
from mcp_server.model import StageSpec
from mcp_server.notify import Notifier
from mcp_server.places import at
from mcp_server.secret_store import Secrets
from mcp_server.store.archive import Archive
from mcp_server.store.builds import get_project
from mcp_server.store.database import Store
from mcp_server.store.events import append

log = logging.getLogger(__name__)

HOST = "host:"
COMMITS_S = 0.05  # between two looks at a folder that many builds are made of: each starts Git once or twice
MOST_FOLDERS = 1_000
CLOSE_S = 5  # for the last notifications of a leaving worker


@dataclass
class Services:
    """One worker's store, hosts, time and leases."""

    config: Config
    store: Store
    clock: Clock
    hosts: Hosts
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    machine: str | None = None
    """Of a store that machines share: which of them this one is."""

    def __post_init__(self) -> None:
        self.begun = Begun()  # builds whose row says `running`
        self.leads = not self.store.is_shared  # of several workers one does what is to be done once
        self.leases = LeaseLine(self.store, self.clock, Fair(self.begun), self.machine)
        self.archive = Archive(self.config.artifacts_dir)
        self.secrets = Secrets(self.config, self.environment)
        self.notifier = Notifier(
            self.config.notifications, self.secrets, self.clock, undelivered=self._note_undelivered
        )
        self.callbacks = Callbacks(self)
        self.uploads = Uploads(self)
        self.traces = Traces(self)
        self._folders: dict[str, str] = {}
        self._places: dict[tuple[str, ...], Pool] = {}
        self._places_of = self.config
        self._later: set[asyncio.Task[None]] = set()
        self._file = ConfigFile(self.config, self.environment)
        self._refreshing = Together(self._refresh)
        self.commits = Together(read_commit, COMMITS_S)  # of a folder

    async def refresh(self) -> None:
        """Take over a config.yaml that changed. One with mistakes changes nothing: fronts refuse it in words."""
        await self._refreshing.ask(self._file)

    async def _refresh(self, file: ConfigFile) -> None:
        try:
            changed = await asyncio.to_thread(file.changed)
        except ConfigError as error:
            log.warning("config.yaml is not taken over: %s", error)
            return
        if changed is None:
            return
        self.config = changed
        self.hosts.update(self.config)
        self.secrets = Secrets(self.config, self.environment)
        self.notifier.update(self.config.notifications, self.secrets)

    async def aclose(self) -> None:
        """Let hosts and channels go; jobs run on."""
        await self.leases.aclose()
        await self.notifier.aclose(CLOSE_S)
        for task in (left := set(self._later)):
            task.cancel()
        if left:
            await asyncio.wait(left)
        await self.hosts.aclose()

    def _note_undelivered(self, build: int, sentence: str) -> None:
        """A channel that delivers nothing is named in the build's record; the build goes on."""
        now = self.clock.now()
        self.later(self.store.write(lambda c: append(c, "notification.failed", build, now, {"message": sentence})))

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what nobody waits for. Cut short when the worker leaves."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def host(self, name: str) -> Host:
        """The host of this name. BadInput: unknown."""
        return self.hosts.get(name)

    async def host_of_job(self, name: str) -> Host:
        """The host that a job was started on. HostUnreachable where config.yaml does not name it any more."""
        await self.refresh()
        try:
            return self.hosts.get(name)
        except BadInput as error:
            raise HostUnreachable(name, "is not in config.yaml any more: put it back, or cancel the build") from error

    async def folder_of(self, project_id: str) -> str:
        """Where a project is: that never changes. StoreError."""
        if (known := self._folders.get(project_id)) is None:
            known = (await self.store.read(lambda c: get_project(c, project_id))).path
            if len(self._folders) >= MOST_FOLDERS:
                self._folders.clear()
            self._folders[project_id] = known
        return known

    def places(self, spec: StageSpec, down: Container[str] = ()) -> Pool:
        """Where a stage may run, the preferred first; the `fallback` of a host that is down in its place.

        Without any down, stages that may run in the same places have the same object. BadInput: an unknown name,
        alias or tag.
        """
        if self._places_of is not self.config:
            self._places, self._places_of = {}, self.config
        wanted = (spec.host, *spec.hosts)
        if down:
            return self._find_places(wanted, down)
        if wanted not in self._places:
            self._places[wanted] = self._find_places(wanted, ())
        return self._places[wanted]

    def _find_places(self, wanted: Sequence[str], down: Container[str]) -> Pool:
        names: dict[str, int] = {}
        for order, reference in enumerate(wanted):
            for name in self.hosts.resolve(reference):
                names.setdefault(name, order)
        for first, order in list(names.items()):
            name: str | None = first
            while name in down and (name := self.hosts.server(name).fallback) and name not in names:
                names[name] = order
        return Pool(
            Choice(f"{HOST}{at(name, self.machine)}", self.hosts.slots(name), order)
            for name, order in names.items()
            if name not in down
        )
