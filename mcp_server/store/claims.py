"""Whose a build is: a worker that takes one raises its `claim`, and what a former holder still writes is refused.

Who is frozen, or cut off from the database, cannot know that its build was given to another. So the number that it
took the build with goes along with all it writes for it, in its tasks' context.
"""

from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass

import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store.prepared import Prepared
from mcp_server.store.tables import BUILDS, STAGES

OPEN = ("pending", "running")
LOCAL, HOME = "local", "home:"  # see places


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


_CURRENT: ContextVar[Claim | None] = ContextVar("claim", default=None)
_NUMBER = Prepared(sa.select(BUILDS.c.claim).where(BUILDS.c.id == sa.bindparam("of_id")))


def current() -> Claim | None:
    """The claim that this task and those it starts work for."""
    return _CURRENT.get()


def work_for(claim: Claim | None) -> None:
    """From now on this task, and those that it starts, write for a build only as long as it is theirs."""
    _CURRENT.set(claim)


def take(c: sa.Connection, build: int, worker: str, machine: str) -> Claim | None:
    """Make an open build a worker's own, whoever had it; None: it is over, or there is none.

    One that uses a machine's own folders (it has a place) is bound to this machine from now on.
    """
    taken = sa.update(BUILDS).where(BUILDS.c.id == build, BUILDS.c.status.in_(OPEN))
    bound = sa.case((BUILDS.c.place.is_not(None), sa.func.coalesce(BUILDS.c.machine, machine)), else_=None)
    values = {"worker": worker, "machine": bound, "claim": BUILDS.c.claim + 1}
    number = c.scalar(taken.values(values).returning(BUILDS.c.claim))
    return None if number is None else Claim(build, int(number))


def unbind(c: sa.Connection, builds: Collection[int]) -> set[int]:
    """Free builds from their machine that have started no job there; which."""
    begun = sa.exists().where(STAGES.c.build == BUILDS.c.id, STAGES.c.job_id.is_not(None), STAGES.c.host == LOCAL)
    free = sa.update(BUILDS).where(BUILDS.c.id.in_(builds), BUILDS.c.place.startswith(HOME), ~begun)
    return {int(number) for number in c.scalars(free.values(machine=None).returning(BUILDS.c.id))}


def with_jobs_of_their_own(c: sa.Connection, builds: Collection[int]) -> set[int]:
    """Which of these builds have an open job on their machine itself, which only a worker of that one can end."""
    jobs = sa.select(STAGES.c.build).where(
        STAGES.c.build.in_(builds),
        STAGES.c.job_id.is_not(None),
        STAGES.c.host == LOCAL,
        STAGES.c.ended_at.is_(None),
    )
    return {int(number) for number in c.scalars(jobs)}


def check(c: sa.Connection, claim: Claim | None) -> None:
    """Taken: the build has gone to another worker since."""
    if claim is None:
        return
    row = _NUMBER.run(c, {"of_id": claim.build}).fetchone()
    if row is None or row[0] != claim.number:
        raise Taken(claim.build)
