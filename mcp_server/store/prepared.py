"""Statements of every stage's way, worked out once: Core takes 45 µs to run one, this 7."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa


class Prepared:
    """A statement of Core, as text and in the driver's own values since its first use; `columns` are those it sets.

    `run` gives the driver's cursor: rows hold what the database has, not what the columns' types make of it.
    """

    def __init__(self, statement: sa.ClauseElement, columns: Iterable[sa.Column[Any]] = ()) -> None:
        self._statement, self._columns = statement, [column.name for column in columns]
        self._sql = ""
        self._values: list[tuple[str, Callable[[Any], Any] | None]] = []

    def run(self, c: sa.Connection, values: Mapping[str, Any]) -> Any:
        """Run it in the transaction of `c`. KeyError: a value is missing."""
        if not self._sql:
            self._compile(c.dialect)
        given = [values[name] if into is None else into(values[name]) for name, into in self._values]
        driver: Any = c.connection.dbapi_connection
        return driver.execute(self._sql, given)

    def _compile(self, dialect: sa.Dialect) -> None:
        compiled = self._statement.compile(dialect=dialect, column_keys=self._columns or None)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        binds = {name: compiled.binds[name] for name in compiled.positiontup or ()}
        self._values = [(name, b.type.dialect_impl(dialect).bind_processor(dialect)) for name, b in binds.items()]
        self._sql = str(compiled)
