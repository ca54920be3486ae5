"""The database: opened, checked, migrated; short transactions in threads, never one over an await."""

import asyncio
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from mcp_server.errors import StoreError
from mcp_server.store.tables import AUDIT_VIEW, META, MIGRATIONS, SCHEMA_VERSION, SQLITE_GUARDS, metadata

T = TypeVar("T")
Statements = Callable[[sa.Connection], T]

BUSY_TIMEOUT_MS = 10_000  # another process holds the write lock for a commit, a few ms each
LOOK_S = 0.001  # between two looks at that lock


class Store:
    """One database. What is asked of `write` while a commit runs goes into the next; `read` sees committed rows only.

    Both run in threads and raise StoreError with one sentence; nothing of a failed group is kept. `committed` is called
    after each commit, in its thread.
    """

    def __init__(self, url: str, home: Path, committed: Callable[[], None] = lambda: None) -> None:
        self.home = home
        self._committed = committed
        self.engine = make_engine(url)
        if self.engine.dialect.name != "sqlite" or Path(self.engine.url.database or "").parent != home:
            # One worker a home takes every open row: a database that two homes share would be worked on twice.
            raise StoreError(f"BUILD_ORCHESTRATOR_DATABASE_URL: only a SQLite file in {home} can be used so far")
        self._waiting: list[tuple[Statements[Any], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._uuid: str | None = None
        self._file: tuple[int, int] | None = None

    async def read(self, statements: Statements[T]) -> T:
        """Run reading `statements` in one transaction and return their result."""
        return await asyncio.to_thread(self._run, statements, False)

    async def write(self, statements: Statements[T]) -> T:
        """Run `statements`, commit, return their result. Cancelling the caller does not undo the commit."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def aclose(self) -> None:
        """Commit what waits and let the database go."""
        if self._flusher is not None:
            await asyncio.wait({self._flusher})
        await asyncio.to_thread(self.engine.dispose)

    def schema_version(self) -> int:
        """The schema on disk, 0 for an empty database. StoreError: newer than this version, damaged, unreadable."""
        found = self._run(_schema_version, False)
        if found > SCHEMA_VERSION:
            raise StoreError(
                f"the database in {self.home} is of a newer build-orchestrator (schema {found}, this one knows "
                f"{SCHEMA_VERSION}): install that one, or set BUILD_ORCHESTRATOR_HOME to another folder"
            )
        return found

    def migrate(self) -> None:
        """Bring the schema up to date. Only the holder of the worker lock may call this."""
        if (found := self.schema_version()) < SCHEMA_VERSION:
            self._run(_create_schema if found == 0 else lambda c: _upgrade(c, found), True)

    def look(self, statements: Statements[T]) -> T:
        """`read` for code without an event loop: the last and the first steps of a process."""
        return self._run(statements, False)

    async def uuid(self) -> str:
        """Eight hex digits that tell this database's job ids from any other's."""
        if self._uuid is None:
            self._uuid = await self.read(lambda c: _meta(c, "uuid"))
        return self._uuid

    async def earlier(self) -> list[str]:
        """The uuids of databases that this one was restored from, the newest first: what they stored bears these."""
        told = await self.read(lambda c: c.scalar(sa.select(META.c.value).where(META.c.key == "earlier")))
        return [uuid for uuid in (told or "").split(",") if uuid]

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                results = await asyncio.to_thread(self._run, lambda c, g=group: [work(c) for work, _ in g], True)
                outcomes: list[tuple[Any, Exception | None]] = [(result, None) for result in results]
            except Exception:  # one of them is to blame: each alone, so that the others are kept
                outcomes = [await asyncio.to_thread(self._run_alone, work) for work, _ in group]
            for (_, done), (result, error) in zip(group, outcomes, strict=True):
                if done.done():
                    continue
                if error is None:
                    done.set_result(result)
                else:
                    done.set_exception(error)

    def _run_alone(self, statements: Statements[T]) -> tuple[T | None, Exception | None]:
        try:
            return self._run(statements, True), None
        except Exception as error:
            return None, error

    def _check_file(self) -> None:
        """StoreError: the file is gone, and what is written through connections of before would be nowhere."""
        path = self.engine.url.database or ""
        try:
            facts = os.stat(path)  # noqa: PTH116 - twice as fast, and asked each time
        except FileNotFoundError:
            if self._file is None:
                return  # it is made by the first connection
            raise StoreError(f"the database {path} was removed while it was in use: put it back") from None
        except OSError as error:
            raise StoreError(f"the database {path} cannot be read: {error.strerror}") from None
        found = (facts.st_dev, facts.st_ino)
        if self._file not in (None, found):
            self.engine.dispose()  # another one is in its place
        self._file = found

    def _run(self, statements: Statements[T], writes: bool) -> T:
        self._check_file()
        try:
            with self.engine.connect().execution_options(writes=writes) as connection, connection.begin():
                result = statements(connection)
        except (exc.DBAPIError, sqlite3.Error) as error:
            raise StoreError(self._sentence(error)) from error
        if writes:
            self._committed()
        return result

    def _sentence(self, error: exc.DBAPIError | sqlite3.Error) -> str:
        text, place = (
            str(error.orig if isinstance(error, exc.DBAPIError) else error),
            self.engine.url.database or str(self.engine.url),
        )
        if "disk is full" in text or "disk I/O" in text:
            return f"no space is left for the database {place}: free some, nothing was changed"
        if "malformed" in text or "not a database" in text:
            return f"{place} is damaged or no database: move it away and start again; its jobs stay in {self.home}/jobs"
        if "readonly" in text or "unable to open" in text:
            return f"the database {place} cannot be written: make {self.home} writable or set BUILD_ORCHESTRATOR_HOME"
        if "locked" in text:
            return f"the database {place} was locked for {BUSY_TIMEOUT_MS // 1000} s by another process: try again"
        return f"the database {place} refused: {text.splitlines()[0][:200]}"


def make_engine(url: str) -> sa.Engine:
    """An engine for `url`; on SQLite with WAL, a busy timeout, and a write lock taken at the start of a write."""
    try:
        engine = sa.create_engine(url, json_serializer=_as_json)
    except (exc.ArgumentError, exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(f"BUILD_ORCHESTRATOR_DATABASE_URL is not usable: {type(error).__name__}") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _as_json(value: Any) -> str:
    """As SQLAlchemy would; most values of a row's JSON columns are None."""
    return "null" if value is None else json.dumps(value)


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
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


def _begin_sqlite(connection: sa.Connection) -> None:
    # A reader that turns writer inside a transaction fails at once where another one writes; hence the choice here.
    driver: Any = connection.connection.driver_connection
    if connection.get_execution_options().get("writes"):
        _begin_writing(driver)
    else:
        driver.execute("BEGIN")


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


def _schema_version(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table("meta"):
        return 0
    return int(_meta(connection, "schema"))


def _meta(connection: sa.Connection, key: str) -> str:
    value = connection.scalar(sa.select(META.c.value).where(META.c.key == key))
    if value is None:
        raise StoreError(f"the database has no {key}: it is half made; move it away and start again")
    return value


def _upgrade(connection: sa.Connection, found: int) -> None:
    for version in range(found + 1, SCHEMA_VERSION + 1):
        for statement in MIGRATIONS[version]:
            connection.exec_driver_sql(statement)
    connection.execute(sa.update(META).where(META.c.key == "schema").values(value=str(SCHEMA_VERSION)))


def _create_schema(connection: sa.Connection) -> None:
    metadata.create_all(connection)
    connection.exec_driver_sql(AUDIT_VIEW)
    if connection.dialect.name == "sqlite":
        for guard in SQLITE_GUARDS:
            connection.exec_driver_sql(guard)
    values = {"schema": str(SCHEMA_VERSION), "uuid": uuid.uuid4().hex[:8]}
    connection.execute(sa.insert(META), [{"key": key, "value": value} for key, value in values.items()])
