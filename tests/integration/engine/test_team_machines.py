"""Machines of a team that are not what they should be: one data folder copied to two, a config.yaml that differs."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.crew import checks
from mcp_server.orchestrator import Orchestrator
from tests.support.team import Team

IN_TIME = 60


@pytest_asyncio.fixture
async def front(team: Team, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Orchestrator]:
    """A front on a machine of its own, without a worker."""
    for name, value in team.environment(0).items():
        monkeypatch.setenv(name, value)
    orchestrator = Orchestrator(load_config())
    await orchestrator.store()
    yield orchestrator
    await orchestrator.aclose()


async def there(team: Team, database: psycopg.Connection, number: int) -> str:
    """Start a worker; its id, once it is known to all."""
    before = set(team.names(database))
    team.start(number)
    async with asyncio.timeout(IN_TIME):
        while not (new := set(team.names(database)) - before):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return new.pop()


def copied(team: Team, of: int, to: int) -> None:
    """As if the data folder had been brought there whole."""
    shutil.copy(team.home(of) / "machine", team.home(to) / "machine")


def refusal(team: Team, number: int) -> str:
    """What a worker says that must not serve."""
    command = [sys.executable, "-P", "-m", "mcp_server", "worker"]
    done = subprocess.run(
        command, check=False, env=team.environment(number), capture_output=True, text=True, timeout=IN_TIME
    )
    assert done.returncode == 2, done.stderr
    return done.stderr.strip().splitlines()[-1]


async def test_a_copied_data_folder_gets_no_worker_while_the_other_one_has(
    front: Orchestrator, team: Team, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Two of one name would take each other's builds for dead ones, and build in folders that are not there."""
    team.lost_after = "4s"
    first = await there(team, database, 1)
    copied(team, 1, 2)
    machine = (team.home(1) / "machine").read_text().strip()
    said = await asyncio.to_thread(refusal, team, 2)

    assert said.startswith(f"worker machine1 (pid {_pid(database)}, home {team.home(1)}) is there and has the same ")
    assert said.endswith(
        f"its machine, {machine}: one data folder is a copy of the other; remove the file {team.home(2)}/machine "
        "where the copy is, then start the worker there"
    )
    assert set(team.names(database)) == {first}

    copied(team, 1, 0)  # where somebody orders, doctor says it as well
    [found] = [one for one in await checks(front) if one.name == "machine"]
    assert (found.status, f"remove the file {team.home(0)}/machine" in found.found) == ("fail", True)


def _pid(database: psycopg.Connection) -> int:
    row = database.execute("SELECT pid FROM workers").fetchone()
    assert row is not None
    return int(row[0])


async def test_a_machines_next_worker_serves_at_once_however_late_the_last_one_counts_as_lost(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Ours. A restart, or another container with the same volume: the lock tells that the last one is dead."""
    team.lost_after = "1h"
    first = await there(team, database, 1)
    team.signal(1, signal.SIGKILL)
    second = await there(team, database, 1)

    assert second != first
    assert set(team.names(database)) == {second}


async def test_a_data_folder_that_was_moved_is_served_once_the_old_place_is_silent_and_the_old_worker_gives_way(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Ours. Who was frozen meanwhile finds another one at its place, and ends with the same sentence."""
    await there(team, database, 1)
    listens = "SELECT 1 FROM pg_stat_activity WHERE query = 'LISTEN build_orchestrator'"
    async with asyncio.timeout(IN_TIME):
        while database.execute(listens).fetchone() is None:  # noqa: ASYNC110 - the last step of its start
            await asyncio.sleep(0.02)
    team.signal(1, signal.SIGSTOP)
    copied(team, 1, 2)
    second = await there(team, database, 2)
    team.signal(1, signal.SIGCONT)
    assert await asyncio.to_thread(team.left, 1) == 0

    assert "worker machine2 (pid " in team.log(1)
    assert f"remove the file {team.home(1)}/machine where the copy is" in team.log(1)
    assert set(team.names(database)) == {second}


async def test_workers_whose_config_differs_are_named_with_its_sections(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Ours. What is a machine's own (`local`, `per_worker`, `keep_here`) may differ."""
    team.lost_after = "4s"
    mine = team.config = team.config.replace("{channel}", f"{team.top}/channel.sh")  # else each has one of its own
    await there(team, database, 1)
    team.config = (
        mine.replace("per_worker: 20", "per_worker: 5") + "  local: {{slots: 3}}\nartifacts: {{keep_here: 3d}}\n"
    )
    await there(team, database, 2)
    assert (await front.crew()).text == "2 workers, machine1 leads"
    front.config = load_config(team.environment(0))
    assert [one.status for one in await checks(front)] == ["ok"]

    team.config = mine.replace("slots: 8", "slots: 9") + "env_pass: [CI]\n"
    await there(team, database, 3)
    text = "config.yaml of machine3 differs from the leader's in servers, env_pass"
    crew = await front.crew()
    assert (crew.text, crew.well) == (f"3 workers, machine1 leads; {text}", False)
    assert {one.name: list(one.differs) for one in crew.workers} == {
        "machine1": [],
        "machine2": [],
        "machine3": ["servers", "env_pass"],
    }
    async with asyncio.timeout(IN_TIME):
        while "config.yaml of worker machine3 differs" not in team.log(1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert team.log(1).count("config.yaml of worker machine3 differs from this machine's in servers, env_pass") == 1

    front.config = load_config(team.environment(3))
    [_, here] = await checks(front)
    assert here.found == f"{team.home(3)}/config.yaml differs from that of the worker that leads in servers, env_pass"
