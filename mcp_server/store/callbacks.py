"""Callbacks that wait for delivery: written with the end of their build, kept until delivered or given up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from mcp_server.store.events import append
from mcp_server.store.postgres import tell
from mcp_server.store.tables import CALLBACKS

BUILD_ENDED = "build.ended"
ADDED = "callback"  # what others hear: the one that delivers may not be the one whose build ended
FARTHEST = timedelta(hours=2)  # nothing is put off for longer

CallbackStatus = Literal["pending", "delivered", "failed", "gone"]
"""`failed`: given up; `gone`: the receiver wants no more. Only `pending` has a `next_at`."""


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback. `url` may hold a secret, so it is in no event; `attempts` are those that were made."""

    id: int
    task_id: str
    event: str
    build: int
    url: str = field(repr=False)
    body: str = field(repr=False)
    status: CallbackStatus
    attempts: int
    created_at: datetime
    next_at: datetime | None
    last_error: str | None


def add(
    c: sa.Connection, build: int, task_id: str, url: str, body: str, now: datetime, *, event: str = BUILD_ENDED
) -> bool:
    """Have `body` delivered to `url`, from now on. False: this task has a callback for that event already."""
    there = sa.select(CALLBACKS.c.id).where(CALLBACKS.c.task_id == task_id, CALLBACKS.c.event == event)
    if c.scalar(there) is not None:  # no other writer comes between: a write holds the database's lock from its start
        return False
    row = {"task_id": task_id, "event": event, "build": build, "url": url, "body": body}
    c.execute(sa.insert(CALLBACKS).values(**row, status="pending", attempts=0, created_at=now, next_at=now))
    tell(c, ADDED)
    return True


def due(c: sa.Connection, now: datetime, limit: int = 50) -> list[Callback]:
    """Those whose time has come, the longest waiting first."""
    come = sa.or_(CALLBACKS.c.next_at <= now, CALLBACKS.c.next_at > now + FARTHEST)  # the clock was set back since
    query = sa.select(CALLBACKS).where(come).order_by(CALLBACKS.c.next_at).limit(limit)
    return [Callback(**row) for row in c.execute(query).mappings()]


def next_time(c: sa.Connection) -> datetime | None:
    """When the next one is due; None: nothing waits."""
    return c.scalar(sa.select(sa.func.min(CALLBACKS.c.next_at)))


def of_build(c: sa.Connection, build: int) -> list[Callback]:
    """A build's callbacks, oldest first."""
    query = sa.select(CALLBACKS).where(CALLBACKS.c.build == build).order_by(CALLBACKS.c.id)
    return [Callback(**row) for row in c.execute(query).mappings()]


def note(
    c: sa.Connection,
    callback: Callback,
    now: datetime,
    *,
    status: CallbackStatus,
    next_at: datetime | None,
    error: str | None,
    told: Mapping[str, Any],
) -> bool:
    """Record an attempt, with its event `callback.delivered` or `.failed {**told}`. False: it is settled already.

    Of a commit's status the events are `status.delivered` and `.failed`.
    """
    changed = c.execute(
        sa.update(CALLBACKS)
        .where(CALLBACKS.c.id == callback.id, CALLBACKS.c.status == "pending")
        .values(status=status, attempts=callback.attempts + 1, next_at=next_at, last_error=error)
    )
    if not changed.rowcount:
        return False
    kind = "callback" if callback.event == BUILD_ENDED else "status"
    append(c, f"{kind}.{'delivered' if status == 'delivered' else 'failed'}", callback.build, now, told)
    return True
