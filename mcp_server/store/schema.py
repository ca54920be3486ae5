"""The schema of a database: which one it is, made anew, or brought up to date by Alembic."""

import uuid
from pathlib import Path

import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store.guards import AUDIT_VIEW, guards
from mcp_server.store.tables import META, SCHEMA_VERSION, for_dialect

UNCHECKED = "schema_is_brought_up_to_date"  # execution option: the one transaction that is not of one version alone
REVISIONS = Path(__file__).parent / "migrations"


class Newer(StoreError):
    """The database is of a newer version: what this one would write there could be wrong, and nothing was written."""

    def __init__(self, place: str, found: int | str, instead: str = "") -> None:
        super().__init__(
            f"{place} is of a newer build-orchestrator (schema {found}, this one knows {SCHEMA_VERSION}): install that "
            f"one here{instead}"
        )


def version(c: sa.Connection) -> int:
    """The number of the schema, 0 of an empty database. StoreError: it is half made."""
    return int(fact(c, "schema")) if sa.inspect(c).has_table("meta") else 0


def fact(c: sa.Connection, key: str) -> str:
    """What the database says of itself. StoreError: nothing."""
    value = c.scalar(sa.select(META.c.value).where(META.c.key == key))
    if value is None:
        raise StoreError(f"the database has no {key}: it is half made; move it away and start again")
    return value


def bring_up_to_date(c: sa.Connection) -> None:
    """Make the tables of an empty database, or change those of an older one; within the transaction of `c`."""
    found = version(c)
    if found == 0:
        _create(c)
    elif found < SCHEMA_VERSION:
        _upgrade(c, found)


def _upgrade(c: sa.Connection, found: int) -> None:
    from alembic import command  # noqa: PLC0415 - half a second that only an upgrade needs
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", str(REVISIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = c
    if not sa.inspect(c).has_table("alembic_version"):
        command.stamp(config, str(found))  # of before there were revisions: its number is known all the same
    command.upgrade(config, "head")
    c.execute(sa.update(META).where(META.c.key == "schema").values(value=str(SCHEMA_VERSION)))


def _create(c: sa.Connection) -> None:
    for_dialect(c.dialect.name).create_all(c)
    for statement in (AUDIT_VIEW, *guards(c.dialect.name)):
        c.exec_driver_sql(statement)
    c.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    c.execute(sa.text("INSERT INTO alembic_version VALUES (:number)"), {"number": str(SCHEMA_VERSION)})
    values = {"schema": str(SCHEMA_VERSION), "uuid": uuid.uuid4().hex[:8]}
    c.execute(sa.insert(META), [{"key": key, "value": value} for key, value in values.items()])
