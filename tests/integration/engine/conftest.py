"""A folder to build in; workers of several machines, and the database that they share."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from tests.support.postgres import Server
from tests.support.team import Team


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def team(tmp_path: Path, postgres_url: str) -> Iterator[Team]:
    """Machines with workers, none of which runs yet."""
    team = Team(tmp_path / "team", postgres_url)
    yield team
    team.close()


@pytest.fixture
def database(postgres: Server, postgres_url: str) -> Iterator[psycopg.Connection]:
    """The team's database, for a look of the test's own."""
    with postgres.connect(sa.make_url(postgres_url).database or "") as connection:
        yield connection


@pytest_asyncio.fixture
async def front(team: Team, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Orchestrator]:
    """A front on a machine of its own, without a worker."""
    for name, value in team.environment(0).items():
        monkeypatch.setenv(name, value)
    orchestrator = Orchestrator(load_config())
    yield orchestrator
    await orchestrator.aclose()


@pytest.fixture
def ready(folder: Path) -> anyio.Path:
    """A FIFO that a job writes to when it is where the test wants it: reading it waits for that."""
    os.mkfifo(folder / "ready")
    return anyio.Path(folder / "ready")
