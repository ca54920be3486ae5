"""Several workers on one PostgreSQL: builds spread, and go on elsewhere when a worker dies, freezes or leaves."""

import asyncio
import signal

import psycopg

from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.postgres import Server
from tests.support.team import Team
from tests.support.team_work import begun, claimed, ended, go, marks, order, started, there


async def test_builds_spread_over_workers_and_each_is_done_once(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: `serve` on one machine and `worker` on three. Slots hold over all of them."""
    await front.store()
    await there(team, database, "machine1", "machine2", "machine3")
    numbers = [await order(front, team, f"build{n}", "sleep 0.3") for n in range(16)]
    builds = await ended(front, *numbers)

    assert [build.status for build in builds] == [BuildStatus.SUCCESS] * 16
    assert [marks(team, f"build{n}") for n in range(16)] == [["started", "ended"]] * 16
    names = team.names(database)
    assert len({names[build.worker or ""] for build in builds}) > 1
    assert database.execute("SELECT count(*) FROM leases").fetchone() == (0,)
    most = database.execute(
        "SELECT max(n) FROM (SELECT sum(CASE type WHEN 'lease.taken' THEN 1 ELSE -1 END) OVER (ORDER BY id) AS n "
        "FROM events WHERE type LIKE 'lease.%' AND data ->> 'resource' = 'host:far') AS held"
    ).fetchone()
    assert most is not None and most[0] <= 8


async def test_a_dead_workers_build_goes_on_elsewhere_and_its_job_is_found_again(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: a dead machine's builds go on elsewhere and its jobs are re-attached, not started twice."""
    number = await begun(front, team, database)
    first = (await front.get(number)).build.worker
    team.start(2)
    team.signal(1, signal.SIGKILL)
    await claimed(front, number, 2)
    go(team)
    [build] = await ended(front, number)

    assert (build.status, build.claim) == (BuildStatus.SUCCESS, 2)
    assert build.worker != first
    assert marks(team, "long") == ["started", "ended"]


async def test_a_worker_that_was_frozen_neither_repeats_nor_spoils_what_others_did_meanwhile(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: SIGSTOP. Awake again it finds its claim gone, lets go, and takes other builds."""
    number = await begun(front, team, database)
    team.signal(1, signal.SIGSTOP)
    team.start(2)
    await claimed(front, number, 2)
    go(team)
    [build] = await ended(front, number)
    team.signal(1, signal.SIGCONT)
    team.signal(2, signal.SIGTERM)
    again = await order(front, team, "again")
    [second] = await ended(front, again)

    assert (build.status, build.claim) == (BuildStatus.SUCCESS, 2)
    assert second.status is BuildStatus.SUCCESS
    assert marks(team, "long") == ["started", "ended"]
    rows = database.execute("SELECT status FROM stages WHERE build = %s", (number,)).fetchall()
    assert rows == [("success",), ("success",)]
    ends = "SELECT count(*) FROM events WHERE type = 'workflow.completed' AND build = %s"
    assert database.execute(ends, (number,)).fetchone() == (1,)


async def test_a_worker_that_leaves_hands_its_builds_on_at_once(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: drain. Nobody waits until it counts as dead."""
    team.lost_after = "1h"
    number = await begun(front, team, database)
    await there(team, database, "machine2")
    team.signal(1, signal.SIGTERM)
    await claimed(front, number, 2)
    go(team)
    [build] = await ended(front, number)

    assert (build.status, build.claim) == (BuildStatus.SUCCESS, 2)
    assert marks(team, "long") == ["started", "ended"]
    assert list(team.names(database).values()) == ["machine2"]


async def test_cancelling_reaches_the_worker_that_has_the_build(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue."""
    await front.store()
    await there(team, database, "machine1", "machine2")
    number = await order(front, team, "long", "sleep 60")
    await started(team, "long")
    await front.cancel(number)
    [build] = await ended(front, number)

    assert build.status is BuildStatus.CANCELLED
    assert marks(team, "long") == ["started"]


async def test_what_uses_a_machines_own_folders_waits_for_that_machine(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: nothing is built in a folder of the same name on another machine. A front starts its own worker for it."""
    team.start(1)
    text = "pipeline:\n  name: here\n  stages:\n    - {name: one, command: 'echo $PWD'}\n"
    pipeline = await front.read_pipeline(text=text)
    number = (await front.start_pipeline(pipeline, team.work, agreed=True)).build.id
    [build] = await ended(front, number)

    machine = (team.home(0) / "machine").read_text().strip()
    assert (build.status, build.place, build.machine) == (BuildStatus.SUCCESS, f"machine:{machine}", machine)
    held = database.execute("SELECT data ->> 'resource' FROM events WHERE type = 'lease.taken'").fetchall()
    assert (f"host:local@{machine}",) in held


async def test_a_cut_from_the_database_costs_no_build(
    front: Orchestrator, team: Team, postgres: Server, database: psycopg.Connection
) -> None:
    """Issue: failover with lost connections, in the middle of everything."""
    await front.store()
    await there(team, database, "machine1", "machine2")
    numbers = [await order(front, team, f"build{n}", "sleep 1") for n in range(6)]
    await started(team, "build0")
    with postgres.connect() as admin:
        for _ in range(3):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            await asyncio.sleep(0.3)
    builds = await ended(front, *numbers)

    assert [build.status for build in builds] == [BuildStatus.SUCCESS] * 6
    assert [marks(team, f"build{n}") for n in range(6)] == [["started", "ended"]] * 6
