"""The database as a file: damaged, newer, read-only, full, shared by several processes."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store import builds, sqlite
from mcp_server.store.database import Store
from mcp_server.store.schema import Newer
from mcp_server.store.tables import META, PROJECTS, SCHEMA_VERSION
from tests.support.small_disk import mounted

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def open_store(home: Path) -> Store:
    return Store(f"sqlite:///{home}/orchestrator.db", home)


def test_an_empty_database_is_version_zero_and_migrating_twice_changes_nothing(home: Path, database_url: str) -> None:
    """Ours. The id of a database is made once: job directories carry it."""
    store = Store(database_url, home)
    before = store.schema_version()
    store.migrate()
    identity = store.look(lambda c: c.execute(sa.select(META)).fetchall())
    store.migrate()

    assert (before, store.schema_version()) == (0, SCHEMA_VERSION)
    assert store.look(lambda c: c.execute(sa.select(META)).fetchall()) == identity
    store.engine.dispose()


def test_a_newer_database_is_refused_with_one_sentence(home: Path, database_url: str) -> None:
    """Ours. An upgrade may be taken back: old code must not write into a newer schema."""
    store = Store(database_url, home)
    store.migrate()
    store._run(lambda c: c.exec_driver_sql("UPDATE meta SET value = '99' WHERE key = 'schema'"), True)

    with pytest.raises(StoreError, match=rf"schema 99, this one knows {SCHEMA_VERSION}"):
        store.schema_version()
    store.engine.dispose()


async def test_a_database_that_becomes_newer_under_a_process_takes_no_more_of_its_writes(
    home: Path, database_url: str
) -> None:
    """Issue: newer schema under a running worker. What it writes could be wrong there; it can still read."""
    store, newer = (Store(database_url, home) for _ in range(2))
    try:
        await asyncio.to_thread(store.migrate)
        await store.write(lambda c: builds.ensure_project(c, "/here", "here", NOW))
        await newer.write(lambda c: c.execute(sa.update(META).where(META.c.key == "schema").values(value="1000")))
        for _ in range(2):
            with pytest.raises(Newer, match=r"newer build-orchestrator \(schema 1000, this one knows \d+\): install"):
                await store.write(lambda c: builds.ensure_project(c, "/there", "there", NOW))

        assert await store.read(lambda c: c.execute(sa.select(PROJECTS.c.path)).scalars().all()) == ["/here"]
    finally:
        await store.aclose()
        await newer.aclose()


@pytest.mark.sqlite_only
def test_a_damaged_database_is_named_and_left_as_it_is(home: Path) -> None:
    """Ours. Nothing is deleted: jobs and the file may still tell what happened."""
    (home / "orchestrator.db").write_bytes(b"this is no database, " * 400)

    with pytest.raises(StoreError, match="damaged or no database"):
        open_store(home).schema_version()

    assert (home / "orchestrator.db").stat().st_size == 8400


@pytest.mark.sqlite_only
def test_a_folder_in_the_databases_place_is_one_sentence(home: Path) -> None:
    """Ours."""
    (home / "orchestrator.db").mkdir()

    with pytest.raises(StoreError, match="cannot be written"):
        open_store(home).schema_version()


@pytest.mark.parametrize(
    ("url", "said"),
    [("nosuch://user:hunter2@db/x", "SQLite file"), ("postgresql+psycopg://user:hunter2/s@w:ord%1@db/x", "%2F")],
)
def test_a_url_that_is_not_usable_is_refused_with_what_one_is_like(home: Path, url: str, said: str) -> None:
    """Ours. The URL may hold a password, so it is not repeated."""
    with pytest.raises(StoreError, match=f"BUILD_ORCHESTRATOR_DATABASE_URL.*{said}") as refusal:
        Store(url, home)

    assert "hunter2" not in str(refusal.value)


async def test_one_bad_statement_does_not_take_its_group_with_it(store: Store) -> None:
    """Design: group commit. Neighbours in one transaction are independent of each other."""

    def put(key: str) -> asyncio.Future[None]:
        return asyncio.ensure_future(
            store.write(lambda c: c.execute(sa.insert(META).values(key=key, value="1")) and None)
        )

    results = await asyncio.gather(*(put(key) for key in ("a", "b", "a", "c")), return_exceptions=True)

    assert [type(result) for result in results] == [type(None), type(None), StoreError, type(None)]
    keys = await store.read(lambda c: set(c.scalars(sa.select(META.c.key))))
    assert keys == {"schema", "uuid", "a", "b", "c"}


@pytest.mark.sqlite_only
async def test_one_question_after_another_goes_over_one_connection(home: Path) -> None:
    """Ours. Each connection keeps pages of the database: in turn, all that one busy moment opened would fill up."""
    store = open_store(home)
    both = threading.Barrier(2)
    await asyncio.gather(*(asyncio.to_thread(store.look, lambda c: both.wait(5)) for _ in range(2)))

    used = {await store.read(lambda c: id(c.connection.driver_connection)) for _ in range(6)}

    assert len(used) == 1
    await store.aclose()


async def test_events_are_never_changed_or_deleted(store: Store) -> None:
    """Design: append-only, held by the database itself."""
    insert = "INSERT INTO events (type, build, ts, data) VALUES ('build.status', 1, '2026-11-01 00:00:00', '{}')"
    await store.write(lambda c: c.exec_driver_sql(insert) and None)

    for statement in ("UPDATE events SET type = 'x'", "DELETE FROM events"):
        with pytest.raises(StoreError, match="append-only"):
            await store.write(lambda c, s=statement: c.exec_driver_sql(s) and None)


WRITER = """
import sys, sqlalchemy as sa
from pathlib import Path
from mcp_server.store import builds, sqlite
from mcp_server.store.database import Store
from mcp_server.store.tables import EVENTS
from datetime import UTC, datetime
store = Store(f"sqlite:///{sys.argv[1]}/orchestrator.db", Path(sys.argv[1]))
row = dict(type="t", build=int(sys.argv[2]), ts=datetime.now(UTC), data={})
for _ in range(50):
    store._run(lambda c: c.execute(sa.insert(EVENTS).values(row)) and None, True)
