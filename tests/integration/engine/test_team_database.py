"""A team's database that is stopped, killed or slow while builds run: jobs run on, and each is done once."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.model import Build, BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.cuts import Relay
from tests.support.postgres import Server, memory, running
from tests.support.team import Team
from tests.support.team_faults import RestartedServer
from tests.support.team_work import IN_TIME, alive, begun, ended, go, marks, order, there


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own."""
    with running(place=memory()) as server:
        yield server


@pytest.fixture
def restarted(server: Server) -> Iterator[RestartedServer]:
    """The same, to be ended and begun again."""
    restarted = RestartedServer(server)
    with contextlib.closing(restarted):
        yield restarted


@pytest.fixture
def postgres_url(restarted: RestartedServer) -> Iterator[str]:
    """The team's database is one of that server."""
    with restarted.server.database() as name:
        yield restarted.server.url(name)


@pytest.fixture
def database(server: Server, postgres_url: str) -> Iterator[psycopg.Connection]:
    """A look of the test's own, as long as the server is not ended."""
    with connected(server, postgres_url) as connection:
        yield connection


@pytest_asyncio.fixture
async def relay(team: Team, server: Server) -> AsyncIterator[Relay]:
    """Between machine 1 and the database."""
    async with Relay(server.port).listening() as relay:
        team.ports[1] = relay.port
        yield relay


def connected(server: Server, url: str) -> psycopg.Connection:
    return server.connect(sa.make_url(url).database or "")


async def ended_at_last(front: Orchestrator, *numbers: int) -> list[Build]:
    """The builds, once they are over and the database says so."""
    async with asyncio.timeout(IN_TIME):
        while True:
            with contextlib.suppress(StoreError):
                return await ended(front, *numbers)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "killed"])
async def test_a_database_that_goes_and_comes_back_loses_no_build_and_repeats_none(
    front: Orchestrator, team: Team, database: psycopg.Connection, restarted: RestartedServer, how: signal.Signals
) -> None:
    """Issue: database gone and back. A job ends meanwhile, which is read when the database is there again."""
    team.have_none(0)
    number = await begun(front, team, database)
    await there(team, database, "machine2")
    waiting = [await order(front, team, name) for name in ("red", "blue")]
    await restarted.end(how)
    go(team)
    with pytest.raises(StoreError, match=r"the database .* (cannot be reached|is going down or coming up)"):
        await front.get(number)
    restarted.begin()
    builds = await ended_at_last(front, number, *waiting)

    assert [build.status for build in builds] == [BuildStatus.SUCCESS] * 3
    for name in ("long", "red", "blue"):
        assert marks(team, name) == ["started", "ended"]
    with connected(restarted.server, team.url) as connection:
        await alive(connection, "machine1", "machine2")
        told = connection.execute("SELECT build, count(*) FROM events WHERE type = 'workflow.completed' GROUP BY build")
        assert dict(told.fetchall()) == dict.fromkeys([number, *waiting], 1)
    [later] = await ended(front, await order(front, team, "later"))
    assert later.status is BuildStatus.SUCCESS


async def test_a_slow_database_makes_builds_slow_and_nothing_else(
    front: Orchestrator, team: Team, database: psycopg.Connection, relay: Relay
) -> None:
    """Issue: slow disk. Each question takes 60 ms more: the worker is not taken for dead, and does all by itself."""
    team.have_none(0)
    team.lost_after = "10s"
    relay.delay_s = 0.03
    await front.store()
    await there(team, database, "machine1")
    numbers = [await order(front, team, name) for name in ("red", "blue")]
    builds = await ended(front, *numbers)

    assert [(build.status, build.claim) for build in builds] == [(BuildStatus.SUCCESS, 1)] * 2
    for name in ("red", "blue"):
        assert marks(team, name) == ["started", "ended"]
    assert "Traceback" not in team.log(1)
