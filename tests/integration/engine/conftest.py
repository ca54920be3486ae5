"""A home with an orchestrator; its worker is a real process, started by the first build."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from tests.support.workers import end_everything


@pytest_asyncio.fixture
async def orchestrator(home: Path) -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(load_config())
    yield orchestrator
    await orchestrator.aclose()
    end_everything(home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder."""
    path = tmp_path / "project"
    path.mkdir()
    return path
