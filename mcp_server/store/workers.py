"""Which workers of a shared store are there, and which of them leads; time is the database's, as machines' differ."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store.builds import OPEN
from mcp_server.store.claims import HOME, MACHINE
from mcp_server.store.prepared import Prepared
from mcp_server.store.statements import is_one_of
from mcp_server.store.tables import BUILDS, CALLBACKS, META, WORKERS, UtcTime

FORGOTTEN_S = 24 * 3600.0  # then the row of a dead worker goes, too
LEADER = "leader"  # the key in `meta`
_OVER = Prepared(
    sa.select(BUILDS.c.id).where(
        BUILDS.c.id == sa.any_(sa.bindparam("of_ids", type_=sa.ARRAY(sa.Integer))),
        ~is_one_of(OPEN),
    )
)


class Twin(StoreError):
    """Another worker that is there says that it is of the same machine: one data folder is a copy of the other."""

    def __init__(self, other: "WorkerRow", home: str) -> None:
        super().__init__(
            f"worker {other.name} (pid {other.pid}, home {other.home}) is there and has the same name of its machine, "
            f"{other.machine}: one data folder is a copy of the other; remove the file {home}/machine where the copy "
            "is, then start the worker there"
        )


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker. `state`: serving, or leaving; `machine`: that of its home; `number`: what the engine calls it.

    `until`: not seen again until then it counts as dead, and what it had goes to others. `lock`: which lock file it
    holds; `config`: prints of the sections of its config.yaml.
    """

    id: str
    machine: str
    name: str
    home: str
    pid: int
    version: str
    state: str
    number: int | None
    started_at: datetime
    seen_at: datetime
    until: datetime
    lock: str | None = None
    config: Mapping[str, str] | None = None
    alive: bool = True
    leads: bool = False
    builds: int = 0


class There(NamedTuple):
    """What the others have to know of a worker that is there; as in `WorkerRow`."""

    id: str
    machine: str
    home: str
    name: str
    config: Mapping[str, str] | None


def now_of(c: sa.Connection) -> datetime:
    """The database's time."""
    return c.execute(sa.select(_now(c))).scalar_one()


def _now(c: sa.Connection) -> sa.ColumnElement[datetime]:
    if c.dialect.name == "sqlite":
        text = sa.func.strftime("%Y-%m-%d %H:%M:%f", "now")
    else:
        text = sa.func.timezone("UTC", sa.func.clock_timestamp())
    return sa.type_coerce(text, UtcTime)


def beat(c: sa.Connection, facts: dict[str, Any], lost_s: float) -> None:
    """Note that a worker is there, for `lost_s` from now on; `facts` are its columns but those of time.

    Twin: it is not noted, and another worker of its machine is.
    """
    now = now_of(c)
    facts = {**facts, "until": now + timedelta(seconds=lost_s)}
    if not c.execute(sa.update(WORKERS).where(WORKERS.c.id == facts["id"]).values(**facts, seen_at=now)).rowcount:
        for other in of_machine(c, facts["machine"]):
            if other.alive:
                raise Twin(other, facts["home"])
        c.execute(sa.insert(WORKERS).values(**facts, started_at=now, seen_at=now))


def of_machine(c: sa.Connection, machine: str) -> list[WorkerRow]:
    """Those of one machine, there or not."""
    return [row for row in list_workers(c) if row.machine == machine]


def leave(c: sa.Connection, worker: str) -> None:
    """A worker is gone, and says so."""
    c.execute(sa.delete(WORKERS).where(WORKERS.c.id == worker))
    c.execute(sa.delete(META).where(META.c.key == LEADER, META.c.value == worker))


def lead(c: sa.Connection, worker: str) -> bool:
    """Whether this worker leads: it does already, or the one that did is not there any more."""
    leader = c.scalar(sa.select(META.c.value).where(META.c.key == LEADER))
    if leader == worker:
        return True
    if leader is not None and c.scalar(sa.select(WORKERS.c.id).where(WORKERS.c.id == leader, _alive(c))) is not None:
        return False
    c.execute(sa.delete(META).where(META.c.key == LEADER))
    c.execute(sa.insert(META).values(key=LEADER, value=worker))
    return True


