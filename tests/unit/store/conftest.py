"""A migrated database of the test's own, of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from mcp_server.store.database import Store


@pytest_asyncio.fixture
async def store(home: Path, database_url: str) -> AsyncIterator[Store]:
    store = Store(database_url, home)
    store.migrate()
    yield store
    await store.aclose()
