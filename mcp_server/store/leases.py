"""Leases: who holds a host slot or a build directory. They end with their holder, never by the clock."""

from datetime import datetime

import sqlalchemy as sa

from mcp_server.model import Lease
from mcp_server.store.builds import OPEN
from mcp_server.store.events import append
from mcp_server.store.tables import BUILDS, LEASES


def take(
    c: sa.Connection, resource: str, slots: int, build_id: int, stage: str | None, reason: str, now: datetime
) -> Lease | None:
    """A free slot of `resource`, or the one this holder has already; None where all are taken."""
    held = [Lease(**row) for row in c.execute(sa.select(LEASES).where(LEASES.c.resource == resource)).mappings()]
    for lease in held:
        if (lease.build, lease.stage) == (build_id, stage):
            return lease
    taken = {lease.slot for lease in held}
    slot = next((number for number in range(slots) if number not in taken), None)
    if slot is None:
        return None
    lease = Lease(resource=resource, slot=slot, build=build_id, stage=stage, reason=reason, taken_at=now)
    c.execute(sa.insert(LEASES).values(lease.model_dump()))
    append(c, "lease.taken", build_id, now, {"resource": resource, "slot": slot, "reason": reason})
    return lease


def release(c: sa.Connection, lease: Lease, now: datetime) -> None:
    """Give a slot back; nothing happens where it is gone already."""
    key = (LEASES.c.resource == lease.resource, LEASES.c.slot == lease.slot, LEASES.c.build == lease.build)
    if c.execute(sa.delete(LEASES).where(*key)).rowcount:
        append(c, "lease.released", lease.build, now, {"resource": lease.resource, "slot": lease.slot})


def release_of(c: sa.Connection, build_id: int, now: datetime) -> set[str]:
    """Give back all that a build holds, as it is over; the resources that became free."""
    held = [lease for lease in holders(c) if lease.build == build_id]
    for lease in held:
        release(c, lease, now)
    return {lease.resource for lease in held}


def release_ended(c: sa.Connection, now: datetime) -> None:
    """Drop leases whose build is over: their holder was killed between its end and its release."""
    over = sa.select(LEASES).join(BUILDS, BUILDS.c.id == LEASES.c.build).where(BUILDS.c.status.not_in(OPEN))
    for row in c.execute(over).mappings().all():
        release(c, Lease(**row), now)


def holders(c: sa.Connection, resource: str | None = None) -> list[Lease]:
    """Leases held now, of one resource or of all."""
    query = sa.select(LEASES).order_by(LEASES.c.resource, LEASES.c.slot)
    if resource is not None:
        query = query.where(LEASES.c.resource == resource)
    return [Lease(**row) for row in c.execute(query).mappings()]
