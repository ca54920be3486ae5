"""A migrated database of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from mcp_server.store.database import Store


@pytest_asyncio.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    store = Store(f"sqlite:///{home}/orchestrator.db", home)
    store.migrate()
    yield store
    await store.aclose()
