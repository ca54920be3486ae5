"""The queue that the builds' table is: what a worker has not seen, and who was served last."""

import sqlalchemy as sa

from mcp_server.store.builds import OPEN, OPEN_COLUMNS, OpenBuild, open_build
from mcp_server.store.tables import BUILDS

_AFTER = sa.bindparam("after")
_NEW_BUILDS = sa.union_all(
    sa.select(*OPEN_COLUMNS).where(BUILDS.c.status.in_(OPEN), BUILDS.c.id > _AFTER),
    sa.select(*OPEN_COLUMNS).where(
        BUILDS.c.status.in_(OPEN), BUILDS.c.cancel_requested.is_(True), BUILDS.c.id <= _AFTER
    ),
)
_LAST_BEGUN = sa.func.max(BUILDS.c.started_at)
_SERVED = (
    sa.select(BUILDS.c.project_id)
    .where(BUILDS.c.started_at.is_not(None))
    .group_by(BUILDS.c.project_id)
    .order_by(_LAST_BEGUN, sa.func.max(BUILDS.c.id))
)


def new_builds(c: sa.Connection, after: int) -> list[OpenBuild]:
    """Open builds above the number `after`, and those up to it that are to be cancelled.

    It is all that a worker which has seen the others has to know: numbers are given in the order of commits.
    """
    return [open_build(row) for row in c.execute(_NEW_BUILDS, {"after": after})]


def served(c: sa.Connection) -> list[str]:
    """The projects that builds have begun of; first the one of which none began for the longest time."""
    return list(c.scalars(_SERVED))
