"""What a store on PostgreSQL promises to machines that share it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from mcp_server.config import load_config
from mcp_server.engine.start import make_ready
from mcp_server.errors import StoreError
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import listening
from mcp_server.store import postgres as module
from mcp_server.store.database import Store
from mcp_server.store.events import events_after
from mcp_server.store.postgres import conninfo, url_of, usable
from mcp_server.store.schema import Newer
from mcp_server.store.tables import EVENTS, META, SCHEMA_VERSION
from tests.support.postgres import URL, Server

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import sqlalchemy as sa
from mcp_server.store.database import Store
from mcp_server.store.tables import EVENTS
store = Store(sys.argv[1], Path(sys.argv[2]))
for n in range(40):
    row = dict(type="t", build=None, ts=datetime.now(UTC), data={"writer": sys.argv[3], "n": n})
    store._run(lambda c: c.execute(sa.insert(EVENTS).values(row)) and None, True)
"""


def put(key: str) -> Callable[[sa.Connection], None]:
    def statements(c: sa.Connection) -> None:
        c.execute(sa.insert(META).values(key=key, value="1"))

    return statements


async def test_who_reads_by_after_misses_no_event_of_writers_that_commit_at_once(postgres_url: str, home: Path) -> None:
    """Issue. Numbers come in the order of commits, which a sequence alone does not promise."""
    store = Store(postgres_url, home)
    store.migrate()
    command = [sys.executable, "-c", WRITER, postgres_url, str(home)]
    writers = [await asyncio.create_subprocess_exec(*command, str(n)) for n in range(3)]
    ends = asyncio.gather(*(writer.wait() for writer in writers))
    seen: list[int] = []

    async def look() -> None:
        after = seen[-1] if seen else 0
        seen.extend(event.id for event in await store.read(lambda c: events_after(c, after)))

    while not ends.done():
        await look()
    await look()

    assert await ends == [0, 0, 0]
    everything = await store.read(lambda c: list(c.scalars(sa.select(EVENTS.c.id).order_by(EVENTS.c.id))))
    assert seen == everything
    assert len(seen) == 120
    await store.aclose()


def test_many_may_make_the_tables_of_a_new_database_at_once(postgres_url: str, home: Path) -> None:
    """Issue. Whoever holds the writers' lock makes them; for the others there is nothing left to do."""
    code = "import sys; from pathlib import Path; from mcp_server.store.database import Store\n"
    code += "Store(sys.argv[1], Path(sys.argv[2])).migrate()"
    command = [sys.executable, "-c", code, postgres_url, str(home)]
    makers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [maker.communicate()[1] for maker in makers]

    assert [maker.returncode for maker in makers] == [0, 0, 0], said
    store = Store(postgres_url, home)
    assert store.schema_version() == SCHEMA_VERSION
    store.engine.dispose()


