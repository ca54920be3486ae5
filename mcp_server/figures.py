"""What builds came to in figures, from one to the next.

May import: orchestrator, store, model, build_trends, build_statistics, errors.
"""

from typing import TYPE_CHECKING

from mcp_server.build_trends import MOST_BUILDS, TrendPoint, Trends, Weight
from mcp_server.errors import BadInput
from mcp_server.model import Project
from mcp_server.store import trends

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


class Figures:
    """One orchestrator's look at what its builds took and weighed, and what their tests ran."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator

    async def trends(self, project: str, limit: int = 50) -> Trends:
        """A project's newest builds that are over. NotFound: unknown project; BadInput: a limit outside 1 to 100."""
        if not 1 <= limit <= MOST_BUILDS:
            raise BadInput("limit", f"{limit} should be 1 to {MOST_BUILDS}")
        number = (await self._orchestrator.find_project(project)).id
        return await (await self._orchestrator.store()).read(lambda c: trends.build_trends(c, limit, number))

    async def beside_stats(self, project: str | None, limit: int = MOST_BUILDS) -> Trends | None:
        """The trends of this project, without one of the only one that there is; None where there are several."""
        store = await self._orchestrator.store()
        if project is None:
            project = await store.read(trends.only_project)
        return None if project is None else await self.trends(project, limit)

    async def sizes(self, project_id: str) -> tuple[int, Weight] | None:
        """The newest build of a project that has sizes on record, and they."""
        return await (await self._orchestrator.store()).read(lambda c: trends.newest_sizes(c, project_id))

    async def newest(self, most: int) -> list[tuple[Project, TrendPoint]]:
        """The last build that is over of each project, of the `most` projects that were built last."""
        return await (await self._orchestrator.store()).read(lambda c: trends.newest_points(c, most))
