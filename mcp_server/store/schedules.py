"""What is done of schedules: until when their times are dealt with, and the build of the last one."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from mcp_server.store.tables import SCHEDULES


@dataclass(frozen=True, slots=True)
class Done:
    """Of a schedule. `rule`: its times, as they were written then; `said`: why nothing was built the last time."""

    rule: str
    done_until: datetime
    build: int | None
    said: str | None


def done(c: sa.Connection, name: str) -> Done | None:
    """What is done of a schedule; None: nothing is known of it."""
    columns = (SCHEDULES.c.rule, SCHEDULES.c.done_until, SCHEDULES.c.build, SCHEDULES.c.said)
    row = c.execute(sa.select(*columns).where(SCHEDULES.c.name == name)).mappings().first()
    return None if row is None else Done(**row)


def put(c: sa.Connection, name: str, now: Done, *, forward: bool = False) -> None:
    """Keep what is done. `forward`: not where somebody else has got as far as that, or further."""
    known = done(c, name)
    values = {"rule": now.rule, "done_until": now.done_until, "build": now.build, "said": now.said}
    if known is None:
        c.execute(sa.insert(SCHEDULES).values(name=name, **values))
    elif not forward or known.rule != now.rule or known.done_until < now.done_until:
        c.execute(sa.update(SCHEDULES).where(SCHEDULES.c.name == name).values(values))
