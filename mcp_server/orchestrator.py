"""Every operation that a front can ask for, once. Fronts parse, call and render; nothing here prints."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import plans, references
from mcp_server.clock import Clock, SystemClock
from mcp_server.config import Config
from mcp_server.demo.place import is_demo_project, simulated_installation
from mcp_server.engine import signals, start
from mcp_server.errors import BadInput, Conflict, EnvironmentMissing, HostError, NotFound
from mcp_server.hosts.base import Host
from mcp_server.hosts.local import LocalHost
from mcp_server.idf.environment import choose_installation, find_installations
from mcp_server.idf.installation import Installation, checked_target, read_version
from mcp_server.idf.project import inspect_project
from mcp_server.logs import LogSlice, slice_log
from mcp_server.model import Artifact, Build, BuildStatus, Event, Lease, Plan, Project, Stage
from mcp_server.store import artifacts, builds, events, leases
from mcp_server.store.database import Store

if TYPE_CHECKING:
    from mcp_server.idf.doctor import Check

UPDATE_S = 0.1  # a view costs milliseconds, and a starting build changes many times in a blink
POKE_S = 3  # whoever waits for a build wakes the worker this often: a killed one has nobody else to start the next


@dataclass(frozen=True, slots=True)
class Started:
    """A build that was asked for. `joined`: the same one was pending already."""

    build: Build
    joined: bool


@dataclass(frozen=True, slots=True)
class BuildView:
    """A build as a front shows it: its row, its stages, its project, and what a pending one waits for.

    `typical_s` is the median duration of the same build's last successes, None where there are none.
    """

    build: Build
    project: Project
    stages: Sequence[Stage]
    artifacts: Sequence[Artifact] = ()
    blocked_by: Sequence[Lease] = ()
    typical_s: float | None = None
    elapsed_s: float = 0


OnUpdate = Callable[[BuildView], Awaitable[None]]


class Orchestrator:
    """One home's operations. Many fronts, each with an Orchestrator of its own, share the home."""

    def __init__(
        self, config: Config, *, clock: Clock | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.environment = dict(os.environ if environment is None else environment)
        self._store: Store | None = None
        self._hosts: dict[str, Host] = {}
        self._opening = asyncio.Lock()

    async def store(self) -> Store:
        """The database, opened and brought up to date on first use."""
        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(self._open)
        return self._store

    def _open(self) -> Store:
        home = self.config.make_home()
        store = Store(self.config.database_url, home, lambda: signals.announce(home))
        start.make_ready(home, store)
        return store

    async def aclose(self) -> None:
        """Let everything go; builds run on."""
        for host in self._hosts.values():
            await host.aclose()
        if self._store is not None:
            await self._store.aclose()

    # -- starting ----------------------------------------------------------------------------------------------------

    async def start_build(
        self,
        project: str,
        *,
        target: str | None = None,
        clean: bool = False,
        host: str = "local",
        triggered_by: str = "manual",
    ) -> Started:
        """Start an ESP-IDF build, or join the pending one of the same directory and arguments.

        BadInput: no project, unknown target or host. EnvironmentMissing: no ESP-IDF. Returns before anything is run.
        """
        self._known_host(host)
        found = await asyncio.to_thread(inspect_project, Path(project))
        installation = await self.installation(found.path)
        chosen = None if target is None else await asyncio.to_thread(checked_target, installation, target)
        limit = self.config.defaults.timeout
        stage = plans.idf_build(found.path, installation, target=chosen, clean=clean, host=host, timeout_s=limit)
        return await self.start_plan(
            found.path,
            Plan(stages=(stage,)),
            name="idf_build",
            target=chosen or found.target,
            triggered_by=triggered_by,
            project_name=found.name,
        )

    async def start_plan(
        self,
        folder: Path,
        plan: Plan,
        *,
        name: str,
        target: str | None = None,
        triggered_by: str = "manual",
        project_name: str | None = None,
        retry_of: int | None = None,
    ) -> Started:
        """Start any plan in a folder; the row is committed before the worker is woken."""
        store, now = await self.store(), self.clock.now()
        key = plans.args_key(name, plan)

        def statements(c: builds.sa.Connection) -> tuple[Build, bool]:
            project = builds.ensure_project(c, str(folder), project_name or folder.name, now, target)
            return builds.insert_build(
                c,
                project,
                plan,
                name=name,
                args_key=key,
                now=now,
                target=target,
                triggered_by=triggered_by,
                retry_of=retry_of,
            )

        build, joined = await store.write(statements)
        await self.poke()
        return Started(build, joined)

    async def retry(self, reference: int | str, *, failed_only: bool = True) -> Started:
        """A new build of the same plan, linked by `retry_of`; `failed_only` leaves out the stages that passed.

        Conflict: only failed and cancelled builds can be retried.
        """
        view = await self.get(reference)
        build = view.build
        if build.status not in (BuildStatus.FAILED, BuildStatus.CANCELLED):
            raise Conflict(f"build {build.id} is {build.status}: only a failed or cancelled build can be retried")
        return await self.start_plan(
            Path(view.project.path),
            plans.unfinished(build.plan, view.stages, build.round) if failed_only else build.plan,
            name=build.name,
            target=build.target,
            triggered_by="retry",
            project_name=view.project.name,
            retry_of=build.id,
        )

    async def cancel(self, reference: int | str) -> BuildView:
        """Ask for a build's end. Its jobs are gone within two seconds; `wait` tells when. Conflict: it is over."""
        build, now = await self._build(reference), self.clock.now()
        store = await self.store()
        if not await store.write(lambda c: builds.request_cancel(c, build.id, now)):
            raise Conflict(f"build {build.id} is over already: {build.status}")
        await self.poke()
        return await self.get(build.id)

    async def poke(self) -> None:
        """Wake this home's worker, or start one."""
        await asyncio.to_thread(start.poke, self.config.home, await self.store())

    # -- looking -----------------------------------------------------------------------------------------------------

    async def get(self, reference: int | str) -> BuildView:
        """A build as it is now; of an open one the worker is woken, as it may have been killed. NotFound: none such."""
        view = await self._view(reference)
        if view.build.status.is_open:
            await self.poke()
        return view

    async def _view(self, reference: int | str) -> BuildView:
        build, store = await self._build(reference), await self.store()

        def statements(c: builds.sa.Connection) -> BuildView:
            stages = builds.stages_of(c, build.id)
            current = builds.get_build(c, build.id)
            return BuildView(
                build=current,
                project=builds.get_project(c, build.project_id),
                stages=stages,
                artifacts=[artifact for _, artifact in artifacts.artifacts_of(c, build.id)],
                blocked_by=_blockers(c, current, stages),
                typical_s=_median(builds.recent_durations(c, build.args_key)),
                elapsed_s=self._elapsed(current),
            )

        return await store.read(statements)

    async def wait(self, reference: int | str, timeout_s: float, on_update: OnUpdate | None = None) -> BuildView:
        """The build once it is over, or as it is after `timeout_s`. Cancelling the wait leaves the build running."""
        build = await self._build(reference)
        deadline = self.clock.monotonic() + timeout_s
        store, told, poked = await self.store(), float("-inf"), self.clock.monotonic()
        if build.status.is_open:
            await self.poke()
        async with signals.watch(self.config.home) as changed:
            while True:
                status, now = await store.read(lambda c: builds.status_of(c, build.id)), self.clock.monotonic()
                due = told + UPDATE_S
                if not status.is_open or now >= min(due, deadline):
                    view, told, due = await self._view(build.id), now, now + POKE_S
                    if on_update is not None:
                        await on_update(view)
                    if not view.build.status.is_open or now >= deadline:
                        return view
                with contextlib.suppress(TimeoutError):
                    pause = max(0.0, min(due, deadline, poked + POKE_S) - self.clock.monotonic())
                    await self.clock.within(pause, changed.wait())
                if self.clock.monotonic() >= poked + POKE_S:
                    poked = self.clock.monotonic()
                    await self.poke()

    async def list(self, *, project: str | None = None, status: str | None = None, limit: int = 10) -> Sequence[Build]:
        """The newest builds first. BadInput: unknown status or project."""
        if status is not None and status not in list(BuildStatus):
            raise BadInput("status", f"{status[:40]!r} is none of {', '.join(BuildStatus)}")
        store = await self.store()
        project_id = (await self.find_project(project)).id if project is not None else None
        found = await store.read(lambda c: builds.list_builds(c, project_id=project_id, status=status, limit=limit))
        if any(build.status.is_open for build in found):
            await self.poke()
        return found

    async def projects_of(self, listed: Sequence[Build]) -> Mapping[str, Project]:
        """The projects of some builds, by id."""
        ids = {build.project_id for build in listed}
        return await (await self.store()).read(lambda c: {i: builds.get_project(c, i) for i in ids})

    async def find_project(self, text: str) -> Project:
        """A known project by id, name or path. NotFound: unknown; BadInput: the name fits several."""
        store = await self.store()
        path = await asyncio.to_thread(references.real_path, text)
        found = await store.read(lambda c: builds.find_projects(c, text) or builds.find_projects(c, path))
        if not found:
            raise NotFound(f"project {text[:100]!r} is not known: nothing was built there yet")
        if len(found) > 1:
            raise BadInput("project", f"{text[:60]!r} fits {', '.join(p.path for p in found)[:300]}: give a path")
        return found[0]

    async def newest_events(self, reference: int | str, limit: int) -> Sequence[Event]:
        """The last events of a build, oldest of them first."""
        build, store = await self._build(reference), await self.store()
        return await store.read(lambda c: events.newest_events(c, build.id, limit))

    async def events(self, after: int, *, build: int | None = None) -> Sequence[Event]:
        """Events above an id, oldest first; none is ever missed by asking with the last id seen."""
        return await (await self.store()).read(lambda c: events.events_after(c, after, build_id=build))

    async def log(
        self,
        reference: int | str,
        stage: str | None = None,
        *,
        grep: str | None = None,
        around: int | None = None,
        tail: int | None = None,
        offset: int | None = None,
        max_bytes: int = 4000,
    ) -> LogSlice:
        """A slice of a stage's log; of the stage that failed, else of the last one, where none is named."""
        view = await self.get(reference)
        row = references.stage_with_log(view.build, view.stages, stage)
        assert row.job_id is not None
        host = self.host(row.host)
        try:
            return await slice_log(
                host, row.job_id, row.stage, grep=grep, around=around, tail=tail, offset=offset, max_bytes=max_bytes
            )
        except NotFound:
            if not row.status.is_open:
                raise
            return LogSlice(row.stage, "", note="nothing printed yet")  # its row is there, its job starts just now

    async def follow_log(self, reference: int | str, stage: str | None, write: Callable[[bytes], None]) -> None:
        """Write a stage's log from its first byte until its job is over. Cancelling stops the reading only."""
        view = await self.get(reference)
        row = references.stage_with_log(view.build, view.stages, stage)
        assert row.job_id is not None
        async for piece in self.host(row.host).follow(row.job_id):
            write(piece)

    # -- the machine -------------------------------------------------------------------------------------------------

    async def doctor(self, project: str | None = None, *, port: str | None = None) -> "Sequence[Check]":
        """What is here, what is missing, and the command that mends it."""
        from mcp_server.idf import doctor as idf_doctor  # noqa: PLC0415 - asked for seldom, and slow to load

        return await idf_doctor.examine(self.config, self.environment, Path(project) if project else None, port)

    async def installation(self, folder: Path | None = None) -> Installation:
        """The ESP-IDF that a build started now would use. EnvironmentMissing: none; the demo needs none."""
        return await asyncio.to_thread(self._installation, folder)

    def _installation(self, folder: Path | None) -> Installation:
        extra = [Path(self.config.local.idf_path)] if self.config.local.idf_path else []
        found = find_installations(self.environment, extra)
        try:
            return choose_installation(found, self.environment.get("ESP_IDF_VERSION"))
        except EnvironmentMissing:
            if folder is None or not is_demo_project(folder):
                raise
            idf = simulated_installation()
            version = read_version(idf) or "0"
            return Installation(
                path=idf, version=version, python=Path(sys.executable), tools_path=idf, source="simulated"
            )

    def host(self, name: str) -> Host:
        """A host by name. HostError: unknown."""
        if name not in self._hosts:
            if name != "local":
                raise HostError(name, "is not known here")
            self._hosts[name] = LocalHost(self.config.jobs_dir)
        return self._hosts[name]

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _build(self, reference: int | str) -> Build:
        number = references.build_number(reference)
        found = await (await self.store()).read(lambda c: builds.find_build(c, number))
        if found is None:
            raise NotFound(f"there is no build {number}: build_list shows those there are")
        return found

    def _known_host(self, host: str) -> None:
        if host != "local":
            raise BadInput("host", f"{host[:60]!r} is not known; known: local")

    def _elapsed(self, build: Build) -> float:
        if build.duration is not None:
            return build.duration
        return (self.clock.now() - (build.started_at or build.created_at)).total_seconds()


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _blockers(c: builds.sa.Connection, build: Build, stages: Sequence[Stage]) -> Sequence[Lease]:
    """Leases of other builds that a build with nothing running waits for."""
    if not build.status.is_open or any(stage.status.is_open for stage in stages):
        return ()
    others = [lease for lease in leases.holders(c) if lease.build != build.id]
    directories = {f"dir:{stage.host}:{stage.directory}" for stage in build.plan.stages}
    hosts = {f"host:{stage.host}" for stage in build.plan.stages}
    return [x for x in others if x.resource in directories] or [x for x in others if x.resource in hosts]
