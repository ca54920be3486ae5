"""Imported projects, and deliveries of webhooks: statements to run inside `Store.read` or `Store.write`."""

import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.errors import Conflict
from mcp_server.model import Project
from mcp_server.store.builds import REMOVED
from mcp_server.store.tables import BUILDS, DELIVERIES, PROJECTS


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


def set_project(c: sa.Connection, project_id: str, **values: Any) -> None:
    """Change columns of a project."""
    c.execute(sa.update(PROJECTS).where(PROJECTS.c.id == project_id).values(values))


def remove_project(c: sa.Connection, project_id: str) -> bool:
    """Forget a project; True where its row is gone, False where builds keep it, as `error` with the reason removed.

    Conflict: a build of it is open.
    """
    of_it = sa.select(BUILDS.c.id).where(BUILDS.c.project_id == project_id)
    if (number := c.scalar(of_it.where(BUILDS.c.status.in_(("pending", "running"))))) is not None:
        raise Conflict(f"build {number} of it is not over: wait for it, or cancel it")
    if c.scalar(of_it.limit(1)) is None:
        c.execute(sa.delete(PROJECTS).where(PROJECTS.c.id == project_id))
        return True
    set_project(c, project_id, status="error", reason=REMOVED, source=None)
    return False


def imported(c: sa.Connection) -> list[Project]:
    """Every project that can be built, by name."""
    query = sa.select(PROJECTS).where(PROJECTS.c.status == "active").order_by(PROJECTS.c.name)
    return [Project(**row) for row in c.execute(query).mappings()]


def note_delivery(c: sa.Connection, delivery: str, now: datetime) -> bool:
    """Whether a webhook's delivery is new, or was never worked on to its end."""
    row = c.execute(sa.select(DELIVERIES.c.said).where(DELIVERIES.c.id == delivery)).first()
    if row is None:
        c.execute(sa.insert(DELIVERIES).values(id=delivery, received_at=now))
    return row is None or row.said is None


def end_delivery(c: sa.Connection, delivery: str, said: str) -> None:
    """Keep what became of a delivery, one sentence: it is not worked on again."""
    c.execute(sa.update(DELIVERIES).where(DELIVERIES.c.id == delivery).values(said=said))
