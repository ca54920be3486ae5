"""The dispatch of a home's only worker: its lock makes every open row its own."""

import asyncio
from collections.abc import Sequence

from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.services import Services
from mcp_server.store.builds import OpenBuild
from mcp_server.turns import Limits, Turns, Waiting

MOST_BESIDE = 8  # transfers (imports, syncs), and waiting builds that are being cancelled: they wait for no limit


class Local:
    """Runs open builds as tasks of this process: as many as `queue` of config.yaml says, by turns.

    Transfers bring projects here. They are many small waits for a network and no work, so they run beside the builds.
    """

    def __init__(self, services: Services, served: Sequence[str] = ()) -> None:
        """`served`: projects that were served before this worker began, the longest ago first."""
        self._services = services
        self._runs: dict[int, tuple[BuildRun, asyncio.Task[None]]] = {}
        self._turns = Turns(_limits(services), served=served)
        self._transfers = Turns(Limits(builds=MOST_BESIDE))
        self._to_cancel: dict[int, OpenBuild] = {}
        self._cancelling: set[int] = set()  # tasks that only end a build that never began
        self._closed = False

    def dispatch(self, open_builds: Sequence[OpenBuild]) -> None:
        for row in open_builds:
            self._note(row)
        self._turns.limit(_limits(self._services))
        self._take()

    @property
    def busy(self) -> bool:
        return bool(self._runs or self.held_back)

    @property
    def held_back(self) -> bool:
        return bool(len(self._turns) or len(self._transfers) or self._to_cancel)

    def _note(self, row: OpenBuild) -> None:
        line = self._line(row.priority)
        if row.id in self._runs:
            if row.cancel_requested:
                self._runs[row.id][0].stop.set()
        elif row.running:  # before any that waits, and whatever the limits say: its jobs are there
            line.begin(row.project_id)
            self._services.begun.add(row.id)
            self._begin(row.id, row.project_id, line)
        elif row.cancel_requested:
            line.remove(row.id)
            self._to_cancel[row.id] = row
        else:
            line.add(Waiting(row.id, row.project_id, row.priority))

    def _line(self, priority: int) -> Turns:
        return self._transfers if priority < 0 else self._turns

    def _take(self) -> None:
        while self._to_cancel and len(self._cancelling) < MOST_BESIDE:
            row = self._to_cancel.pop(next(iter(self._to_cancel)))
            self._cancelling.add(row.id)
            self._begin(row.id, row.project_id, None)
        for line in (self._transfers, self._turns):
            while (found := line.next()) is not None:
                self._begin(found.id, found.project, line)

    def _begin(self, build: int, project: str, line: Turns | None) -> None:
        """Run a build; `line` counts it and is told of its end."""
        self._services.leases.fair.belongs(build, project)
        run = BuildRun(self._services, build)
        task = asyncio.create_task(run.run())
        self._runs[build] = (run, task)
        task.add_done_callback(lambda _: self._over(build, project, line))

    def _over(self, build: int, project: str, line: Turns | None) -> None:
        self._runs.pop(build, None)
        self._services.begun.discard(build)
        self._services.leases.fair.gone(build)
        self._cancelling.discard(build)
        if line is not None:
            line.end(project)
        if not self._closed:
            self._take()

    async def aclose(self) -> None:
        self._closed = True
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _limits(services: Services) -> Limits:
    queue = services.config.queue
    return Limits(queue.builds, queue.per_project)
