"""Whose a build is: a worker that takes one raises its `claim`, and what a former holder still writes is refused.

Who is frozen, or cut off from the database, cannot know that its build was given to another. So the number that it
took the build with goes along with all it writes for it, in its tasks' context.
"""

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mcp_server.config_rules import LOCAL
from mcp_server.errors import StoreError
from mcp_server.store.builds import OPEN, OPEN_COLUMNS, OpenBuild, open_build
from mcp_server.store.prepared import Prepared
from mcp_server.store.statements import is_one_of
from mcp_server.store.tables import BUILDS, LEASES, STAGES

OPEN_STAGES = ("waiting", "running")
MACHINE, HOME = "machine:", "home:"  # what the places of builds begin with


class Taken(StoreError):
    """Another worker has the build now: nothing was written, and nothing may be done for it here any more."""

    def __init__(self, build: int) -> None:
        self.build = build
        super().__init__(f"build {build} was taken over by another worker")


@dataclass(frozen=True, slots=True)
class Claim:
    """A build, and the number that it was taken with."""

    build: int
    number: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A build that a worker has just taken: its claim, and its whole row. `left`: another walk of it left something."""

    claim: Claim
    open: OpenBuild
    row: Mapping[str, Any]
    left: bool


_CURRENT: ContextVar[Claim | None] = ContextVar("claim", default=None)
_NUMBER = Prepared(sa.select(BUILDS.c.claim).where(BUILDS.c.id == sa.bindparam("of_id")))
_NUMBERS = Prepared(
    sa.select(BUILDS.c.id, BUILDS.c.claim).where(
        BUILDS.c.id == sa.any_(sa.bindparam("of_ids", type_=sa.ARRAY(sa.Integer)))
    )
)
_left = sa.or_(*(sa.exists().where(table.c.build == BUILDS.c.id) for table in (STAGES, LEASES)))
_TAKE = Prepared(
    sa.update(BUILDS)
    .where(BUILDS.c.id == sa.bindparam("of_id"), is_one_of(OPEN))
    .values(
        worker=sa.bindparam("to_worker"),
        machine=sa.case(
            (BUILDS.c.place.is_not(None), sa.func.coalesce(BUILDS.c.machine, sa.bindparam("to_machine"))),
            else_=BUILDS.c.machine,
        ),
        claim=BUILDS.c.claim + sa.literal_column("1"),
    )
    .returning(*BUILDS.c, _left.label("left_behind"))
)
_TOOK = "took"  # in a connection's `info`: the builds that were taken since `check_all`


def current() -> Claim | None:
    """The claim that this task and those it starts work for."""
    return _CURRENT.get()


def work_for(claim: Claim | None) -> None:
    """From now on this task, and those that it starts, write for a build only as long as it is theirs."""
    _CURRENT.set(claim)


def take(c: sa.Connection, build: int, worker: str, machine: str) -> Hold | None:
    """Make an open build a worker's own, whoever had it; None: it is over, or there is none.

    One that uses a machine's own folders (it has a place) is bound to this machine from now on.
    """
    rows = _TAKE.rows(c, {"of_id": build, "to_worker": worker, "to_machine": machine})
    if not rows:
        return None
    c.info.setdefault(_TOOK, set()).add(build)
    left = bool(rows[0].pop("left_behind"))
    open_ = open_build([rows[0][column.name] for column in OPEN_COLUMNS])
    return Hold(Claim(build, rows[0]["claim"]), open_, rows[0], left)


def unbind(c: sa.Connection, builds: Collection[int]) -> set[int]:
    """Free builds from their machine, which is away, that have started no job there; which.

    One that is to be cancelled, and of which nothing runs there any more, can be ended by anybody.
    """
    begun = sa.exists().where(STAGES.c.build == BUILDS.c.id, STAGES.c.job_id.is_not(None), STAGES.c.host == LOCAL)
    among = BUILDS.c.id.in_(builds)
    free = sa.update(BUILDS).where(among, BUILDS.c.place.startswith(HOME), ~begun)
    freed = {int(number) for number in c.scalars(free.values(machine=None).returning(BUILDS.c.id))}
    runs = begun.where(STAGES.c.status.in_(OPEN_STAGES))
    end = sa.update(BUILDS).where(among, BUILDS.c.place.is_not(None), BUILDS.c.cancel_requested.is_(True), ~runs)
    return freed | {int(number) for number in c.scalars(end.values(place=None).returning(BUILDS.c.id))}


def give_up(c: sa.Connection, build: int, alive: Collection[str]) -> bool:
    """Free a build from its machine, whatever runs there, unless that is one of those that are `alive`."""
    row = c.execute(sa.select(BUILDS.c.machine, BUILDS.c.place).where(BUILDS.c.id == build)).one()
    machine = row[0] or str(row[1] or "").partition(MACHINE)[2]
    if row[1] is None or machine in alive:
        return False
    c.execute(sa.update(BUILDS).where(BUILDS.c.id == build).values(place=None, machine=machine or None))
    return True


def stale(c: sa.Connection, claims: Collection[Claim]) -> set[Claim]:
    """Those of these whose builds have gone to other workers since."""
    if c.dialect.name != "postgresql":
        return {claim for claim in claims if _number(c, claim.build) != claim.number}
    if not claims:
        return set()
    numbers = dict(_NUMBERS.run(c, {"of_ids": [claim.build for claim in claims]}).fetchall())
    return {claim for claim in claims if numbers.get(claim.build) != claim.number}


def check_all(c: sa.Connection, claims: Collection[Claim]) -> None:
    """Taken: one of the builds has gone to another worker since. What a transaction begins with."""
    c.info.pop(_TOOK, None)
    for claim in stale(c, claims):
        raise Taken(claim.build)


def check_taken(c: sa.Connection, claim: Claim | None) -> None:
    """Taken: the build was taken in this very transaction, after `check_all`."""
    if claim is not None and claim.build in c.info.get(_TOOK, ()):
        check(c, claim)


def _number(c: sa.Connection, build: int) -> int | None:
    row = _NUMBER.run(c, {"of_id": build}).fetchone()
    return None if row is None else int(row[0])


def check(c: sa.Connection, claim: Claim | None) -> None:
    """Taken: the build has gone to another worker since."""
    if claim is not None and _number(c, claim.build) != claim.number:
        raise Taken(claim.build)
