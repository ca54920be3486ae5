"""Statements that are worked out once write what Core would have written."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store.database import Store
from mcp_server.store.prepared import Prepared
from mcp_server.store.tables import BUILDS, EVENTS, META, PROJECTS

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("at", [NOON, NOON.replace(microsecond=70), NOON.astimezone(timezone(timedelta(hours=9)))])
@pytest.mark.parametrize("data", [None, {"stage": "é\udc80", "n": [1, None, 1.5]}])
async def test_times_and_json_are_on_the_disk_as_core_writes_them(store: Store, at: datetime, data: Any) -> None:
    """Ours. Rows of both ways lie beside each other, and are compared and sorted."""
    columns = [EVENTS.c.type, EVENTS.c.build, EVENTS.c.ts, EVENTS.c.data]
    values = {"type": "t", "build": None, "ts": at, "data": data}
    prepared = Prepared(sa.insert(EVENTS), columns)

    def statements(c: sa.Connection) -> list[tuple[Any, ...]]:
        c.execute(sa.insert(EVENTS), values)
        prepared.run(c, values)
        return [tuple(row) for row in c.exec_driver_sql("SELECT type, build, ts, data FROM events")]

    by_core, by_prepared = await store.write(statements)
    assert by_prepared == by_core
    assert str(by_core[2]).startswith("2026-11-01 12:00:00")


async def test_what_the_database_refuses_is_one_sentence_and_undone(store: Store) -> None:
    """Ours. The driver's own errors come by no way of SQLAlchemy's."""
    insert = Prepared(sa.insert(META), META.c)

    def twice(c: sa.Connection) -> None:
        insert.run(c, {"key": "a", "value": "1"})
        insert.run(c, {"key": "a", "value": "2"})

    with pytest.raises(StoreError, match=r"(?i)unique"):
        await store.write(twice)
    assert await store.read(lambda c: c.scalar(sa.select(META.c.value).where(META.c.key == "a"))) is None


@pytest.mark.parametrize("duration", [None, 1.5])
async def test_rows_are_as_core_gives_them(store: Store, duration: float | None) -> None:
    """Ours. Times with their zone, truth as truth, JSON unpacked, and nothing where there is nothing."""
    project = {"id": "p", "name": "n", "path": "/p", "created_at": NOON}
    build = {"id": 7, "project_id": "p", "triggered_by": "manual", "status": "pending", "created_at": NOON}
    build |= {"task_id": "t", "name": "b", "plan": {"stages": [{"é": None}]}, "args_key": "k", "duration": duration}
    build |= {"priority": 10, "round": 1}
    build |= {"cancel_requested": True, "started_at": None if duration is None else NOON + timedelta(microseconds=1)}
    prepared = Prepared(sa.select(BUILDS).where(BUILDS.c.id == sa.bindparam("of_id")))

    def statements(c: sa.Connection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        c.execute(sa.insert(PROJECTS), project)
        c.execute(sa.insert(BUILDS), build)
        by_core = [dict(row) for row in c.execute(sa.select(BUILDS)).mappings()]
        return by_core, prepared.rows(c, {"of_id": 7})

    by_core, by_prepared = await store.write(statements)
    assert by_prepared == by_core
    assert by_prepared[0] | build == by_prepared[0]
    assert await store.read(lambda c: prepared.rows(c, {"of_id": 8})) == []
