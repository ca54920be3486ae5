"""What a database knows of itself: which ones it was restored from, whose results in an object store are its too."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from mcp_server.store.tables import META

BEFORE = "before"
TRACED = "traced"  # the key of the event up to which builds' ends were told to a collector


def before(c: sa.Connection) -> Sequence[str]:
    """The uuids of the databases that this one was restored from, the newest first; none where it never was."""
    found = c.scalar(sa.select(META.c.value).where(META.c.key == BEFORE))
    return found.split() if found else ()


def number(c: sa.Connection, key: str) -> int | None:
    """A fact of the database that is a number."""
    found = c.scalar(sa.select(META.c.value).where(META.c.key == key))
    return None if found is None else int(found)


def put_meta(c: sa.Connection, values: Mapping[str, str]) -> None:
    """Write facts of the database itself."""
    for key, value in values.items():
        c.execute(sa.delete(META).where(META.c.key == key))
        c.execute(sa.insert(META).values(key=key, value=value))
