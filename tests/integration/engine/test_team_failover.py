"""A team's database whose server dies for good: its standby takes over, and nothing is lost or repeated."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from mcp_server.errors import StoreError
from mcp_server.model import Build, BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.postgres import SETTINGS, Server, memory, running, standby
from tests.support.team import Team
from tests.support.team_work import IN_TIME, WAITS, alive, begun, ended, go, marks, order, started, there

NAME = "team"


@pytest.fixture
def first() -> Iterator[Server]:
    """The server that takes writes; it waits for its standby with each commit, once that is there."""
    with running({**SETTINGS, "wal_level": "replica"}, memory()) as server:
        with server.connect() as c:
            c.execute(f"CREATE DATABASE {NAME} LC_COLLATE 'C' TEMPLATE template0".encode())
        yield server


@pytest.fixture
def second(first: Server) -> Iterator[Server]:
    """The one that follows."""
    with standby(first, place=memory()) as server:
        with first.connect() as c:
            c.execute(b"ALTER SYSTEM SET synchronous_standby_names = '*'")
            c.execute(b"SELECT pg_reload_conf()")
            while c.execute(b"SELECT sync_state FROM pg_stat_replication").fetchall() != [("sync",)]:
                time.sleep(0.02)  # nothing tells of it
        yield server


@pytest.fixture
def postgres_url(first: Server, second: Server) -> str:
    """Both of them: whichever takes writes is the one."""
    ports = f"{first.port},{second.port}"
    return (
        f"postgresql+psycopg://postgres@/{NAME}?host=127.0.0.1,127.0.0.1&port={ports}&target_session_attrs=read-write"
    )


@pytest.fixture
def database(first: Server, postgres_url: str) -> Iterator[psycopg.Connection]:
    """A look of the test's own, as long as the first server is there."""
    assert postgres_url
    with first.connect(NAME) as connection:
        yield connection


async def ended_at_last(front: Orchestrator, *numbers: int) -> list[Build]:
    """The builds, once they are over and a database says so."""
    async with asyncio.timeout(IN_TIME):
        while True:
            with suppress(StoreError):
                return await ended(front, *numbers)
            await asyncio.sleep(0.1)


async def test_a_standby_that_takes_over_has_all_builds_and_they_go_on(
    front: Orchestrator, team: Team, database: psycopg.Connection, first: Server, second: Server
) -> None:
    """Issue: failover with lost connections. The first one is killed with all it has, and never comes back."""
    team.have_none(0)
    long = await begun(front, team, database)
    await there(team, database, "machine2")
    waiting = await order(front, team, "waiting", WAITS)
    await started(team, "waiting")
    database.close()
    os.kill(first.pid, signal.SIGQUIT)
    go(team)
    with second.connect(NAME) as promoted:
        promoted.execute("SELECT pg_promote()")
        builds = await ended_at_last(front, long, waiting)

        assert [build.status for build in builds] == [BuildStatus.SUCCESS] * 2
        assert [marks(team, name) for name in ("long", "waiting")] == [["started", "ended"]] * 2
        await alive(promoted, "machine1", "machine2")
        told = promoted.execute("SELECT build, count(*) FROM events WHERE type = 'workflow.completed' GROUP BY build")
        assert dict(told.fetchall()) == {long: 1, waiting: 1}
    [later] = await ended(front, await order(front, team, "later"))
    assert later.status is BuildStatus.SUCCESS
