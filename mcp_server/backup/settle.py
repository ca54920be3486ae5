"""What becomes of a restored store's rows that were about to do something: a copy tells nobody and starts nothing."""

import uuid
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import BuildStatus, StageStatus
from mcp_server.store import builds, identity
from mcp_server.store.tables import CALLBACKS, DELIVERIES, LEASES, SCHEDULES

LOST = "lost"
GAP = {"builds": 1000, "events": 10_000_000}
"""Numbers may have been given since the backup: those that follow lie above the next round one."""


def above(given: Mapping[str, int]) -> dict[str, int]:
    """The last number of each table that is not to be given again: anything may have been, since the backup."""
    return {name: -(-number // GAP[name]) * GAP[name] if name in GAP else number for name, number in given.items()}


def settle(c: sa.Connection, taken_at: datetime, now: datetime) -> int:
    """End what was open in the backup, without telling anybody; how many builds."""
    sentence = (
        f"restored from a backup of {taken_at:%Y-%m-%d %H:%M} UTC, when it was not over: what became of it is not known"
    )
    opened = builds.open_builds(c)
    for row in opened:
        for stage in builds.stages_of(c, row.id):
            if stage.status.is_open:
                status = StageStatus.FAILED if stage.status is StageStatus.RUNNING else StageStatus.CANCELLED
                changed = {"status": status, "reason": LOST, "ended_at": taken_at, "unreachable_since": None}
                builds.put_stage(c, stage.model_copy(update=changed), now)
        builds.end_build(c, row.id, BuildStatus.FAILED, LOST, taken_at, build_output=sentence)
    c.execute(sa.delete(LEASES))
    waiting = sa.update(CALLBACKS).where(CALLBACKS.c.status == "pending")
    c.execute(waiting.values(status="failed", next_at=None, last_error=sentence))
    c.execute(sa.update(DELIVERIES).where(DELIVERIES.c.said.is_(None)).values(said=sentence))
    # Times that have passed since are not made up for.
    c.execute(sa.update(SCHEDULES).where(SCHEDULES.c.done_until < now).values(done_until=now))
    return len(opened)


def renamed(meta: Mapping[str, str]) -> dict[str, str]:
    """The store's own facts with a new uuid, and the old one for finding its results in a bucket."""
    old = [meta["uuid"], *meta.get(identity.BEFORE, "").split()]
    own = {"uuid": uuid.uuid4().hex[:8], identity.BEFORE: " ".join(old[:20])}
    return {**{key: value for key, value in meta.items() if key != identity.TRACED}, **own}
