"""SQLite: a file in HOME with WAL, whose write lock is taken at the start of a write."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from mcp_server.errors import StoreError
from mcp_server.store.schema import UNCHECKED, Newer
from mcp_server.store.tables import SCHEMA_VERSION

BUSY_TIMEOUT_MS = 10_000  # another process holds the write lock for a commit, a few ms each
LOOK_S = 0.001  # between two looks at that lock


class Sqlite:
    """How a Store uses such a file."""

    is_shared = False  # by machines

    def __init__(self, url: sa.URL, home: Path) -> None:
        self._home = home
        self._path = url.database or ""
        self._file: tuple[int, int] | None = None
        if Path(self._path).parent != home:
            # One worker a home takes every open row: a file that two homes share would be worked on twice.
            raise StoreError(
                f"BUILD_ORCHESTRATOR_DATABASE_URL: a SQLite file has to be in {home}; machines share a database as "
                "postgresql+psycopg://user@host/name"
            )

    def attach(self, engine: sa.Engine) -> None:
        """Have each connection of the engine prepared."""
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", self._begin)

    def options(self, writes: bool) -> dict[str, Any]:
        """Execution options of a transaction."""
        return {"writes": writes}

    def check(self, engine: sa.Engine) -> None:
        """StoreError: the file is gone, and what is written through connections of before would be nowhere."""
        try:
            facts = os.stat(self._path)  # noqa: PTH116 - twice as fast, and asked each time
        except FileNotFoundError:
            if self._file is None:
                return  # it is made by the first connection
            raise StoreError(f"the database {self._path} was removed while it was in use: put it back") from None
        except OSError as error:
            raise StoreError(f"the database {self._path} cannot be read: {error.strerror}") from None
        found = (facts.st_dev, facts.st_ino)
        if self._file not in (None, found):
            engine.dispose()  # another one is in its place
        self._file = found

    def before_commit(self, c: sa.Connection) -> None:
        """Nothing: who is to know of it is told after the commit, through HOME."""

    def newer(self, found: int | str) -> StoreError:
        """What to say of a database of a newer version."""
        return Newer(f"the database in {self._home}", found, ", or set BUILD_ORCHESTRATOR_HOME to another folder")

    def error(self, error: BaseException) -> StoreError:
        """What went wrong, and what would be right."""
        return StoreError(self._sentence(error))

    def _sentence(self, error: BaseException) -> str:
        text, place = str(error), self._path
        if "disk is full" in text or "disk I/O" in text:
            return f"no space is left for the database {place}: free some, nothing was changed"
        if "malformed" in text or "not a database" in text:
            return (
                f"{place} is damaged or no database: move it away and start again; its jobs stay in {self._home}/jobs"
            )
        if "readonly" in text or "unable to open" in text:
            return f"the database {place} cannot be written: make {self._home} writable or set BUILD_ORCHESTRATOR_HOME"
        if "locked" in text:
            return f"the database {place} was locked for {BUSY_TIMEOUT_MS // 1000} s by another process: try again"
        return f"the database {place} refused: {text.splitlines()[0][:200]}"

    def _begin(self, connection: sa.Connection) -> None:
        # A reader that turns writer inside a transaction fails at once where another one writes; hence the choice here.
        driver: Any = connection.connection.driver_connection
        options = connection.get_execution_options()
        if not options.get("writes"):
            driver.execute("BEGIN")
            return
        _begin_writing(driver)
        if not options.get(UNCHECKED):
            found = driver.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
            if found is not None and int(found[0]) > SCHEMA_VERSION:
                raise self.newer(found[0])


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late and be a reader's
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """WAL, which a file keeps. While others switch a new file to it, SQLite refuses without any busy timeout."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return


def _begin_writing(connection: sqlite3.Connection) -> None:
    """Take the write lock. SQLite itself looks again after up to 100 ms: too seldom beside one who writes on and on."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(LOOK_S)
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