async def test_a_writer_that_stands_still_in_a_transaction_loses_it(
    postgres_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: a worker frozen, or cut off from the database: the others do not wait for it."""
    monkeypatch.setattr(module, "_SETTINGS", "SET idle_in_transaction_session_timeout = '100ms'")
    frozen, store = Store(postgres_url, home), Store(postgres_url, home)
    store.migrate()
    with frozen.engine.connect().execution_options(writes=True) as c:
        c.execute(sa.insert(META).values(key="frozen", value="1"))
        await asyncio.wait_for(store.write(put("other")), 10)
        with pytest.raises(DBAPIError):
            c.commit()

    keys = await store.read(lambda c: set(c.scalars(sa.select(META.c.key))))
    assert "other" in keys
    assert "frozen" not in keys
    await frozen.aclose()
    await store.aclose()


async def test_links_that_the_server_closed_are_made_anew_without_a_word(
    postgres: Server, postgres_url: str, home: Path
) -> None:
    """Issue: failover. What is lost with a link is a link, as long as nothing was begun over it."""
    store = Store(postgres_url, home)
    store.migrate()
    await asyncio.gather(*(store.read(lambda c: c.scalar(sa.select(META.c.value).limit(1))) for _ in range(3)))
    with postgres.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    await store.write(put("after"))
    with postgres.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert await store.read(lambda c: c.scalar(sa.select(META.c.value).where(META.c.key == "after"))) == "1"
    await store.aclose()


async def test_whoever_is_refused_a_database_keeps_no_link_to_it(postgres_url: str, home: Path) -> None:
    """Ours. A service that asks again and again while the versions differ would use up all that the server has."""
    store = Store(postgres_url, home)
    store.migrate()
    store._run(lambda c: c.execute(sa.update(META).where(META.c.key == "schema").values(value="99")), True)
    await store.aclose()
    orchestrator = Orchestrator(load_config({**os.environ, URL: postgres_url}))
    links = 0

    def opened(*_: object) -> None:
        nonlocal links
        links += 1

    def closed(*_: object) -> None:
        nonlocal links
        links -= 1

    event.listen(sa.Pool, "connect", opened)
    event.listen(sa.Pool, "close", closed)
    with pytest.raises(StoreError, match="is of a newer"):
        await orchestrator.store()
    event.remove(sa.Pool, "connect", opened)
    event.remove(sa.Pool, "close", closed)

    assert links == 0
    await orchestrator.aclose()


async def test_each_commit_wakes_who_listens_and_says_the_words_of_its_transaction(
    postgres: Server, postgres_url: str, home: Path
) -> None:
    """Issue: NOTIFY as the wake-up."""
    store = Store(postgres_url, home)
    store.migrate()
    name = store.engine.url.database or ""
    with postgres.connect(name) as listening:
        listening.execute(f"LISTEN {module.CHANNEL}".encode())
        await store.write(lambda c: module.tell(c, "host:fast"))
        await store.write(put("quiet"))
        heard: list[str] = []
        for notice in listening.notifies(timeout=10, stop_after=2):
            heard.append(notice.payload)

    assert heard == ['["host:fast"]', ""]
    await store.aclose()


async def test_text_that_postgresql_cannot_keep_is_kept_as_far_as_it_can(postgres_url: str, home: Path) -> None:
    """Ours. Logs and commit messages hold anything; no build is lost over one character."""
    store = Store(postgres_url, home)
    store.migrate()
    row = {"type": "a\0b\udc80", "data": {"k\0": ["x\0y", "\ud800", "é"], "n": None}}

    def statements(c: sa.Connection) -> tuple[str, Any, str]:
        values = {**row, "build": None, "ts": sa.func.now()}
        number = c.execute(sa.insert(EVENTS).values(**values).returning(EVENTS.c.id)).scalar_one()
        query = sa.select(EVENTS.c.type, EVENTS.c.data, EVENTS.c.data["k\0"][0].as_string())
        return tuple(c.execute(query.where(EVENTS.c.id == number)).one())  # type: ignore[return-value]

    kind, data, first = await store.write(statements)
    assert kind.startswith("a\ufffdb")
    assert data == {"k\ufffd": ["x\ufffdy", "\ufffd", "é"], "n": None}
    assert first == "x\ufffdy"
    await store.aclose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://u:hunter2@127.0.0.1:1/x", "cannot be reached"),
        ("postgres://u:hunter2@127.0.0.1:1/x", "cannot be reached"),
        ("mysql://u:hunter2@127.0.0.1/x", "only postgresql"),
        ("postgresql+asyncpg://u:hunter2@127.0.0.1/x", "only postgresql"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence_without_its_password(url: str, said: str, home: Path) -> None:
    """Ours."""
    with pytest.raises(StoreError, match=said) as refusal:
        Store(url, home).schema_version()
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:p%40ss@a.example:5433,b.example/builds?target_session_attrs=read-write",
        "postgresql+psycopg://me:p%40ss@/builds?host=a.example,b.example&port=5433,5432&target_session_attrs=read-write",
        "postgresql+psycopg://me:p%40ss@/builds?host=a.example:5433&host=b.example:5432&target_session_attrs=read-write",
    ],
)
def test_several_hosts_are_taken_as_libpq_and_sqlalchemy_write_them(text: str) -> None:
    """Ours. A database with a standby: the link is to the one that takes writes."""
    facts = conninfo_to_dict(conninfo(usable(url_of(text))))
    assert (facts["host"], facts["port"]) == ("a.example,b.example", "5433,5432")
    assert (facts["user"], facts["password"], facts["dbname"]) == ("me", "p@ss", "builds")
    assert facts["target_session_attrs"] == "read-write"


def test_what_only_looks_like_several_hosts_is_taken_as_it_was_written() -> None:
    """Ours. A password that was not written as it has to be is no host, and what was asked for is not replaced."""
    url = url_of("postgresql://me:12,b/c@host.example/db")
    assert (url.host, url.password) == ("host.example", "12,b/c")
    assert url_of("postgresql://a.example,b.example/db?host=c.example").query == {"host": "c.example"}


async def test_a_newer_schema_is_known_in_whichever_language_the_server_speaks(postgres_url: str, home: Path) -> None:
    """Ours. It says what it refused in its own words, and in its own quotes."""

    class Refused(Exception):
        sqlstate = "22P02"

    store = Store(postgres_url, home)
    error = store._backend.error(Refused("ungültige Eingabesyntax für Typ integer: »schema 1000«"))
    await store.aclose()

    assert isinstance(error, Newer) and "(schema 1000, " in str(error)


def test_a_command_leaves_an_older_shared_database_to_a_worker(postgres_url: str, home: Path) -> None:
    """Ours. Old workers leave a database that is changed: nobody would be left where only a command was updated."""
    store = Store(postgres_url, home)
    store.migrate()
    store._run(lambda c: c.execute(sa.update(META).where(META.c.key == "schema").values(value="8")), True)

    with pytest.raises(StoreError, match=r"older build-orchestrator \(schema 8, .* update its workers first"):
        make_ready(home, store)
    assert store.schema_version() == 8
    store.engine.dispose()


def test_what_the_server_refuses_is_one_sentence(postgres: Server, home: Path) -> None:
    """Ours. Who reads it knows what to do."""
    with pytest.raises(StoreError, match=r"nosuch does not exist: create it"):
        Store(postgres.url("nosuch"), home).schema_version()
    with postgres.database() as name:
        store = Store(postgres.url(name), home)
        store.migrate()
        with postgres.connect() as admin:
            admin.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(sql.Identifier(name))
            )
        store.engine.dispose()
        with pytest.raises(StoreError, match=r"takes no writes \(a standby\?\)"):
            asyncio.run(store.write(put("a")))
        store.engine.dispose()


async def test_an_ear_hears_each_commit_also_after_its_link_was_cut(
    postgres: Server, postgres_url: str, home: Path
) -> None:
    """Issue: cut connections. What was said meanwhile is unknown, and that is what it is told."""
    store, other = Store(postgres_url, home), Store(postgres_url, home)
    store.migrate()
    heard: list[Collection[str] | None] = []
    async with asyncio.timeout(30), store.commits.watch(heard.append) as ear:
        await other.write(lambda c: module.tell(c, "host:fast"))
        while heard != [None, ["host:fast"]]:
            await ear.wait()
        with postgres.connect() as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        while len(heard) < 3:
            await ear.wait()
        await other.write(put("after"))
        while len(heard) < 4:
            await ear.wait()

    assert heard == [None, ["host:fast"], None, ()]
    await store.aclose()
    await other.aclose()


async def test_an_ear_hears_what_comes_while_its_own_link_is_asked(
    postgres: Server, postgres_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. A quiet link is asked whether it is there, and a word may come with the answer."""
    monkeypatch.setattr(listening, "QUIET_S", 0.0005)
    store = Store(postgres_url, home)
    heard: set[str] = set()
    everything = {str(number) for number in range(300)}
    async with asyncio.timeout(30), store.commits.watch(lambda words: heard.update(words or ())) as ear:
        with postgres.connect(store.engine.url.database or "") as other:
            for word in everything:
                await asyncio.to_thread(other.execute, "SELECT pg_notify(%s, %s)", (module.CHANNEL, f'["{word}"]'))
        while heard != everything:
            await ear.wait()
    await store.aclose()


async def test_an_ear_goes_on_hearing_after_words_that_are_not_ours(
    postgres: Server, postgres_url: str, home: Path
) -> None:
    """Ours. Somebody's NOTIFY on our channel ended the listening, and nobody noticed: anything may have been said."""
    store = Store(postgres_url, home)
    heard: list[Collection[str] | None] = []
    async with asyncio.timeout(30), store.commits.watch(heard.append) as ear:
        with postgres.connect(store.engine.url.database or "") as other:
            for words in ("junk", '["host:fast"]'):
                await asyncio.to_thread(other.execute, "SELECT pg_notify(%s, %s)", (module.CHANNEL, words))
        while len(heard) < 3:
            await ear.wait()
    await store.aclose()

    assert heard == [None, None, ["host:fast"]]
