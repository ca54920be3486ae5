"""Workers of two versions share a database, as long as an upgrade goes on; a new schema is for the new one alone."""

import asyncio
import shutil
import signal
from pathlib import Path

import psycopg
import pytest

import mcp_server
from mcp_server import crew
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.schema import Newer
from mcp_server.store.tables import SCHEMA_VERSION
from tests.support.team import Team
from tests.support.team_work import IN_TIME, begun, claimed, ended, go, marks, order, started, there

NEXT = "1000.0.0"
NEXT_SCHEMA = SCHEMA_VERSION + 1
REVISION = f'''"""What the next version adds."""

from alembic import op

revision = "{NEXT_SCHEMA}"
down_revision = "{SCHEMA_VERSION}"


def upgrade() -> None:
    op.execute("ALTER TABLE builds ADD COLUMN colour VARCHAR")
'''


def next_version(team: Team, number: int, *, with_schema: bool = False) -> None:
    """Have a machine's worker be of the next version: this one's program under another number."""
    copy = team.top / "next" / "mcp_server"
    shutil.copytree(Path(mcp_server.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__init__.py").write_text(f'__version__ = "{NEXT}"\n')
    if with_schema:
        tables = copy / "store" / "tables.py"
        text = tables.read_text()
        assert f"SCHEMA_VERSION = {SCHEMA_VERSION}\n" in text
        tables.write_text(text.replace(f"SCHEMA_VERSION = {SCHEMA_VERSION}\n", f"SCHEMA_VERSION = {NEXT_SCHEMA}\n"))
        (copy / "store" / "migrations" / "versions" / f"schema_{NEXT_SCHEMA}.py").write_text(REVISION)
    team.variables[number] = {"PYTHONPATH": str(copy.parent)}


async def test_workers_of_two_versions_take_each_others_builds_over(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: two versions of workers side by side, and each dies once with a build in its hands."""
    team.have_none(0)
    next_version(team, 2)
    number = await begun(front, team, database)
    await there(team, database, "machine2")
    found = await crew.look(front)
    assert {view.name: view.version for view in found.workers} == {"machine1": mcp_server.__version__, "machine2": NEXT}
    assert (found.well, "their versions differ" in found.text) == (False, True)

    team.signal(1, signal.SIGKILL)
    await claimed(front, number, 2)
    second = await order(front, team, "second", "until [ -e go ]; do sleep 0.05; done")
    await started(team, "second")
    await there(team, database, "machine1")
    team.signal(2, signal.SIGKILL)
    await claimed(front, number, 3)
    await claimed(front, second, 2)
    go(team)
    builds = await ended(front, number, second)

    assert [build.status for build in builds] == [BuildStatus.SUCCESS] * 2
    assert [marks(team, name) for name in ("long", "second")] == [["started", "ended"]] * 2


async def test_a_worker_leaves_as_soon_as_a_newer_one_has_changed_the_database_and_its_build_goes_on(
    front: Orchestrator, team: Team, database: psycopg.Connection
) -> None:
    """Issue: newer schema under a running worker. It writes nothing there; its job runs on and is taken over."""
    team.have_none(0)
    next_version(team, 2, with_schema=True)
    number = await begun(front, team, database)
    await there(team, database, "machine2")
    code = await asyncio.wait_for(asyncio.to_thread(team.left, 1), IN_TIME)
    await claimed(front, number, 2)
    go(team)
    [build] = await ended(front, number)

    assert (code, build.status) == (0, BuildStatus.SUCCESS)
    assert marks(team, "long") == ["started", "ended"]
    assert f"of a newer build-orchestrator (schema {NEXT_SCHEMA}, this one knows {SCHEMA_VERSION})" in team.log(1)
    assert "Traceback" not in team.log(1)
    with pytest.raises(Newer, match="install that one here"):
        await order(front, team, "refused")
    team.start(1)
    assert await asyncio.to_thread(team.left, 1) == 2
    assert team.log(1).rstrip().endswith("install that one here")
