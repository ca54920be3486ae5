"""Imported projects, and deliveries of webhooks: statements to run inside `Store.read` or `Store.write`."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.errors import Conflict
from mcp_server.model import Project
from mcp_server.store.builds import REMOVED
from mcp_server.store.tables import BUILDS, DELIVERIES, PROJECTS


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook's delivery that is not done with; `push` as it was noted."""

    id: str
    received_at: datetime
    push: Mapping[str, Any]


def import_project(
    c: sa.Connection,
    *,
    path: str,
    name: str,
    source: str,
    status: str,
    target: str | None,
    branch: str | None,
    now: datetime,
) -> Project:
    """The project of a folder, new, or the known one under its new name. Conflict: another one has the name."""
    known = c.execute(sa.select(PROJECTS).where(PROJECTS.c.path == path)).mappings().first()
    other = sa.select(PROJECTS.c.path).where(PROJECTS.c.name == name, PROJECTS.c.path != path)
    other = other.where(sa.func.coalesce(PROJECTS.c.reason, "") != REMOVED)
    if (taken := c.scalar(other)) is not None:
        raise Conflict(f"name: {name} is the project in {taken} already: give another one")
    values = {"name": name, "source": source, "status": status, "branch": branch, "reason": None}
    if known is None:
        made = {"id": str(uuid.uuid4()), "path": path, "target": target, "created_at": now}
        c.execute(sa.insert(PROJECTS).values(values | made))
    else:
        c.execute(
            sa.update(PROJECTS).where(PROJECTS.c.path == path).values(values | {"target": target or known.target})
        )
    return Project(**c.execute(sa.select(PROJECTS).where(PROJECTS.c.path == path)).mappings().one())


def list_projects(c: sa.Connection, *, limit: int, after: str | None = None) -> list[Project]:
    """Projects by name, then id, those of the same name or an earlier one as project `after` and that itself not."""
    there = sa.func.coalesce(PROJECTS.c.reason, "") != REMOVED
    query = sa.select(PROJECTS).where(there).order_by(PROJECTS.c.name, PROJECTS.c.id).limit(limit)
    if after is not None and (last := c.execute(sa.select(PROJECTS).where(PROJECTS.c.id == after)).first()):
        query = query.where(sa.tuple_(PROJECTS.c.name, PROJECTS.c.id) > (last.name, last.id))
    return [Project(**row) for row in c.execute(query).mappings()]


def set_project(c: sa.Connection, project_id: str, **values: Any) -> None:
    """Change columns of a project."""
    c.execute(sa.update(PROJECTS).where(PROJECTS.c.id == project_id).values(values))


def check_no_open_build(c: sa.Connection, project_id: str) -> None:
    """Conflict: a build of the project is open."""
    open_ = sa.and_(BUILDS.c.project_id == project_id, BUILDS.c.status.in_(("pending", "running")))
    if (number := c.scalar(sa.select(BUILDS.c.id).where(open_))) is not None:
        raise Conflict(f"build {number} of it is not over: wait for it, or cancel it")


def remove_project(c: sa.Connection, project_id: str) -> bool:
    """Forget a project; True where its row is gone, False where builds keep it, as `error` with the reason removed.

    Conflict: a build of it is open.
    """
    check_no_open_build(c, project_id)
    if c.scalar(sa.select(BUILDS.c.id).where(BUILDS.c.project_id == project_id).limit(1)) is None:
        c.execute(sa.delete(PROJECTS).where(PROJECTS.c.id == project_id))
        return True
    set_project(c, project_id, status="error", reason=REMOVED, source=None)
    return False


def imported(c: sa.Connection) -> list[Project]:
    """Every project but those that were removed, by name."""
    there = sa.func.coalesce(PROJECTS.c.reason, "") != REMOVED
    query = sa.select(PROJECTS).where(there).order_by(PROJECTS.c.name)
    return [Project(**row) for row in c.execute(query).mappings()]


def note_delivery(c: sa.Connection, delivery: str, now: datetime, push: Mapping[str, Any] | None = None) -> bool:
    """Whether a webhook's delivery is new, or was never worked on to its end. `push` is what it takes to do so."""
    row = c.execute(sa.select(DELIVERIES.c.said).where(DELIVERIES.c.id == delivery)).first()
    if row is None:
        c.execute(sa.insert(DELIVERIES).values(id=delivery, received_at=now, push=push))
    return row is None or row.said is None


def first_brought(c: sa.Connection, body: str, delivery: str, now: datetime) -> bool:
    """Whether this delivery is the one that brought a body first, by its hash; its id is not signed, its body is."""
    key = f"body:{body}"
    first = c.scalar(sa.select(DELIVERIES.c.said).where(DELIVERIES.c.id == key))
    if first is None:
        c.execute(sa.insert(DELIVERIES).values(id=key, received_at=now, push=None, said=delivery))
    return first in (None, delivery)


def unended_deliveries(c: sa.Connection, since: datetime, limit: int) -> list[Delivery]:
    """The newest ones that nobody has worked on to their end, oldest first."""
    known = sa.select(DELIVERIES.c.id, DELIVERIES.c.received_at, DELIVERIES.c.push)
    known = known.where(DELIVERIES.c.said.is_(None), DELIVERIES.c.received_at >= since)
    rows = c.execute(known.order_by(DELIVERIES.c.received_at.desc()).limit(limit)).mappings()
    return [Delivery(**row) for row in rows if row["push"]][::-1]


def is_ended(c: sa.Connection, delivery: str) -> bool:
    """Whether it is known what became of a delivery."""
    return c.scalar(sa.select(DELIVERIES.c.said).where(DELIVERIES.c.id == delivery)) is not None


def forget_deliveries(c: sa.Connection, before: datetime) -> int:
    """Drop deliveries that came earlier; how many."""
    return c.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.received_at < before)).rowcount


def pushed_build(c: sa.Connection, project_id: str, commit: str, since: datetime) -> int | None:
    """A build of that commit that a push has started since."""
    of_it = sa.and_(BUILDS.c.project_id == project_id, BUILDS.c.triggered_by == "push", BUILDS.c.created_at >= since)
    # Which commit a build is of is in its plan from the beginning, in its own column a moment later.
    same = sa.cast(BUILDS.c.plan, sa.Text).contains(commit)
    return c.scalar(sa.select(BUILDS.c.id).where(of_it, same).limit(1))


def end_delivery(c: sa.Connection, delivery: str, said: str) -> None:
    """Keep what became of a delivery, one sentence: it is not worked on again."""
    c.execute(sa.update(DELIVERIES).where(DELIVERIES.c.id == delivery).values(said=said))
