"""Events to readers: each once, whoever begins where, and whatever is written meanwhile."""

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server import following
from mcp_server.config import load_config
from mcp_server.errors import StoreError
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import events
from mcp_server.web import feed as feeds
from mcp_server.web.feed import Feed

pytestmark = pytest.mark.timeout(30)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def orchestrator(home: Path) -> AsyncIterator[Orchestrator]:
    made = Orchestrator(load_config(), environment={})
    yield made
    await made.aclose()


@pytest_asyncio.fixture
async def feed(orchestrator: Orchestrator) -> AsyncIterator[Feed]:
    await write(orchestrator, 3)
    made = Feed(orchestrator)
    await made.start()
    yield made
    await made.aclose()


async def write(orchestrator: Orchestrator, count: int, build: int | None = None) -> None:
    """Some more events, in one transaction."""
    store = await orchestrator.store()

    def statements(c: events.sa.Connection) -> None:
        for number in range(count):
            events.append(c, "host.status", build, NOW, {"number": number})

    await store.write(statements)


async def read(feed: Feed, cursor: int, count: int, build: int | None = None) -> list[int]:
    """The ids of the next `count` events."""
    found: list[int] = []
    async with asyncio.timeout(10):
        async for told in feed.after(cursor, build):
            found.append(told.id)
            if len(found) == count:
                break
    return found


async def test_a_reader_has_what_was_and_what_comes_each_once(orchestrator: Orchestrator, feed: Feed) -> None:
    """Interfaces: a client that reconnects with `after` misses none and sees none twice."""
    old, new = asyncio.create_task(read(feed, 0, 8)), asyncio.create_task(read(feed, feed.last, 5))
    for _ in range(5):
        await write(orchestrator, 1)

    assert await old == [1, 2, 3, 4, 5, 6, 7, 8]
    assert await new == [4, 5, 6, 7, 8]
    assert await read(feed, 6, 2) == [7, 8]


async def test_a_reader_of_one_build_hears_of_no_other(orchestrator: Orchestrator, feed: Feed) -> None:
    """Interfaces: `build=`; from memory and from the store."""
    reading = asyncio.create_task(read(feed, 0, 2, build=7))
    await write(orchestrator, 2, build=6)
    await write(orchestrator, 1, build=7)
    await write(orchestrator, 2, build=6)
    await write(orchestrator, 1, build=7)

    assert await reading == [6, 9]
    assert await read(feed, 6, 1, build=7) == [9]


async def test_a_reader_far_behind_is_brought_up_from_the_store(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. More than a page of the store, more than memory keeps, and others writing."""
    monkeypatch.setattr(feeds, "KEPT", 10)
    feed = Feed(orchestrator)
    await feed.start()
    try:
        await write(orchestrator, 1200)
        slow = asyncio.create_task(read(feed, 0, 1230))
        for _ in range(3):
            await write(orchestrator, 10)
        assert await slow == list(range(1, 1231))
    finally:
        await feed.aclose()


async def test_an_event_is_one_flat_object(orchestrator: Orchestrator, feed: Feed) -> None:
    """Seed: `data.type`, `data.job_id` beside each other."""
    store = await orchestrator.store()
    data = {"job_id": 4, "phase": "build", "progress": 50, "message": "</script>"}
    await store.write(lambda c: events.append(c, "workflow.progress", 4, NOW, data))
    async with asyncio.timeout(10):
        told = await anext(feed.after(3))

    told_of = {**data, "id": 4, "type": "workflow.progress", "build": 4, "ts": "2026-11-01T00:00:00+00:00"}
    assert json.loads(told.text) == told_of


@pytest.mark.sqlite_only
async def test_readers_hear_on_when_the_store_could_not_be_read_and_when_nobody_wakes_the_feed(
    orchestrator: Orchestrator, feed: Feed, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Ours. It ended for ever where a disk was full for a moment, and went deaf where its FIFO was swept away."""
    monkeypatch.setattr(following, "AGAIN_S", 0.01)
    monkeypatch.setattr(following, "LOOK_S", 0.2)
    asked, errors = orchestrator.events, [OSError(errno.ENOSPC, "full"), StoreError("locked"), OSError(errno.EIO, "x")]

    async def events_or_not(after: int, *, build: int | None = None) -> object:
        if errors:
            raise errors.pop()
        return await asked(after, build=build)

    monkeypatch.setattr(orchestrator, "events", events_or_not)
    await write(orchestrator, 1)
    assert await read(feed, 3, 1) == [4]
    assert not errors
    for path in (home / "watch").iterdir():
        path.unlink()
    await write(orchestrator, 1)
    assert await read(feed, 4, 1) == [5]
    for number in (6, 7):  # one of them may be found by a signal of before
        await write(orchestrator, 1)
        assert await read(feed, number - 1, 1) == [number]
    assert list((home / "watch").iterdir())  # it is woken again
