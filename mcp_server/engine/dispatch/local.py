"""The dispatch of a home's only worker: its lock makes every open row its own."""

import asyncio
from collections.abc import Callable, Sequence

from mcp_server.engine.build_run import BuildRun
from mcp_server.engine.services import Services
from mcp_server.store.builds import OpenBuild

MOST_BUILDS = 200  # tasks at once; host slots say how many jobs run


class Local:
    """Runs open builds as tasks of this process."""

    def __init__(self, services: Services, ended: Callable[[], None]) -> None:
        self._services, self._ended = services, ended
        self._runs: dict[int, tuple[BuildRun, asyncio.Task[None]]] = {}

    def dispatch(self, open_builds: Sequence[OpenBuild]) -> None:
        for row in open_builds:
            if row.id not in self._runs and len(self._runs) < MOST_BUILDS:
                run = BuildRun(self._services, row.id)
                task = asyncio.create_task(run.run())
                self._runs[row.id] = (run, task)
                task.add_done_callback(lambda _, build=row.id: self._over(build))

    def cancel(self, build: int) -> bool:
        if build not in self._runs:
            return False
        self._runs[build][0].stop.set()
        return True

    async def aclose(self) -> None:
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _over(self, build: int) -> None:
        self._runs.pop(build, None)
        self._ended()
