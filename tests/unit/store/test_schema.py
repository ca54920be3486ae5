"""Databases of every schema that there was become what a new one is, and keep what they have."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_server.store import builds
from mcp_server.store.builds import get_build
from mcp_server.store.database import Store
from mcp_server.store.events import events_after
from mcp_server.store.tables import SCHEMA_VERSION

RECORDED = Path(__file__).parents[2] / "recorded" / "databases.sql"
RECORDS = """
INSERT INTO projects (id, name, path, created_at) VALUES ('p', 'blink', '/blink', '2026-11-01 12:00:00.000000');
INSERT INTO builds (project_id, triggered_by, status, created_at, task_id, name, plan, args_key, priority,
  cancel_requested, round) VALUES ('p', 'manual', 'success', '2026-11-01 12:00:00.000000', 't', 'build',
  '{"stages": []}', 'k', 10, 0, 1);
INSERT INTO stages (build, stage, round, attempt, kind, host, status) VALUES (1, 's', 1, 1, 'command', 'h', 'success');
INSERT INTO events (type, build, ts, data) VALUES ('build.status', 1, '2026-11-01 12:00:00.000000', '{}');
"""


def made_by(number: int) -> str:
    """The statements that make a database as versions of that schema made it."""
    made: dict[str, str] = {}
    for part in RECORDED.read_text().split("\n-- schema ")[1:]:
        since, _, statements = part.partition("\n")
        if int(since) <= number:
            whole = re.split(r";\n(?=CREATE|$)", statements)
            made |= {" ".join(one.split()[:3]): one for one in whole if one.strip()}
    meta = f"INSERT INTO meta VALUES ('schema', '{number}'), ('uuid', 'a97a9d5a')"
    return ";\n".join([*made.values(), meta]) + ";\n"


def facts(c: sa.Connection) -> dict[str, Any]:
    """Everything of a schema that a program could notice, in no order."""
    seen = sa.inspect(c)
    others = c.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')")
    return {
        "others": sorted((kind, name, " ".join(sql.split())) for kind, name, sql in others),
        **{
            table: {
                "columns": {one["name"]: (str(one["type"]), one["nullable"], one["default"]) for one in columns},
                "key": sorted(seen.get_pk_constraint(table)["constrained_columns"]),
                "unique": sorted(sorted(one["column_names"]) for one in seen.get_unique_constraints(table)),
                "refers": sorted(
                    (one["constrained_columns"], one["referred_table"]) for one in seen.get_foreign_keys(table)
                ),
                "indexes": {one["name"]: one["column_names"] for one in seen.get_indexes(table)},
            }
            for table in seen.get_table_names()
            if (columns := seen.get_columns(table))
        },
    }


@pytest.mark.parametrize("number", range(1, SCHEMA_VERSION))
@pytest.mark.sqlite_only
def test_a_database_of_each_schema_becomes_as_a_new_one_and_keeps_its_records(number: int, tmp_path: Path) -> None:
    """Issue. The file has what versions of that schema made; a migration must not drift away from the tables."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    with closing(sqlite3.connect(old / "orchestrator.db")) as file:
        file.executescript(made_by(number) + RECORDS)
    upgraded = Store(f"sqlite:///{old}/orchestrator.db", old)
    made = Store(f"sqlite:///{new}/orchestrator.db", new)
    identity = upgraded.look(lambda c: c.exec_driver_sql("SELECT value FROM meta WHERE key = 'uuid'").scalar())

    for store in (upgraded, made):
        store.migrate()
        store.migrate()

    assert upgraded.look(facts) == made.look(facts)
    assert upgraded.schema_version() == SCHEMA_VERSION
    assert upgraded.look(lambda c: c.exec_driver_sql("SELECT value FROM meta WHERE key = 'uuid'").scalar()) == identity
    build = upgraded.look(lambda c: get_build(c, 1))
    assert (build.name, build.machine, build.worker, build.claim) == ("build", None, None, 0)
    assert [(row.stage, row.unreachable_since) for row in upgraded.look(lambda c: builds.stages_of(c, 1))] == [
        ("s", None)
    ]
    assert [event.type for event in upgraded.look(lambda c: events_after(c, 0))] == ["build.status"]
    upgraded.engine.dispose()
    made.engine.dispose()
