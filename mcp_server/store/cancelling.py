"""Asking for a build's end, also where the machine is away that it is bound to."""

from datetime import datetime

import sqlalchemy as sa

from mcp_server.store import builds, claims, workers


def ask(c: sa.Connection, build: int, now: datetime, *, force: bool) -> bool:
    """Mark an open build for cancelling; True if it was open. `force`: without its machine, unless that is there."""
    asked = builds.request_cancel(c, build, now)
    if asked and force and c.dialect.name != "sqlite":
        claims.give_up(c, build, {one.machine for one in workers.alive(c)})
    return asked
