"""Whose results in an object store a database's are: its own, and those of the databases that it was restored from."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from mcp_server.store.tables import META

BEFORE = "before"


def before(c: sa.Connection) -> Sequence[str]:
    """The uuids of the databases that this one was restored from, the newest first; none where it never was."""
    found = c.scalar(sa.select(META.c.value).where(META.c.key == BEFORE))
    return found.split() if found else ()


def put_meta(c: sa.Connection, values: Mapping[str, str]) -> None:
    """Write facts of the database itself."""
    for key, value in values.items():
        c.execute(sa.delete(META).where(META.c.key == key))
        c.execute(sa.insert(META).values(key=key, value=value))
