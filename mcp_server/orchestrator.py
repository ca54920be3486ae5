"""Every operation that a front can ask for, once. Fronts parse, call and render; nothing here prints."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mcp_server import build_logs, plans, references, scopes
from mcp_server.build_statistics import Stats
from mcp_server.clock import Clock, SystemClock
from mcp_server.config import Config
from mcp_server.config_file import ConfigFile
from mcp_server.config_rules import LOCAL
from mcp_server.engine import signals, start
from mcp_server.engine.changes import Change, changes
from mcp_server.engine.together import Together
from mcp_server.errors import BadInput, Conflict, NotAgreed, NotFound
from mcp_server.facets import Facets
from mcp_server.hosts.base import Host
from mcp_server.idf.installation import Installation
from mcp_server.logs import LogSlice, Wish
from mcp_server.machines import HostView, Machines
from mcp_server.model import Build, BuildStatus, Event, Plan, Project
from mcp_server.orders import Order, Orders, RemoteAsk
from mcp_server.pipelines.pipeline import Pipeline
from mcp_server.store import builds, cancelling, events, stats
from mcp_server.store.database import Store
from mcp_server.views import BuildView, Started, build_view

if TYPE_CHECKING:
    from mcp_server.crew import Crew
    from mcp_server.idf.doctor import Check

UPDATE_S = 0.1  # a view costs milliseconds, and a starting build changes many times in a blink
POKE_S = 3  # whoever waits for a build wakes the worker this often: a killed one has nobody else to start the next

OnUpdate = Callable[[BuildView], Awaitable[None]]


class Orchestrator(Facets):
    """One home's operations. Many fronts, each with an Orchestrator of its own, share the home."""

    def __init__(
        self, config: Config, *, clock: Clock | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.environment = dict(os.environ if environment is None else environment)
        self._file = ConfigFile(config, self.environment)
        self._store: Store | None = None
        self.machines = Machines(config, self.environment, self.clock)
        self.orders = Orders(config, self.machines.hosts, self.environment)
        self._opening = asyncio.Lock()
        self._poking: Together[str, None] = Together(self._poke)

    async def store(self) -> Store:
        """The database, opened and brought up to date on first use."""
        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(self._open)
        return self._store

    def _open(self) -> Store:
        home = self.config.make_home()
        store = Store(self.config.database_url, home, lambda: signals.announce(home), self.clock.agree)
        start.make_ready(home, store)
        return store

    async def aclose(self) -> None:
        """Let everything go; builds run on."""
        await self.machines.aclose()
        if self._store is not None:
            await self._store.aclose()

    async def refresh(self) -> None:
        """Take over a config.yaml that changed since this process began. ConfigError: it has mistakes now."""
        if (changed := await asyncio.to_thread(self._file.changed)) is not None:
            self.config = changed
            self.machines.hosts.update(changed)
            self.orders = Orders(changed, self.machines.hosts, self.environment)

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
        order = await self.order_build(project, target=target, clean=clean, host=host)
        return await self.start(order, triggered_by)

    async def order_build(self, project: str, *, target: str | None, clean: bool, host: str) -> Order:
        """What `start_build` would start. Raises what that does."""
        await self.refresh()
        return await asyncio.to_thread(self.orders.idf_build, Path(project), target=target, clean=clean, host=host)

    async def start_remote(self, ask: RemoteAsk, *, triggered_by: str = "manual") -> Started:
        """Run a command, or the host's `build` with a task, on the host that a name, alias or tag means.

        With a project, a folder of this machine, its tree is synced there first. BadInput: unknown host, both or
        neither of task and command, no folder to work in, an unusable duration.
        """
        await self.refresh()
        return await self.start(await asyncio.to_thread(self.orders.remote, ask), triggered_by)

    async def read_pipeline(
        self, *, path: str | None = None, text: str | None = None, params: Mapping[str, Any] | None = None
    ) -> Pipeline:
        """A pipeline, checked and worked out, from a file or from text. PipelineError: every mistake in it."""
        await self.refresh()
        return await asyncio.to_thread(self.orders.read_pipeline, path, text, params or {})

    async def start_pipeline(
        self, pipeline: Pipeline, folder: Path, *, triggered_by: str = "manual", agreed: bool = False, **how: Any
    ) -> Started:
        """Run a pipeline; its relative paths start from `folder`. `how`: priority and key, as `start`.

        BadInput, EnvironmentMissing: of its `uses`. NotAgreed, Conflict: as `start_plan`.
        """
        order = await asyncio.to_thread(self.orders.pipeline, pipeline, folder)
        if order.plan.fix is not None:
            await self.workflows.check_agent(order.plan.fix)
        return await self.start(order, triggered_by, agreed=agreed, **how)

    async def start(
        self,
        order: Order,
        triggered_by: str = "manual",
        *,
        agreed: bool = False,
        priority: int = 10,
        key: str | None = None,
    ) -> Started:
        """Start what was ordered; once only for one `key`. NotAgreed, Conflict: as `start_plan`."""
        return await self.start_plan(
            order.folder,
            order.plan,
            name=order.name,
            target=order.target,
            triggered_by=triggered_by,
            project_name=order.project_name,
            retry_of=order.retry_of,
            agreed=agreed,
            priority=priority,
            key=key,
        )

    async def start_plan(
        self,
        folder: str | Path,
        plan: Plan,
        *,
        name: str,
        target: str | None = None,
        triggered_by: str = "manual",
        project_name: str | None = None,
        retry_of: int | None = None,
        agreed: bool = False,
        priority: int = 10,
        key: str | None = None,
    ) -> Started:
        """Start any plan in a folder; the row is committed before the worker is woken.

        NotAgreed: it overwrites a board, and nobody was asked (`agreed`). Conflict, Forbidden: it may not.
        """
        scopes.need(plans.needs(plan))
        if (question := self.orders.question(plan)) is not None and not agreed:
            raise NotAgreed(question)
        store, now = await self.store(), self.clock.now()
        args_key, resolve = plans.args_key(name, plan), self.machines.hosts.resolve
        place = await asyncio.to_thread(start.place_for, plan, store, self.config.home, resolve)

        def statements(c: builds.sa.Connection) -> tuple[Build, bool]:
            project = builds.ensure_project(c, str(folder), project_name or Path(folder).name, now, target)
            return builds.insert_build(
                c,
                project,
                plan,
                name=name,
                args_key=args_key,
                priority=priority,
                idempotency_key=key,
                now=now,
                target=target,
                triggered_by=triggered_by,
                retry_of=retry_of,
                place=place,
            )

        build, joined = await store.write(statements)
        await self.poke()
        return Started(build, joined)

    async def retry(self, reference: int | str, *, failed_only: bool = True, agreed: bool = False) -> Started:
        """A new build of the same plan, linked by `retry_of`; `failed_only` leaves out the stages that passed.

        Conflict: only failed and cancelled builds can be retried, of a project that was not removed. NotAgreed: as
        `start_plan`.
        """
        await self.refresh()
        view = await self.get(reference)
        build = view.build
        if view.project.reason == builds.REMOVED:
            raise Conflict(f"project {view.project.name} of build {build.id} was removed: import it, then build it")
        return await self.start_plan(
            view.project.path,
            self.orders.again(build, view.stages, failed_only=failed_only),
            agreed=agreed,
            name=build.name,
            target=build.target,
            triggered_by="retry",
            priority=build.priority,
            project_name=view.project.name,
            retry_of=build.id,
        )

    async def cancel(self, reference: int | str, *, force: bool = False) -> BuildView:
        """Ask for a build's end. Its jobs are gone within two seconds; `wait` tells when. Conflict: it is over.

        Those on a machine that is away are ended when it is back; with `force` the build ends without them.
        """
        build, now = await self._build(reference), self.clock.now()
        store = await self.store()
        if not await store.write(lambda c: cancelling.ask(c, build.id, now, force=force)):
            raise Conflict(f"build {build.id} is over already: {build.status}")
        await self.poke()
        return await self.get(build.id)

    async def poke(self) -> None:
        """Wake this home's worker, or start one."""
        await self._poking.ask("")

    async def _poke(self, _: str) -> None:
        await asyncio.to_thread(start.poke, self.config.home, await self.store())

    # -- looking -----------------------------------------------------------------------------------------------------

    async def get(self, reference: int | str) -> BuildView:
        """A build as it is now; of an open one the worker is woken, as it may have been killed. NotFound: none such."""
        view = await self._view(reference)
        if view.build.status.is_open:
            await self.poke()
        return view

    async def _view(self, reference: int | str) -> BuildView:
        build, now = await self._build(reference), self.clock.now()
        slots = self.machines.slots
        return await self.queue.placed(await (await self.store()).read(lambda c: build_view(c, build.id, now, slots)))

    async def wait(self, reference: int | str, timeout_s: float, on_update: OnUpdate | None = None) -> BuildView:
        """The build once it is over, or as it is after `timeout_s`. Cancelling the wait leaves the build running."""
        build = await self._build(reference)
        deadline = self.clock.monotonic() + timeout_s
        store, told, poked = await self.store(), float("-inf"), self.clock.monotonic()
        if build.status.is_open:
            await self.poke()
        async with self.changes() as changed:
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

    @contextlib.asynccontextmanager
    async def changes(self) -> AsyncGenerator[Change]:
        """What arrives whenever a row may have changed; look once more after entering."""
        async with changes(await self.store(), self.config.home) as change:
            yield change

    async def list(
        self, *, project: str | None = None, status: str | None = None, limit: int = 10, below: int | None = None
    ) -> Sequence[Build]:
        """The newest builds first, of those with a smaller number than `below`. BadInput: unknown status or project."""
        if status is not None and status not in list(BuildStatus):
            raise BadInput("status", f"{status[:40]!r} is none of {', '.join(BuildStatus)}")
        store = await self.store()
        project_id = (await self.find_project(project)).id if project is not None else None
        found = await store.read(
            lambda c: builds.list_builds(c, project_id=project_id, status=status, limit=limit, below=below)
        )
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

    async def last_event(self) -> int:
        """The id of the newest event, 0 where there is none."""
        return await (await self.store()).read(events.last_id)

    async def log(self, reference: int | str, stage: str | None = None, **wish: Unpack[Wish]) -> LogSlice:
        """A slice of a stage's log; of the stage that failed, else of the last one, where none is named.

        NotFound: there is none, or it is on another machine and was not kept where it could be had from here.
        """
        return await build_logs.log(self, reference, stage, **wish)

    async def follow_log(self, reference: int | str, stage: str | None, write: Callable[[bytes], None]) -> None:
        """Write a stage's log from its first byte until its job is over. Cancelling stops the reading only."""
        await build_logs.follow(self, reference, stage, write)

    async def doctor(
        self, project: str | None = None, *, port: str | None = None, host: str = "local", named: bool = True
    ) -> "Sequence[Check]":
        """What is here, what is missing, and the command that mends it; of another host its boards.

        A board is asked only where its `port` is named: that resets it. Not `named`: nobody said that `project` is one.
        """
        from mcp_server import check_up, crew  # noqa: PLC0415 - asked for seldom, and slow to load

        scopes.need("flash" if port else "read")
        if (name := self.machines.hosts.resolve(host)[0]) != LOCAL:
            return await self.machines.boards(name, port)
        folder, here = Path(project) if project else None, self.host(name)
        checks = await check_up.examine(self.config, self.environment, folder, port, here, named=named)
        return [*checks, *await self.kept.checks(), *await crew.checks(self)]

    async def installation(self, folder: Path | None = None) -> Installation:
        """The ESP-IDF that a build started now would use. EnvironmentMissing: none; the demo needs none."""
        return await asyncio.to_thread(self.orders.installation, folder)

    def host(self, name: str) -> Host:
        """A host by its name. BadInput: unknown."""
        return self.machines.hosts.get(name)

    async def look_at_hosts(self, name: str | None = None, *, check: bool = True) -> Sequence[HostView]:
        """The hosts that a name, alias or tag means, or all of them; with `check` each is asked how it is.

        BadInput: unknown. A host that does not answer says so in its view and keeps nobody waiting for the others.
        """
        from mcp_server import crew  # noqa: PLC0415 - asked for seldom

        await self.refresh()
        return await self.machines.look(name, await crew.held(self), check=check)

    async def crew(self) -> "Crew":
        """The workers: of all machines that share the store, or the one of this home."""
        from mcp_server import crew  # noqa: PLC0415 - asked for seldom

        return await crew.look(self)

    async def stats(self, project: str | None = None) -> Stats:
        """Counts, durations, failures by first cause: of one project or of all. NotFound: unknown project."""
        found = await self.find_project(project) if project is not None else None
        now, number = self.clock.now(), found and found.id
        return await (await self.store()).read(lambda c: stats.build_stats(c, now, number))

    async def _build(self, reference: int | str) -> Build:
        number = references.build_number(reference)
        found = await (await self.store()).read(lambda c: builds.find_build(c, number))
        if found is None:
            raise NotFound(f"there is no build {number}")
        return found
