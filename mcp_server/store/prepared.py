"""Statements of every stage's way, worked out once: Core takes 45 µs to run one, this 7."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

LATER = "later"  # in a connection's `info`: what its transaction does before its commit, where trips are dear
_Values = list[tuple[str, Callable[[Any], Any] | None]]


class Prepared:
    """A statement of Core, as text and in the driver's own values since its first use; `columns` are those it sets.

    `run` gives the driver's cursor: rows hold what the database has, not what the columns' types make of it.
    """

    def __init__(self, statement: sa.ClauseElement, columns: Iterable[sa.Column[Any]] = ()) -> None:
        self._statement, self._columns = statement, [column.name for column in columns]
        self._compiled: dict[str, tuple[str, _Values]] = {}

    def run(self, c: sa.Connection, values: Mapping[str, Any]) -> Any:
        """Run it in the transaction of `c`. KeyError: a value is missing."""
        name = c.dialect.name
        sql, binds = self._known(c)
        driver: Any = c.connection.dbapi_connection
        if name == "sqlite":
            return driver.execute(sql, [values[key] if into is None else into(values[key]) for key, into in binds])
        return driver.execute(sql, {key: values[key] if into is None else into(values[key]) for key, into in binds})

    def run_later(self, c: sa.Connection, values: Mapping[str, Any]) -> None:
        """Run it before the commit, after all that was put off before it; who looks for its rows calls `catch_up`."""
        later: list[tuple[str, dict[str, Any]]] | None = c.info.get(LATER)
        if later is None:
            self.run(c, values)
        else:
            sql, binds = self._known(c)
            later.append((sql, {key: values[key] if into is None else into(values[key]) for key, into in binds}))

    def _known(self, c: sa.Connection) -> tuple[str, _Values]:
        if (known := self._compiled.get(c.dialect.name)) is None:
            known = self._compiled[c.dialect.name] = self._compile(c.dialect)
        return known

    def _compile(self, dialect: sa.Dialect) -> tuple[str, _Values]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns or None)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        names = compiled.binds if compiled.positiontup is None else compiled.positiontup
        binds = [(name, compiled.binds[name]) for name in names]
        values: _Values = [(name, bind.type.dialect_impl(dialect).bind_processor(dialect)) for name, bind in binds]
        return str(compiled), values


def catch_up(c: sa.Connection) -> None:
    """Do what was put off: all that is of one statement in one trip."""
    later: list[tuple[str, dict[str, Any]]] | None = c.info.get(LATER)
    if not later:
        return
    driver: Any = c.connection.dbapi_connection
    with driver.cursor() as cursor:
        for sql, values in itertools.groupby(later, itemgetter(0)):
            cursor.executemany(sql, [one for _, one in values])
    later.clear()
