"""Events: appended with the change they tell of, in one transaction, read by `after`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.model import Event
from mcp_server.store.prepared import Prepared
from mcp_server.store.tables import EVENTS

_APPEND = Prepared(sa.insert(EVENTS), [EVENTS.c.type, EVENTS.c.build, EVENTS.c.ts, EVENTS.c.data])
_DROP = sa.delete(EVENTS).where(
    EVENTS.c.build == sa.bindparam("of_build"),
    EVENTS.c.type == sa.bindparam("of_type"),
    EVENTS.c.data["stage"].as_string() == sa.bindparam("of_stage"),
)


def append(
    c: sa.Connection,
    event_type: str,
    build_id: int | None,
    now: datetime,
    data: Mapping[str, Any],
    *,
    replaces: str | None = None,
) -> None:
    """Append one event. `replaces` names a stage whose earlier progress events of this build are dropped.

    Ids are given under the database's write lock, so whoever has read up to an id has missed none below it.
    """
    if replaces is not None:
        c.execute(_DROP, {"of_build": build_id, "of_type": event_type, "of_stage": replaces})
    _APPEND.run(c, {"type": event_type, "build": build_id, "ts": now, "data": data})


def events_after(c: sa.Connection, after: int, *, build_id: int | None = None, limit: int = 500) -> list[Event]:
    """Events with an id above `after`, oldest first."""
    query = sa.select(EVENTS).where(EVENTS.c.id > after).order_by(EVENTS.c.id).limit(limit)
    if build_id is not None:
        query = query.where(EVENTS.c.build == build_id)
    return [Event(**row) for row in c.execute(query).mappings()]


def last_id(c: sa.Connection) -> int:
    """The id of the newest event, 0 where there is none."""
    return c.execute(sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.id), 0))).scalar_one()


def newest_events(c: sa.Connection, build_id: int, limit: int) -> list[Event]:
    """The last events of a build, oldest of them first."""
    query = sa.select(EVENTS).where(EVENTS.c.build == build_id).order_by(EVENTS.c.id.desc()).limit(limit)
    return [Event(**row) for row in reversed(c.execute(query).mappings().all())]
