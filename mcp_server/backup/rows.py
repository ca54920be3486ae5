"""Every row of the store as lines of JSON, and back: by the tables' own words, so SQLite and Postgres read the same."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store import workers
from mcp_server.store.tables import META, UtcTime, metadata

Row = dict[str, Any]

CHUNK = 500  # rows in memory at a time
PASSING = frozenset({"workers"})
PASSING_FACTS = frozenset({workers.LEADER})
"""Tables, and keys of `meta`, that say who is alive now: true of no other time."""

_CONTENT = [table for table in metadata.sorted_tables if table.name not in PASSING and table is not META]


@dataclass(slots=True)
class Snapshot:
    """What was written: `tables` counts rows, `highest` is the greatest number given so far, `meta` the store's own."""

    tables: dict[str, int] = field(default_factory=dict[str, int])
    highest: dict[str, int] = field(default_factory=dict[str, int])
    meta: dict[str, str] = field(default_factory=dict[str, str])


def write_tables(c: sa.Connection, folder: Path) -> Snapshot:
    """Write `folder`/TABLE.jsonl for each table, all as of the moment that this transaction reads. Blocks."""
    made = Snapshot(meta={row.key: row.value for row in c.execute(sa.select(META)) if row.key not in PASSING_FACTS})
    for table in _CONTENT:
        made.tables[table.name] = _write(c, table, folder / f"{table.name}.jsonl")
    made.highest = {table.name: _highest(c, table) for table in _numbered()}
    return made


def _write(c: sa.Connection, table: sa.Table, path: Path) -> int:
    query, count = sa.select(table).order_by(*table.primary_key.columns), 0
    with path.open("w", encoding="utf-8") as file:
        found = c.execution_options(yield_per=CHUNK).execute(query)
        for rows in found.partitions():
            for row in rows:
                values = {name: _plain(value) for name, value in row._mapping.items() if value is not None}  # pyright: ignore[reportPrivateUsage]
                file.write(json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += 1
    return count


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def count_builds(c: sa.Connection) -> int:
    """Builds that a store has; 0 where it has no tables yet."""
    there = sa.inspect(c).has_table("builds")
    return int(c.scalar(sa.select(sa.func.count()).select_from(metadata.tables["builds"])) or 0) if there else 0


def highest_numbers(c: sa.Connection) -> Mapping[str, int]:
    """By table, the greatest number that was ever given; nothing where there are no tables yet."""
    if not sa.inspect(c).has_table("builds"):
        return {}
    there = set(sa.inspect(c).get_table_names())  # of an older version's some are not
    return {table.name: _highest(c, table) for table in _numbered() if table.name in there}


def _numbered() -> list[sa.Table]:
    """Tables whose rows the database numbers."""
    keys = [(table, list(table.primary_key.columns)) for table in _CONTENT]
    return [table for table, key in keys if len(key) == 1 and isinstance(key[0].type, sa.Integer)]


def _highest(c: sa.Connection, table: sa.Table) -> int:
    """Also of rows that are gone, where the database knows: a number is never given twice."""
    [key] = table.primary_key.columns
    found = int(c.scalar(sa.select(sa.func.coalesce(sa.func.max(key), 0))) or 0)
    if c.dialect.name == "sqlite" and sa.inspect(c).has_table("sqlite_sequence"):
        query = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return max(found, int(c.scalar(query, {"name": table.name}) or 0))
    if (sequence := _sequence(c, table)) is not None:
        return max(found, int(c.scalar(sa.text(f"SELECT last_value FROM {sequence}")) or 0))  # noqa: S608 - the database's own word
    return found


def _sequence(c: sa.Connection, table: sa.Table) -> str | None:
    if c.dialect.name != "postgresql":
        return None
    [key] = table.primary_key.columns
    query = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
    return c.scalar(query, {"table": table.name, "column": key.name})


def working(c: sa.Connection) -> int:
    """Workers of a shared store that were there a moment ago, by its own clock."""
    there = c.dialect.name == "postgresql" and sa.inspect(c).has_table(workers.WORKERS.name)
    return workers.count_alive(c) if there else 0


def empty(c: sa.Connection) -> None:
    """Take every row of ours away, on Postgres, whose tables are not a file that can be put aside."""
    names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables if table is not META)
    c.execute(sa.text(f"TRUNCATE {names}"))
    c.execute(sa.delete(META))  # in the same transaction those of the backup come


def read_tables(
    c: sa.Connection, tables: Iterable[tuple[str, Iterable[bytes]]], change: Callable[[str, Row], Row]
) -> None:
    """Insert what `write_tables` wrote, in its order. `change` may alter a row. StoreError: a row does not fit.

    Of a column that the file does not know, the default is taken: it was made by an older version.
    """
    known = {table.name: table for table in _CONTENT}
    for name, lines in tables:
        if (table := known.get(name)) is None:
            raise StoreError(f"the backup has a table {name[:60]!r}, which this version does not know")
        rows: list[Row] = []
        for line in lines:
            rows.append(change(name, _row(table, line)))
            if len(rows) == CHUNK:
                c.execute(sa.insert(table), rows)
                rows = []
        if rows:
            c.execute(sa.insert(table), rows)


def _row(table: sa.Table, line: bytes) -> Row:
    try:
        given = json.loads(line)
        if strange := given.keys() - table.columns.keys():
            raise ValueError(f"has a column {min(strange)!r}")
        return {column.name: _value(column, given) for column in table.columns}
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"a row of {table.name} in the backup cannot be read: {str(error)[:200]}") from None


def _value(column: "sa.Column[Any]", given: Mapping[str, Any]) -> Any:
    value = given.get(column.name)
    if value is None:
        default: Any = column.server_default
        if default is None or column.nullable:
            return None
        return int(default.arg) if isinstance(column.type, sa.Integer) else str(default.arg)
    return datetime.fromisoformat(value) if isinstance(column.type, UtcTime) else value


def set_highest(c: sa.Connection, numbers: Mapping[str, int]) -> None:
    """Have each table go on above these numbers."""
    for table in _numbered():
        above = max(numbers.get(table.name, 0), _highest(c, table))
        if c.dialect.name == "sqlite" and table.dialect_options["sqlite"]["autoincrement"]:
            name = {"name": table.name}
            c.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), name)
            c.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {**name, "seq": above})
        elif (sequence := _sequence(c, table)) is not None and above > 0:
            c.execute(sa.text("SELECT setval(:sequence, :above)"), {"sequence": sequence, "above": above})
