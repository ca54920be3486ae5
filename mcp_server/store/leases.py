"""Leases: who holds a host slot or a build directory. They end with their holder, never by the clock."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Lease
from mcp_server.store.builds import OPEN
from mcp_server.store.events import append
from mcp_server.store.postgres import tell
from mcp_server.store.prepared import Prepared
from mcp_server.store.tables import BUILDS, LEASES

_ADD = Prepared(sa.insert(LEASES), LEASES.c)
_RELEASE = Prepared(
    sa.delete(LEASES).where(
        LEASES.c.resource == sa.bindparam("of_resource"),
        LEASES.c.slot == sa.bindparam("of_slot"),
        LEASES.c.build == sa.bindparam("of_build"),
    )
)
_RELEASE_OF = Prepared(
    sa.delete(LEASES).where(LEASES.c.build == sa.bindparam("of_build")).returning(LEASES.c.resource, LEASES.c.slot)
)
_HELD = sa.select(LEASES.c.resource, LEASES.c.slot, LEASES.c.build, LEASES.c.stage, LEASES.c.taken_at).where(
    LEASES.c.resource.in_(sa.bindparam("resources", expanding=True))
)


def add(c: sa.Connection, lease: Lease, now: datetime) -> None:
    """Write a lease of a slot that is free: `holders` was asked in the same transaction."""
    _ADD.run(c, vars(lease))
    data = {"resource": lease.resource, "slot": lease.slot, "reason": lease.reason}
    append(c, "lease.taken", lease.build, now, data)


def release(c: sa.Connection, lease: Lease, now: datetime) -> None:
    """Give a slot back; nothing happens where it is gone already."""
    key = {"of_resource": lease.resource, "of_slot": lease.slot, "of_build": lease.build}
    if _RELEASE.run(c, key).rowcount:
        _tell(c, lease.resource, lease.slot, lease.build, now)


def _tell(c: sa.Connection, resource: str, slot: int, build_id: int, now: datetime) -> None:
    tell(c, resource)
    append(c, "lease.released", build_id, now, {"resource": resource, "slot": slot})


def release_of(c: sa.Connection, build_id: int, now: datetime) -> set[str]:
    """Give back all that a build holds, as it is over; the resources that became free."""
    freed = sorted((str(row[0]), int(row[1])) for row in _RELEASE_OF.run(c, {"of_build": build_id}).fetchall())
    for resource, slot in freed:
        _tell(c, resource, slot, build_id, now)
    return {resource for resource, _ in freed}


def release_ended(c: sa.Connection, now: datetime) -> None:
    """Drop leases whose build is over: their holder was killed between its end and its release."""
    over = sa.select(LEASES).join(BUILDS, BUILDS.c.id == LEASES.c.build).where(BUILDS.c.status.not_in(OPEN))
    for row in c.execute(over).mappings().all():
        release(c, Lease(**row), now)


Held = tuple[str, int, int, str | None, datetime]


def held(c: sa.Connection, resources: Collection[str]) -> list[Held]:
    """Resource, slot, build, stage and beginning of every lease of some resources."""
    return [(row[0], row[1], row[2], row[3], row[4]) for row in c.execute(_HELD, {"resources": list(resources)})]


def holders(c: sa.Connection) -> list[Lease]:
    """Leases held now."""
    query = sa.select(LEASES).order_by(LEASES.c.resource, LEASES.c.slot)
    return [Lease(**row) for row in c.execute(query).mappings()]
