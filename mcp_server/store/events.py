"""Events: appended with the change they tell of, in one transaction, read by `after`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.model import Event
from mcp_server.store.guards import KEPT_FROM
from mcp_server.store.prepared import Prepared
from mcp_server.store.tables import BUILDS, EVENTS, META

GONE = "events.gone"  # told in the place of events that are not kept any more

LATER = "later"  # in a connection's `info`: events to be appended before its commit, where trips are dear

_COLUMNS = (EVENTS.c.type, EVENTS.c.build, EVENTS.c.ts, EVENTS.c.data)
_NAMES = [column.name for column in _COLUMNS]
_APPEND = Prepared(sa.insert(EVENTS).inline(), _COLUMNS)
_given = [sa.bindparam(column.name, type_=sa.ARRAY(column.type)) for column in _COLUMNS]
_new = sa.func.unnest(*_given).table_valued(*_NAMES, with_ordinality="place", name="given").render_derived()
_APPEND_ALL = Prepared(  # in their order: their numbers tell it
    sa.insert(EVENTS).inline().from_select(_NAMES, sa.select(*(_new.c[name] for name in _NAMES)).order_by(_new.c.place))
)
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
        catch_up(c)
        c.execute(_DROP, {"of_build": build_id, "of_type": event_type, "of_stage": replaces})
    values = {"type": event_type, "build": build_id, "ts": now, "data": data}
    later: list[dict[str, Any]] | None = c.info.get(LATER)
    if later is None:
        _APPEND.run(c, values)
    else:
        later.append(values)


def catch_up(c: sa.Connection) -> None:
    """Append what was put off, in one trip. Who looks for events that its own transaction appended calls this first."""
    later: list[dict[str, Any]] | None = c.info.get(LATER)
    if later:
        _APPEND_ALL.run(c, {name: [one[name] for one in later] for name in _NAMES})
        later.clear()


def events_after(c: sa.Connection, after: int, *, build_id: int | None = None, limit: int = 500) -> list[Event]:
    """Events with an id above `after`, oldest first. Where some are not kept any more, `events.gone` says so before."""
    catch_up(c)
    query = sa.select(EVENTS).where(EVENTS.c.id > after).order_by(EVENTS.c.id).limit(limit)
    if build_id is not None:
        query = query.where(EVENTS.c.build == build_id)
    found = [Event(**row) for row in c.execute(query).mappings()]
    if found and (found[0].id == after + 1 or _is_first(found[0], build_id)):
        return found
    return [*_gone(c, after, build_id), *found]


def _is_first(event: Event, build_id: int | None) -> bool:
    """Whether it is the event that a build begins with."""
    is_order = event.type == "build.status" and event.data.get("status") == "pending"
    return build_id is not None and is_order


def _gone(c: sa.Connection, after: int, build_id: int | None) -> list[Event]:
    """What stands for the events above `after` that are not kept any more; nothing where there are none."""
    kept_from = _kept_from(c)
    first = c.scalar(sa.select(EVENTS.c.ts).order_by(EVENTS.c.id).limit(1))
    if first is None or after >= kept_from - 1:
        return []
    data = {"message": f"events up to {kept_from - 1} are not kept any more", "up_to": kept_from - 1}
    return [Event(id=kept_from - 1, type=GONE, build=build_id, ts=first, data=data)]


def last_id(c: sa.Connection) -> int:
    """The id of the newest event there was, 0 where there never was one."""
    catch_up(c)
    found = c.scalar(sa.select(sa.func.max(EVENTS.c.id)))
    return int(found) if found is not None else max(_kept_from(c) - 1, 0)


def _kept_from(c: sa.Connection) -> int:
    return int(c.scalar(sa.select(META.c.value).where(META.c.key == KEPT_FROM)) or 0)


def newest_events(c: sa.Connection, build_id: int, limit: int) -> list[Event]:
    """The last events of a build, oldest of them first."""
    catch_up(c)
    query = sa.select(EVENTS).where(EVENTS.c.build == build_id).order_by(EVENTS.c.id.desc()).limit(limit)
    found = [Event(**row) for row in reversed(c.execute(query).mappings().all())]
    if len(found) == limit or (found and _is_first(found[0], build_id)):
        return found
    return [*_gone(c, 0, build_id), *found]


def ended_builds(c: sa.Connection, after: int, limit: int) -> tuple[list[int], int]:
    """Builds that were over by events above `after`, in their order, and up to which event that was looked."""
    newest = last_id(c)
    over = sa.select(EVENTS.c.id, EVENTS.c.build).where(EVENTS.c.id > after, EVENTS.c.type == "workflow.completed")
    rows = c.execute(over.order_by(EVENTS.c.id).limit(limit)).all()
    numbers = [int(row.build) for row in rows if row.build is not None]
    return list(dict.fromkeys(numbers)), rows[-1].id if len(rows) == limit else max(newest, after)


def forget(c: sa.Connection, before: datetime, most: int = 1000) -> int:
    """Drop the oldest events, up to `most` of them: those of before then whose build was over by then; how many.

    Events are dropped in their order, so that one number says which are left: a build that is open for long keeps what
    came after its beginning.
    """
    catch_up(c)
    rows = c.execute(sa.select(EVENTS.c.id, EVENTS.c.build, EVENTS.c.ts).order_by(EVENTS.c.id).limit(most)).all()
    numbers = {row.build for row in rows if row.build is not None}
    over = sa.or_(BUILDS.c.completed_at.is_(None), BUILDS.c.completed_at >= before)
    needed = set(c.scalars(sa.select(BUILDS.c.id).where(BUILDS.c.id.in_(numbers), over)))
    kept = next((row.id for row in rows if row.ts >= before or row.build in needed), None)
    kept_from = kept if kept is not None else rows[-1].id + 1 if rows else None
    if kept_from is None or kept_from == rows[0].id:
        return 0
    c.execute(sa.delete(META).where(META.c.key == KEPT_FROM))
    c.execute(sa.insert(META).values(key=KEPT_FROM, value=str(kept_from)))
    return c.execute(sa.delete(EVENTS).where(EVENTS.c.id < kept_from)).rowcount
