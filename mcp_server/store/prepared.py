"""Statements of every stage's way, worked out once: Core takes 45 µs to run one, this 7."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

_Values = list[tuple[str, Callable[[Any], Any] | None]]


class Prepared:
    """A statement of Core, as text and in the driver's own values since its first use; `columns` are those it sets.

    `run` gives the driver's cursor: rows hold what the database has, not what the columns' types make of it.
    """

    def __init__(self, statement: sa.ClauseElement, columns: Iterable[sa.Column[Any]] = ()) -> None:
        self._statement, self._columns = statement, [column.name for column in columns]
        self._compiled: dict[str, tuple[str, _Values]] = {}
        self._gives: dict[str, _Values] = {}

    def run(self, c: sa.Connection, values: Mapping[str, Any]) -> Any:
        """Run it in the transaction of `c`. KeyError: a value is missing."""
        name = c.dialect.name
        sql, binds = self._known(c)
        driver: Any = c.connection.dbapi_connection
        if name == "sqlite":
            return driver.execute(sql, [values[key] if into is None else into(values[key]) for key, into in binds])
        return driver.execute(sql, {key: values[key] if into is None else into(values[key]) for key, into in binds})

    def rows(self, c: sa.Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run it, and have its rows as Core would give them, by the columns' names."""
        cursor = self.run(c, values)
        if (gives := self._gives.get(c.dialect.name)) is None:
            gives = self._gives[c.dialect.name] = self._results(c.dialect, [one[1] for one in cursor.description])
        return [
            {name: one if make is None else make(one) for (name, make), one in zip(gives, row, strict=True)}
            for row in cursor.fetchall()
        ]

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

    def _results(self, dialect: sa.Dialect, codes: Iterable[Any]) -> _Values:
        """What makes the columns' own values of the driver's, which says by `codes` what they are."""
        assert isinstance(self._statement, sa.ReturnsRows)
        columns = zip(self._statement.exported_columns.items(), codes, strict=True)
        return [(name, one.type.dialect_impl(dialect).result_processor(dialect, code)) for (name, one), code in columns]
