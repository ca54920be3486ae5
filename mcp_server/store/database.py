"""The database: opened, checked, migrated; short transactions in threads, never one over an await."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import ConnectionPoolEntry

from mcp_server.errors import StoreError
from mcp_server.store import claims, schema
from mcp_server.store.claims import Claim
from mcp_server.store.listening import Listener
from mcp_server.store.postgres import Agree, Postgres, as_json, is_lost, keep_own, url_of, usable
from mcp_server.store.sqlite import Sqlite
from mcp_server.store.tables import SCHEMA_VERSION

T = TypeVar("T")
Statements = Callable[[sa.Connection], T]
_Outcome = tuple[Any, Exception | None]


class Backend(Protocol):
    """What differs between kinds of databases."""

    @property
    def is_shared(self) -> bool:
        """Whether machines share such a database."""
        ...

    def attach(self, engine: sa.Engine) -> None: ...
    def options(self, writes: bool) -> dict[str, Any]: ...
    def check(self, engine: sa.Engine) -> None: ...
    def before_commit(self, c: sa.Connection) -> None: ...
    def error(self, error: BaseException) -> StoreError: ...
    def newer(self, found: int) -> StoreError: ...


class Store:
    """One database. What is asked of `write` while a commit runs goes into the next; `read` sees committed rows only.

    What is asked of `read` in one turn of the event loop is read in one transaction. Both run in threads and raise
    StoreError with one sentence; nothing of a failed group is kept. `committed` is called after each commit, in its
    thread, `agree` with the time of a server that machines share, whenever a connection to it is made.
    A `write` in the context of a build that was taken raises Taken once somebody else has that build (see claims), and
    every one schema.Newer once a newer version has changed the database.
    """

    def __init__(
        self, url: str, home: Path, committed: Callable[[], None] = lambda: None, agree: Agree = keep_own
    ) -> None:
        self.home = home
        self._committed = committed
        self.engine, self._backend = make_engine(url, home, agree)
        self._waiting: list[tuple[Statements[Any], asyncio.Future[Any], Claim | None]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._asked: list[tuple[Statements[Any], asyncio.Future[Any]]] = []
        self._readers: set[asyncio.Task[None]] = set()
        self._uuid: str | None = None
        self._listener: Listener | None = None
        self._closed = False
        event.listen(self.engine, "checkin", self._checked_in)

    @property
    def is_shared(self) -> bool:
        """Whether machines share the database, so that other workers than this home's may be there."""
        return self._backend.is_shared

    @property
    def commits(self) -> Listener:
        """Tells of commits, whoever makes them; only of a shared database."""
        assert self.is_shared
        if self._listener is None:
            self._listener = Listener(self.engine.url)
        return self._listener

    async def read(self, statements: Statements[T]) -> T:
        """Run reading `statements` in one transaction and return their result."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append((statements, done))
        if len(self._asked) == 1:
            reader = asyncio.create_task(self._answer())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await done

    async def write(self, statements: Statements[T]) -> T:
        """Run `statements`, commit, return their result. Cancelling the caller does not undo the commit."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, done, claims.current()))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def aclose(self) -> None:
        """Commit what waits and let the database go."""
        if under_way := {*self._readers, *([self._flusher] if self._flusher is not None else [])}:
            await asyncio.wait(under_way)
        if self._listener is not None:
            await self._listener.aclose()
        self._closed = True
        await asyncio.to_thread(self.engine.dispose)

    def _checked_in(self, connection: Any, record: ConnectionPoolEntry) -> None:
        """A connection comes back; from a question whose asker was cancelled perhaps only after all others are gone."""
        if self._closed and connection is not None:
            record.invalidate()

    def schema_version(self) -> int:
        """The schema on disk, 0 for an empty database. StoreError: newer than this version, damaged, unreadable."""
        found = self._run(schema.version, False)
        if found > SCHEMA_VERSION:
            raise self._backend.newer(found)
        return found

    def migrate(self) -> None:
        """Bring the schema up to date. On a file only the holder of the worker lock may call this."""
        if self.schema_version() < SCHEMA_VERSION:
            self._run(schema.bring_up_to_date, True, {schema.UNCHECKED: True})

    def look(self, statements: Statements[T]) -> T:
        """`read` for code without an event loop: the last and the first steps of a process."""
        return self._run(statements, False)

    async def uuid(self) -> str:
        """Eight hex digits that tell this database's job ids from any other's."""
        if self._uuid is None:
            self._uuid = await self.read(lambda c: schema.fact(c, "uuid"))
        return self._uuid

    async def _answer(self) -> None:
        group, self._asked = self._asked, []
        broken = self._driver_errors()

        def every(c: sa.Connection) -> list[_Outcome]:
            return [_outcome(lambda one=one: one(c), broken) for one, _ in group]

        try:
            outcomes = await asyncio.to_thread(self._run, every, False)
        except Exception as error:
            outcomes: list[_Outcome] = [(None, error)]
            if len(group) > 1:  # one of them is to blame: each alone
                outcomes = [await asyncio.to_thread(_outcome, lambda one=one: self.look(one)) for one, _ in group]
        for (_, done), outcome in zip(group, outcomes, strict=True):
            _tell(done, outcome)

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                results = await asyncio.to_thread(self._run, lambda c, g=group: _all(c, g), True)
                outcomes: list[_Outcome] = [(result, None) for result in results]
            except Exception:  # one of them is to blame: each alone, so that the others are kept
                outcomes = [await asyncio.to_thread(self._run_alone, work, claim) for work, _, claim in group]
            for (_, done, _), outcome in zip(group, outcomes, strict=True):
                _tell(done, outcome)

    def _run_alone(self, statements: Statements[Any], claim: Claim | None) -> _Outcome:
        def held(c: sa.Connection) -> Any:
            claims.check(c, claim)
            return statements(c)

        return _outcome(lambda: self._run(held, True))

    def _run(self, statements: Statements[T], writes: bool, options: Mapping[str, Any] = MappingProxyType({})) -> T:
        self._backend.check(self.engine)
        begun = False

        def work(c: sa.Connection) -> T:
            nonlocal begun
            begun = True
            return statements(c)

        try:
            try:
                result = self._transaction(work, writes, options)
            except exc.DBAPIError as error:
                if not is_lost(error) or (writes and begun):
                    raise
                # A link of before that the server has closed since: nothing was done over it.
                result = self._transaction(work, writes, options)
        except self._driver_errors() as error:
            raise self._backend.error(getattr(error, "orig", None) or error) from error
        if writes and not self.is_shared:
            self._committed()
        return result

    def _transaction(self, statements: Statements[T], writes: bool, options: Mapping[str, Any]) -> T:
        with self.engine.connect().execution_options(**self._backend.options(writes), **options) as c, c.begin():
            result = statements(c)
            if writes:
                self._backend.before_commit(c)
            return result

    def _driver_errors(self) -> tuple[type[BaseException], ...]:
        """Those that come by SQLAlchemy's way, and those of statements that are given to the driver itself."""
        driver = self.engine.dialect.dbapi
        return (exc.DBAPIError, sqlite3.Error, *([driver.Error] if driver is not None else []))


