"""What stages may know of earlier attempts and builds, read from the store when they ask."""

from collections.abc import Sequence

from mcp_server.model import Build, Stage
from mcp_server.store import builds, earlier
from mcp_server.store.database import Store


class StoredHistory:
    """Of one build."""

    def __init__(self, store: Store, build: Build) -> None:
        self._store, self._build = store, build

    async def rows(self) -> Sequence[Stage]:
        return await self._store.read(lambda c: builds.stages_of(c, self._build.id))

    async def retried(self) -> Sequence[Stage]:
        number = self._build.retry_of
        return () if number is None else await self._store.read(lambda c: builds.stages_of(c, number))

    async def last_good(self) -> Sequence[Stage]:
        def statements(c: builds.sa.Connection) -> Sequence[Stage]:
            found = earlier.last_good(c, self._build)
            return builds.stages_of(c, found.id) if found else ()

        return await self._store.read(statements)
