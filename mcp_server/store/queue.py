"""The queue that the builds' table is: what a worker has not seen, who was served last, what waits for what."""

import statistics
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.model import BuildStatus
from mcp_server.store.builds import OPEN, OPEN_COLUMNS, OpenBuild, open_build
from mcp_server.store.prepared import Prepared
from mcp_server.store.statements import is_one_of
from mcp_server.store.tables import BUILDS, PROJECTS

_AFTER: sa.BindParameter[int] = sa.bindparam("after")
_NEW_BUILDS = Prepared(
    sa.union_all(
        sa.select(*OPEN_COLUMNS).where(is_one_of(OPEN), BUILDS.c.id > _AFTER),
        sa.select(*OPEN_COLUMNS).where(is_one_of(OPEN), BUILDS.c.cancel_requested.is_(True), BUILDS.c.id <= _AFTER),
    )
)
_LAST_BEGUN = sa.func.max(BUILDS.c.started_at)
_SERVED = (
    sa.select(BUILDS.c.project_id)
    .where(BUILDS.c.started_at.is_not(None))
    .group_by(BUILDS.c.project_id)
    .order_by(_LAST_BEGUN, sa.func.max(BUILDS.c.id))
)
_SERVED_OF = _SERVED.where(BUILDS.c.project_id.in_(sa.bindparam("projects", expanding=True)))

MOST_USUAL = 300  # kinds of builds whose usual durations are looked up: each costs a query
NEWEST = 5  # successes that tell what such a build takes

_FACTS = (
    sa.select(
        BUILDS.c.id,
        BUILDS.c.project_id,
        PROJECTS.c.name.label("project_name"),
        BUILDS.c.priority,
        BUILDS.c.status,
        BUILDS.c.started_at,
        BUILDS.c.name,
        BUILDS.c.place,
        BUILDS.c.machine,
        BUILDS.c.worker,
    )
    .join(PROJECTS, PROJECTS.c.id == BUILDS.c.project_id)
    .where(BUILDS.c.status.in_(OPEN), BUILDS.c.cancel_requested.is_(False))
)
# What SQL has no common words for.
_OF_PLAN = {
    "sqlite": sa.text(
        """
        SELECT b.id, json_extract(b.plan, '$.stages[0].host'), json_extract(b.plan, '$.stages[0].hosts'),
          (SELECT json_extract(one.value, '$.directory') FROM json_each(b.plan, '$.stages') AS one
           WHERE json_extract(one.value, '$.directory') IS NOT NULL LIMIT 1)
        FROM builds AS b WHERE b.id > :after AND b.status IN ('pending', 'running')
        """
    ),
    "postgresql": sa.text(
        """
        SELECT b.id, b.plan #>> '{stages,0,host}', b.plan #>> '{stages,0,hosts}',
          (SELECT one ->> 'directory' FROM json_array_elements(b.plan -> 'stages') AS one
           WHERE one ->> 'directory' IS NOT NULL LIMIT 1)
        FROM builds AS b WHERE b.id > :after AND b.status IN ('pending', 'running')
        """
    ),
}
_STATE = (
    sa.select(BUILDS.c.status, sa.func.count(), sa.func.sum(BUILDS.c.id))
    .where(BUILDS.c.status.in_(OPEN))
    .group_by(BUILDS.c.status)
)
_TO_CANCEL = sa.select(sa.func.count()).where(BUILDS.c.status.in_(OPEN), BUILDS.c.cancel_requested.is_(True))

_Needs = tuple[str, str | None]
_KEPT: weakref.WeakKeyDictionary[sa.Engine, dict[int, _Needs]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class QueueRow:
    """An open build that is not being cancelled. `hosts` is where its first stage may run, `|` between names."""

    id: int
    project_id: str
    project_name: str
    priority: int
    status: BuildStatus
    started_at: datetime | None
    name: str
    place: str | None
    machine: str | None
    worker: str | None
    hosts: str
    directory: str | None


def state(c: sa.Connection) -> object:
    """Another one whenever the queue is. Costs a look into an index."""
    return [tuple(row) for row in c.execute(_STATE)], c.scalar(_TO_CANCEL)


def queue_rows(c: sa.Connection) -> list[QueueRow]:
    """The queue, in no order. What a build needs is read of its plan once: plans are long."""
    kept = _KEPT.setdefault(c.engine, {})
    newest = max(kept, default=0)
    for number, host, hosts, directory in c.execute(_OF_PLAN[c.dialect.name], {"after": newest}):
        more = [] if hosts in (None, "[]") else str(hosts).strip("[]").replace('"', "").replace(" ", "").split(",")
        kept[number] = "|".join([str(host), *more]), directory
    found: list[QueueRow] = []
    for row in c.execute(_FACTS):
        facts: list[Any] = [*row[:4], BuildStatus(row[4]), *row[5:], *kept.get(row[0], ("local", None))]
        found.append(QueueRow(*facts))
    _KEPT[c.engine] = {row.id: kept[row.id] for row in found if row.id in kept}
    return found


def usual_durations(c: sa.Connection, kinds: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], float]:
    """Seconds that builds take, by project and name: the median of the newest that passed. Of the first kinds only."""
    found: dict[tuple[str, str], float] = {}
    for project, name in kinds[:MOST_USUAL]:
        same = (BUILDS.c.project_id == project, BUILDS.c.name == name, BUILDS.c.status == BuildStatus.SUCCESS)
        query = sa.select(BUILDS.c.duration).where(*same, BUILDS.c.duration.is_not(None))
        if times := c.scalars(query.order_by(BUILDS.c.id.desc()).limit(NEWEST)).all():
            found[project, name] = float(statistics.median(times))
    return found


def new_builds(c: sa.Connection, after: int) -> list[OpenBuild]:
    """Open builds above the number `after`, and those up to it that are to be cancelled.

    It is all that a worker which has seen the others has to know: numbers are given in the order of commits.
    """
    return [open_build(row) for row in _NEW_BUILDS.run(c, {"after": after}).fetchall()]


def served(c: sa.Connection, projects: Collection[str] | None = None) -> list[str]:
    """The projects, of these, that builds have begun of; first the one of which none began for the longest time."""
    if projects is None:
        return list(c.scalars(_SERVED))
    return list(c.scalars(_SERVED_OF, {"projects": list(projects)}))