"""


@pytest.mark.sqlite_only
def test_four_processes_write_at_once_and_no_write_is_refused(home: Path) -> None:
    """Ours. 'database is locked' is what naive SQLite use ends in; every write waits its turn."""
    store = open_store(home)
    store.migrate()
    command = [sys.executable, "-c", WRITER, str(home)]
    writers = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE) for n in range(4)]
    errors = [writer.communicate()[1] for writer in writers]

    assert [writer.returncode for writer in writers] == [0] * 4, errors
    count = store.look(lambda c: c.exec_driver_sql("SELECT COUNT(*) FROM events").scalar())
    assert count == 200
    store.engine.dispose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "4m")


@pytest.mark.sqlite_only
async def test_a_database_that_stays_locked_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Somebody's open shell of SQLite may hold it for as long as it likes."""
    store = open_store(home)
    store.migrate()
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 30)
    with contextlib.closing(sqlite3.connect(home / "orchestrator.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="was locked"):
            await store.write(lambda c: c.execute(sa.insert(META).values(key="a", value="1")))
        other.execute("ROLLBACK")
    await store.write(lambda c: c.execute(sa.insert(META).values(key="a", value="1")))
    await store.aclose()


@pytest.mark.sqlite_only
async def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(small_disk: Path) -> None:
    """Ours. After space was made the same database goes on."""
    store = open_store(small_disk)
    store.migrate()
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(b"x" * 4096):
            pass

    def insert(c: sa.Connection) -> None:
        c.execute(sa.insert(META).values(key="big", value="v" * 200_000))

    with pytest.raises(StoreError, match="no space is left"):
        await store.write(insert)
    (small_disk / "ballast").unlink()
    await store.write(insert)

    assert await store.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(META))) == 3
    await store.aclose()


@pytest.mark.sqlite_only
def test_a_new_database_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """Once broken: the switch to WAL fails at once where another one makes it too, whatever the busy timeout."""
    for attempt in range(40):
        home = tmp_path / str(attempt)
        home.mkdir()
        together, refused = threading.Barrier(4), list[StoreError]()

        def opened(home: Path = home, together: threading.Barrier = together) -> None:
            store = Store(f"sqlite:///{home}/orchestrator.db", home)
            together.wait()
            try:
                store.schema_version()
            except StoreError as error:
                refused.append(error)  # noqa: B023 - read before the next round
            store.engine.dispose()

        threads = [threading.Thread(target=opened) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == []
