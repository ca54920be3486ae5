"""Wakes who watches the tables: through HOME where they are a file in it, else as the database tells of commits."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from mcp_server.engine import signals
from mcp_server.store.database import Store


class Change(Protocol):
    """Arrives whenever a row may have changed."""

    async def wait(self) -> None:
        """Return once one may have since the last wait."""
        ...


@asynccontextmanager
async def changes(store: Store, home: Path) -> AsyncGenerator[Change]:
    """What arrives from now on; look at the rows once more after entering. StoreError: the database is away."""
    if store.is_shared:
        async with store.commits.watch() as ear:
            yield ear
    else:
        async with signals.watch(home) as signal:
            yield signal
