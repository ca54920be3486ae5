"""From one kind of database into the other, with every row: on both, whichever the other tests are on."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_server.backup import bundle, rows
from mcp_server.backup.bring_back import restore
from mcp_server.backup.take import take
from mcp_server.clock import SystemClock
from mcp_server.errors import Conflict, OrchestratorError
from mcp_server.home import machine_id
from mcp_server.store import builds, identity, schema
from mcp_server.store.tables import SCHEMA_VERSION, WORKERS
from tests.unit.backup.test_backup import NOW, PLAN, at, content, opened, spoil, taken

pytestmark = pytest.mark.sqlite_only

OLDER = (  # what schema 9 did, undone
    "ALTER TABLE workers DROP COLUMN lock",
    "ALTER TABLE workers DROP COLUMN config",
    "UPDATE meta SET value = '8' WHERE key = 'schema'",
    "UPDATE alembic_version SET version_num = '8'",
)


async def test_a_home_grows_into_a_shared_database_and_back_with_every_row(tmp_path: Path, postgres_url: str) -> None:
    """Issue. From one machine to a team: the same rows, and numbers that go on."""
    first, team, last = at(tmp_path / "a"), at(tmp_path / "b", postgres_url), at(tmp_path / "c")
    await taken(first.home, tmp_path / "1.tar.gz")
    before = opened(first)

    await restore(team, SystemClock(), tmp_path / "1.tar.gz", resume=True)
    shared = opened(team)
    moved = ("builds", "projects", "leases")
    assert content(shared, *moved) == content(before, *moved)
    here = machine_id(team.home)
    opened_now = [(row.id, row.place, row.machine) for row in shared.look(builds.open_builds)]
    assert opened_now == [(2, f"machine:{here}", here), (3, f"machine:{here}", None)]
    project = shared.look(lambda c: builds.get_build(c, 1)).project_id
    insert = partial(builds.insert_build, plan=PLAN, name="n", args_key="z", now=NOW)
    made, _ = await shared.write(lambda c: insert(c, builds.get_project(c, project)))
    assert made.id == 1001
    await take(team, shared, SystemClock(), tmp_path / "2.tar.gz")
    await restore(last, SystemClock(), tmp_path / "2.tar.gz", resume=True)
    after = opened(last)
    assert content(after, *moved) == content(shared, *moved)
    assert after.look(lambda c: builds.get_build(c, 1001)).plan == PLAN
    assert [(row.place, row.machine) for row in after.look(builds.open_builds)] == [(None, None)] * 3

    with pytest.raises(Conflict, match="the database has 4 builds already"):
        await restore(team, SystemClock(), tmp_path / "1.tar.gz")
    beat: dict[str, Any] = {"machine": "m", "name": "w", "home": "/h", "pid": 1, "version": "1", "state": "serving"}
    now = datetime.now(UTC)
    beat |= {"started_at": now, "seen_at": now, "until": now + timedelta(hours=1)}
    await shared.write(lambda c: c.execute(sa.insert(WORKERS).values(id="w", **beat)))
    with pytest.raises(Conflict, match="workers serve the database"):
        await restore(team, SystemClock(), tmp_path / "1.tar.gz", force=True)
    await shared.write(lambda c: (c.execute(sa.delete(WORKERS)), identity.put_meta(c, {"events_from": "9"})))
    done = await restore(team, SystemClock(), tmp_path / "1.tar.gz", force=True)
    [kept] = done.aside
    assert bundle.checked(Path(kept)).facts["tables"]["builds"] == 4
    assert (done.ended, shared.look(rows.count_builds)) == (2, 3)
    assert shared.look(lambda c: identity.number(c, "events_from")) is None  # that was of what was here before
    again, _ = await shared.write(lambda c: insert(c, builds.get_project(c, project)))
    assert again.id == 2001  # not 1001 a second time
    await asyncio.gather(before.aclose(), shared.aclose(), after.aclose())


async def test_a_shared_database_that_refuses_a_row_keeps_what_it_had(tmp_path: Path, postgres_url: str) -> None:
    """Issue. All of it or nothing."""
    team, file = at(tmp_path / "b", postgres_url), tmp_path / "1.tar.gz"
    await taken(tmp_path / "a", file)
    await restore(team, SystemClock(), file)
    shared = opened(team)
    before = content(shared)
    spoil(file, tmp_path)

    with pytest.raises(OrchestratorError, match="refused"):
        await restore(team, SystemClock(), file, force=True)

    assert content(shared) == before
    await shared.aclose()


async def test_a_shared_database_of_an_older_version_is_replaced_with_what_it_had_put_aside(
    tmp_path: Path, postgres_url: str
) -> None:
    """Ours. Its tables lack columns that this version has, and it may have been left because of just that."""
    team, file = at(tmp_path / "b", postgres_url), tmp_path / "1.tar.gz"
    await taken(tmp_path / "a", file)
    await restore(team, SystemClock(), file)
    shared = opened(team)
    for older in OLDER:
        await shared.write(lambda c, text=older: c.execute(sa.text(text)))

    with pytest.raises(Conflict, match="the database has 3 builds already"):
        await restore(team, SystemClock(), file)
    assert shared.look(schema.version) == 8
    done = await restore(team, SystemClock(), file, force=True)

    [kept] = done.aside
    assert bundle.checked(Path(kept)).facts["tables"]["builds"] == 3
    assert (shared.look(schema.version), shared.look(rows.count_builds)) == (SCHEMA_VERSION, 3)
    await shared.aclose()
