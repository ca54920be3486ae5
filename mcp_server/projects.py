"""The projects that are known here: what there is, and how long their builds take.

May import: model, errors, references, store. Never: engine, a front.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mcp_server import references
from mcp_server.model import Project
from mcp_server.store import builds, stats

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


class Projects:
    """Over the store of one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator

    async def list(self, *, limit: int, after: str | None = None) -> Sequence[Project]:
        """Projects by name; those that follow the one with the id `after`."""
        return await (await self._orchestrator.store()).read(
            lambda c: builds.list_projects(c, limit=limit, after=after)
        )

    async def usual_durations(self, folder: Path, name: str) -> Mapping[str, float]:
        """Seconds that each stage of a pipeline usually takes, from its earlier builds in the folder."""
        path = await asyncio.to_thread(references.real_path, str(folder))

        def statements(c: sa.Connection) -> Mapping[str, float]:
            found = builds.find_projects(c, path)
            return stats.stage_durations(c, found[0].id, name) if found else {}

        return await (await self._orchestrator.store()).read(statements)
