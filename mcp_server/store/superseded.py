"""Builds of pushes that a newer push to their branch makes needless."""

from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Build
from mcp_server.store import builds
from mcp_server.store.builds import OPEN
from mcp_server.store.tables import BUILDS

SUPERSEDED = "superseded"  # the `reason` of such a build
PUSH = "push"


def supersede(c: sa.Connection, by: Build, branch: str, before: datetime | None, now: datetime) -> list[int]:
    """Cancel what earlier pushes to a branch of `by`'s project ordered and is not over; the numbers of these builds.

    `before`: only of those that were ordered before that. One whose commit was pushed to another branch, too, goes on
    for that one.
    """
    query = sa.select(BUILDS.c.id).where(
        BUILDS.c.project_id == by.project_id,
        BUILDS.c.status.in_(OPEN),
        BUILDS.c.triggered_by == PUSH,
        BUILDS.c.cancel_requested.is_(False),
        BUILDS.c.id != by.id,
        *([] if before is None else [BUILDS.c.created_at < before]),
    )
    ended: list[int] = []
    for number in list(c.scalars(query.order_by(BUILDS.c.id))):
        build = builds.get_build(c, number)
        if branch not in build.plan.branches:
            continue
        if left := [name for name in build.plan.branches if name != branch]:
            builds.set_branches(c, build, left)
            continue
        why = f"superseded by build {by.id}: {(by.commit_sha or 'a newer commit')[:12]} was pushed to {branch[:200]}"
        builds.request_cancel(c, number, now, reason=SUPERSEDED, build_output=why)
        ended.append(number)
    return ended


def is_built_anew(c: sa.Connection, build: Build) -> bool:
    """Whether a newer build of the same pushed commit is there: that one tells how the commit is."""
    same = (BUILDS.c.project_id == build.project_id, BUILDS.c.triggered_by == PUSH, BUILDS.c.id > build.id)
    newer = sa.select(BUILDS.c.id).where(*same, BUILDS.c.commit_sha == build.commit_sha)
    return c.scalar(newer.limit(1)) is not None
