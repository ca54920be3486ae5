"""Faults of a team's machines, links and database, each at the worst moment: nothing is lost, repeated or spoilt."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.postgres import WRITERS
from tests.support.apart import sitecustomize as apart
from tests.support.cuts import Relay
from tests.support.postgres import Server
from tests.support.team import Team
from tests.support.team_work import IN_TIME, alive, begun, claimed, ended, go, marks, order, there

WAITING_TO_WRITE = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objid = %s AND granted = %s AND application_name = %s
"""
TIMES = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name <> 'build_audit' AND data_type LIKE 'timestamp%'
AND (table_name, column_name) <> ('workers', 'until')
"""
CLOSE = timedelta(seconds=60)  # a busy machine may measure the time a little beside the truth


@pytest_asyncio.fixture
async def relay(team: Team, postgres: Server) -> AsyncIterator[Relay]:
    """Between machine 1 and the database."""
    async with Relay(postgres.port).listening() as relay:
        team.ports[1] = relay.port
        yield relay


async def at_the_lock(database: psycopg.Connection, name: str, *, holds: bool) -> None:
    """Return once a machine's worker waits for the writers' lock, or holds it."""
    async with asyncio.timeout(IN_TIME):
        while database.execute(WAITING_TO_WRITE, (WRITERS, holds, name)).fetchone() == (0,):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ends_told(database: psycopg.Connection, number: int) -> int:
    """How often a build was said to be over."""
    text = "SELECT count(*) FROM events WHERE type = 'workflow.completed' AND build = %s"
    row = database.execute(text, (number,)).fetchone()
    assert row is not None
    return int(row[0])


def now_of(database: psycopg.Connection) -> datetime:
    """The database's time, as it is stored."""
    row = database.execute("SELECT timezone('UTC', clock_timestamp())").fetchone()
    assert row is not None
    return row[0]


async def serves_again(front: Orchestrator, team: Team, database: psycopg.Connection) -> None:
    """Once machine 1 is there again, have it do another build, alone."""
    await alive(database, "machine1")
    team.signal(2, signal.SIGTERM)
    [build] = await ended(front, await order(front, team, "again"))
    assert (build.status, marks(team, "again")) == (BuildStatus.SUCCESS, ["started", "ended"])
    assert team.names(database)[build.worker or ""] == "machine1"


async def test_a_worker_frozen_with_the_writers_lock_in_its_hand_keeps_nobody_for_long(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: SIGSTOP in mid-transaction. The server takes the lock from it after 5 s; awake it lets go, and serves."""
    team.have_none(0)
    number = await begun(front, team, database)
    await there(team, database, "machine2")
    database.execute("SELECT pg_advisory_lock(%s)", (WRITERS,))
    go(team)
    await at_the_lock(database, "machine1", holds=False)
    team.signal(1, signal.SIGSTOP)
    database.execute("SELECT pg_advisory_unlock(%s)", (WRITERS,))
    await at_the_lock(database, "machine1", holds=True)
    [build] = await ended(front, number)
    team.signal(1, signal.SIGCONT)

    assert (build.status, build.claim >= 2) == (BuildStatus.SUCCESS, True)
    assert marks(team, "long") == ["started", "ended"]
    await serves_again(front, team, database)
    assert ends_told(database, number) == 1


@pytest.mark.parametrize("healed", ["resume", "restore"])
async def test_a_worker_cut_off_from_the_database_but_not_from_the_host_spoils_nothing(
    front: Orchestrator, team: Team, relay: Relay, database: psycopg.Connection, healed: str
) -> None:
    """Issue: network split. What it asked for in the split arrives late (resume), or its links are gone (restore)."""
    team.have_none(0)
    number = await begun(front, team, database)
    relay.silence()
    team.start(2)
    await claimed(front, number, 2)
    go(team)
    [build] = await ended(front, number)
    getattr(relay, healed)()

    assert (build.status, build.claim >= 2) == (BuildStatus.SUCCESS, True)
    assert marks(team, "long") == ["started", "ended"]
    await serves_again(front, team, database)
    assert ends_told(database, number) == 1


async def test_a_worker_cut_off_from_the_host_but_not_from_the_database_keeps_its_build_and_says_so(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: the other way. Its job runs on and is found again; who reaches the host goes on meanwhile."""
    number = await begun(front, team, database)
    await asyncio.to_thread(team.cut_hosts, 1)
    async with asyncio.timeout(IN_TIME), front.changes() as changed:
        while (await front.get(number)).stages[0].unreachable_since is None:
            await changed.wait()
    go(team)
    team.mend_hosts(1)
    view = await front.wait(number, IN_TIME)

    assert view.build.status is BuildStatus.SUCCESS
    assert view.stages[0].unreachable_since is None
    assert marks(team, "long") == ["started", "ended"]


@pytest.mark.parametrize("others", [0, 1])
async def test_a_build_whose_worker_is_dead_can_be_cancelled(
    front: Orchestrator, team: Team, database: psycopg.Connection, others: int
) -> None:
    """Issue: by whoever takes it over, with its job; where no worker is left, the order to cancel starts one."""
    number = await begun(front, team, database)
    if others:
        await there(team, database, "machine2")
    team.signal(1, signal.SIGKILL)
    await front.cancel(number)
    view = await front.wait(number, IN_TIME)

    assert (view.build.status, view.build.claim >= 2) == (BuildStatus.CANCELLED, True)
    assert (view.stages[0].status, view.stages[0].reason) == ("cancelled", "cancelled")
    assert marks(team, "long") == ["started"]
    assert database.execute("SELECT count(*) FROM leases").fetchone() == (0,)


async def test_a_build_whose_machine_is_gone_can_be_retried(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: what needs no folder of that machine is tried again by another one."""
    await front.store()
    await there(team, database, "machine1")
    number = await order(front, team, "twice", "[ -e go ]")
    [first] = await ended(front, number)
    team.signal(1, signal.SIGKILL)
    await there(team, database, "machine2")
    go(team)
    [second] = await ended(front, (await front.retry(number)).build.id)

    assert (first.status, second.status, second.retry_of) == (BuildStatus.FAILED, BuildStatus.SUCCESS, number)
    assert marks(team, "twice") == ["started", "started", "ended"]


@pytest.mark.parametrize("apart_s", [3600, -3600])
async def test_a_machine_whose_clock_is_an_hour_off_writes_the_databases_time(
    front: Orchestrator, team: Team, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, apart_s: int
) -> None:
    """Issue: clock apart by an hour, of a front and of the worker that takes a build over."""
    monkeypatch.setattr("mcp_server.clock.datetime", apart.Apart)
    monkeypatch.setenv("APART_S", str(apart_s))
    team.variables[1] = {"APART_S": "0"}
    team.variables[2] = {"PYTHONPATH": str(Path(apart.__file__).parent)}
    team.have_none(0)
    before = now_of(database)
    number = await begun(front, team, database)
    await there(team, database, "machine2")
    team.signal(1, signal.SIGKILL)
    await claimed(front, number, 2)
    go(team)
    [build] = await ended(front, number)
    after = now_of(database)

    assert build.status is BuildStatus.SUCCESS
    assert 0 <= (build.duration or 0) < IN_TIME * 2
    wrong = {
        f"{table}.{column}": found
        for table, column in database.execute(TIMES).fetchall()
        for found in database.execute(f"SELECT {column} FROM {table}".encode()).fetchall()
        if found[0] is not None and not before - CLOSE <= found[0] <= after + CLOSE
    }
    assert wrong == {}