def alive(c: sa.Connection) -> list[There]:
    """Those that are there."""
    columns = (WORKERS.c.id, WORKERS.c.machine, WORKERS.c.home, WORKERS.c.name, WORKERS.c.config)
    return [There(*row) for row in c.execute(sa.select(*columns).where(_alive(c)).order_by(WORKERS.c.id))]


def count_alive(c: sa.Connection) -> int:
    """How many are there; also of a database of an older version."""
    return c.scalar(sa.select(sa.func.count(WORKERS.c.id)).where(_alive(c))) or 0


def list_workers(c: sa.Connection) -> list[WorkerRow]:
    """Those that are there or were not long ago, by name, with how many open builds each has."""
    now = now_of(c)
    leader = c.scalar(sa.select(META.c.value).where(META.c.key == LEADER))
    count = sa.select(BUILDS.c.worker, sa.func.count()).where(BUILDS.c.status.in_(OPEN))
    has = {row[0]: int(row[1]) for row in c.execute(count.group_by(BUILDS.c.worker))}
    found: list[WorkerRow] = []
    for row in c.execute(sa.select(WORKERS).order_by(WORKERS.c.name, WORKERS.c.started_at)).mappings():
        there = row["until"] > now
        leads, count_ = row["id"] == leader and there, has.get(row["id"], 0)
        found.append(WorkerRow(**row, alive=there, leads=leads, builds=count_))
    return found


def one_is_missed(c: sa.Connection, home: str, machine: str) -> bool:
    """Whether a machine should have a worker: builds are bound to it, or nobody at all is there for what is open.

    Asked by who holds that machine's lock, so whoever was its worker is gone, even if he could not say so.
    """
    bound = sa.or_(
        BUILDS.c.machine == machine, sa.and_(BUILDS.c.machine.is_(None), BUILDS.c.place == f"{MACHINE}{machine}")
    )
    free = sa.or_(BUILDS.c.place.is_(None), BUILDS.c.place == f"{HOME}{home}")
    some_bound, some_free = (sa.exists().where(BUILDS.c.status.in_(OPEN), one) for one in (bound, free))
    others = sa.exists().where(_alive(c), WORKERS.c.machine != machine)
    to_call_back = sa.exists().where(CALLBACKS.c.next_at.is_not(None))
    missed = sa.or_(some_bound, sa.and_(~others, sa.or_(some_free, to_call_back)))
    return bool(c.scalar(sa.select(missed)))


def forget(c: sa.Connection) -> int:
    """Drop the rows of those that died long ago and have no open build; how many."""
    old = WORKERS.c.seen_at < now_of(c) - timedelta(seconds=FORGOTTEN_S)
    busy = sa.select(BUILDS.c.worker).where(BUILDS.c.status.in_(OPEN), BUILDS.c.worker.is_not(None))
    return c.execute(sa.delete(WORKERS).where(old, WORKERS.c.id.not_in(busy))).rowcount


def lost(c: sa.Connection, worker: str, builds: Collection[int]) -> set[int]:
    """Which of these builds this worker has no more."""
    query = sa.select(BUILDS.c.id).where(BUILDS.c.id.in_(builds), BUILDS.c.worker.is_distinct_from(worker))
    return {int(number) for number in c.scalars(query)}


def over(c: sa.Connection, builds: Collection[int]) -> set[int]:
    """Which of these builds are over."""
    if c.dialect.name == "postgresql":
        return {int(row[0]) for row in _OVER.run(c, {"of_ids": list(builds)}).fetchall()}
    query = sa.select(BUILDS.c.id).where(BUILDS.c.id.in_(builds), BUILDS.c.status.not_in(OPEN))
    return {int(number) for number in c.scalars(query)}


def _alive(c: sa.Connection) -> sa.ColumnElement[bool]:
    return WORKERS.c.until > _now(c)
