"""A folder to build in; workers of several machines, and the database that they share."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

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