def _all(c: sa.Connection, group: Sequence[tuple[Statements[Any], Any, Claim | None]]) -> list[Any]:
    claims.check_all(c, {claim for _, _, claim in group if claim is not None})
    results: list[Any] = []
    for work, _, claim in group:
        claims.check_taken(c, claim)
        results.append(work(c))
    return results


def _outcome(ask: Callable[[], Any], but: tuple[type[BaseException], ...] = ()) -> _Outcome:
    try:
        return ask(), None
    except but:
        raise
    except Exception as error:
        return None, error


def _tell(done: asyncio.Future[Any], outcome: _Outcome) -> None:
    result, error = outcome
    if done.done():  # who asked was cancelled
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def make_engine(text: str, home: Path, agree: Agree) -> tuple[sa.Engine, Backend]:
    """An engine for a URL, and what is particular to its kind of database. StoreError: it is not usable."""
    try:
        url = url_of(text)
        backend: Backend
        if url.get_backend_name() == "sqlite":
            backend = Sqlite(url, home)
            # The connection that was used last goes first: each keeps up to 2 MB of the database's pages for itself.
            engine = sa.create_engine(url, json_serializer=_as_json, pool_use_lifo=True)
        else:
            url = usable(url)
            backend, engine = Postgres(url, agree), _postgres_engine(url)
    except (exc.ArgumentError, exc.NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        raise StoreError(
            f"BUILD_ORCHESTRATOR_DATABASE_URL is not usable: {type(error).__name__}; it is like "
            "postgresql+psycopg://user:password@host/name, with / @ : ? # % of a password as %2F %40 %3A %3F %23 %25"
        ) from error
    backend.attach(engine)
    return engine, backend


def _postgres_engine(url: sa.URL) -> sa.Engine:
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", json_serializer=as_json, pool_recycle=1800)


def _as_json(value: Any) -> str:
    """As SQLAlchemy would; most values of a row's JSON columns are None."""
    return "null" if value is None else json.dumps(value)
