"""The queue at work against a loopback receiver, with a clock that the test moves."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server.clock import Clock
from mcp_server.config import load_config
from mcp_server.engine.callbacks import Callbacks
from mcp_server.engine.services import Services
from mcp_server.errors import StoreError
from mcp_server.hosts.registry import Hosts
from mcp_server.model import Event
from mcp_server.secret_store import read_secret
from mcp_server.store import callbacks
from mcp_server.store.callbacks import Callback
from mcp_server.store.database import Store
from mcp_server.store.events import events_after
from mcp_server.store.tables import BUILDS, PROJECTS
from tests.support.http_peer import Peer, answer, http_peer
from tests.support.moved_clock import MovedClock

HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def changed() -> asyncio.Event:
    """Set by every commit."""
    return asyncio.Event()


@pytest_asyncio.fixture
async def services(home: Path, clock: MovedClock, changed: asyncio.Event) -> AsyncIterator[Services]:
    (home / "config.yaml").write_text('security: {callback_hosts: ["127.0.0.1"]}\n')
    config = load_config()
    config.make_home()
    loop = asyncio.get_running_loop()
    services = serve(clock, Store(config.database_url, home, lambda: told(loop, changed)))
    services.store.migrate()
    yield services
    await services.aclose()
    await services.store.aclose()


def told(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    loop.call_soon_threadsafe(changed.set)


def serve(clock: Clock, store: Store) -> Services:
    config = load_config()
    services = Services(config, store, clock, Hosts(config, {}), {})
    services.leads = True  # also of several workers
    return services


async def add(services: Services, url: str, task: str = "t-1") -> None:
    now = services.clock.now()

    def statements(c: sa.Connection) -> None:
        if c.scalar(sa.select(PROJECTS.c.id)) is None:
            c.execute(sa.insert(PROJECTS).values(id="p", name="p", path="/p", created_at=now))
        row = {"project_id": "p", "triggered_by": "bot", "status": "success", "created_at": now, "task_id": task}
        made = c.execute(
            sa.insert(BUILDS).values(**row, name="n", plan={}, args_key="", priority=1, cancel_requested=False, round=1)
        )
        assert made.inserted_primary_key
        callbacks.add(c, made.inserted_primary_key[0], task, url, json.dumps({"task_id": task}), now)

    await services.store.write(statements)


async def events(services: Services) -> list[Event]:
    return await services.store.read(lambda c: events_after(c, 0, limit=1000))


async def until(services: Services, changed: asyncio.Event, count: int) -> None:
    """Return once there are `count` events. A store that machines share tells nobody here of its commits."""
    while True:
        changed.clear()
        if len(await events(services)) >= count:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), 0.05)


async def until_settled(services: Services, queue: Callbacks, clock: MovedClock) -> list[float]:
    """Move the clock from one due time to the next; the seconds after the end at which attempts were made."""
    began, made = clock.now(), list[float]()
    while (due_at := await services.store.read(callbacks.next_time)) is not None:
        clock.advance((due_at - clock.now()).total_seconds())
        made.append((clock.now() - began).total_seconds())
        assert await queue.deliver_due() == 1
    return made


def url(peer: Peer) -> str:
    return f"http://127.0.0.1:{peer.port}/hook?token=hunter2"


async def test_a_callback_is_delivered_once_and_its_secrets_are_nowhere(services: Services) -> None:
    """Seed. The event tells where and when, not with what."""
    async with http_peer() as peer, asyncio.timeout(5):
        await add(services, url(peer))
        queue = Callbacks(services)
        assert await queue.waiting()
        assert [await queue.deliver_due(), await queue.deliver_due()] == [1, 0]

    [event] = await events(services)
    assert event.type == "callback.delivered"
    assert event.data == {"url": f"http://127.0.0.1:{peer.port}/hook", "status": 200, "attempt": 1}
    assert not await queue.waiting()
    secret = read_secret(services.config.secrets_dir, "callback")
    assert secret and secret not in str(event)
    assert peer.got[0].headers["webhook-id"] == "t-1"


async def test_a_500_for_an_hour_is_outlasted(services: Services, clock: MovedClock) -> None:
    """Issue. Each attempt carries the same id and body, and a signature of its own time."""
    async with http_peer() as peer, asyncio.timeout(10):
        peer.answers = [*[answer(500)] * 6, answer(200)]
        await add(services, url(peer))
        made = await until_settled(services, Callbacks(services, chance=random.Random(1)), clock)

    planned = [0, 5, 35, 155, 755, 2555, 6155]
    assert [0.89 * after <= at <= 1.11 * after for after, at in zip(planned, made, strict=True)] == [True] * 7
    assert made != planned
    assert made[5] < HOUR < made[6]
    assert {got.headers["webhook-id"] for got in peer.got} == {"t-1"}
    assert len({got.body for got in peer.got}) == 1
    assert len({got.headers["webhook-signature"] for got in peer.got}) == 7
    told = await events(services)
    assert [event.type for event in told] == ["callback.failed"] * 6 + ["callback.delivered"]
    assert told[0].data["next_at"] == (clock.now() - timedelta(seconds=made[6] - made[1])).isoformat()
    assert [event.data["attempt"] for event in told] == [1, 2, 3, 4, 5, 6, 7]


async def test_after_a_day_of_failures_it_is_given_up(services: Services, clock: MovedClock) -> None:
    """Issue. The last event says that no further attempt is made."""
    async with http_peer() as peer, asyncio.timeout(20):
        peer.answers = [answer(500)]
        await add(services, url(peer))
        made = await until_settled(services, Callbacks(services), clock)

    assert DAY - 1.1 * HOUR <= made[-1] <= DAY
    assert 24 <= len(made) <= 33
    [row] = await services.store.read(lambda c: callbacks.of_build(c, 1))
    assert (row.status, row.attempts, row.last_error) == ("failed", len(made), "it answered 500")
    assert (await events(services))[-1].data["next_at"] is None


async def test_a_receiver_that_is_gone_is_asked_no_more(services: Services) -> None:
    """Spec (Standard Webhooks): 410."""
    async with http_peer() as peer, asyncio.timeout(5):
        peer.answers = [answer(410)]
        await add(services, url(peer))
        queue = Callbacks(services)
        await queue.deliver_due()

    assert not await queue.waiting()
    [row] = await services.store.read(lambda c: callbacks.of_build(c, 1))
    assert row.status == "gone"


async def test_a_receiver_that_asks_for_time_has_it(services: Services, clock: MovedClock) -> None:
    """Spec (Standard Webhooks): Retry-After, where it is longer than our own delay."""
    async with http_peer() as peer, asyncio.timeout(5):
        peer.answers = [answer(429, retry_after="90")]
        await add(services, url(peer))
        await Callbacks(services).deliver_due()

    assert await services.store.read(callbacks.next_time) == clock.now() + timedelta(seconds=90)


async def test_a_target_that_became_private_is_never_called(services: Services, home: Path) -> None:
    """Issue. Checked at every attempt, so that a name which is turned inwards later leads nowhere."""
    (home / "config.yaml").write_text("security: {callback_hosts: []}\n")
    await services.refresh()
    async with http_peer() as peer, asyncio.timeout(5):
        await add(services, f"https://127.0.0.1:{peer.port}/hook?token=hunter2")
        await Callbacks(services).deliver_due()

    assert peer.connections == 0
    [event] = await events(services)
    assert "no public address" in event.data["why"]
    assert "hunter2" not in str(event)


async def test_the_loop_delivers_what_is_added_and_what_another_worker_left(
    services: Services, clock: MovedClock, changed: asyncio.Event
) -> None:
    """Ours. A worker that dies between an attempt and its record makes it again; the id is the same."""
    async with http_peer() as peer, asyncio.timeout(10):
        peer.answers = [answer(500), answer(200)]
        await add(services, url(peer), "t-1")
        first = asyncio.create_task(Callbacks(services).run())
        await until(services, changed, 1)
        first.cancel()
        await asyncio.wait({first})

        queue = Callbacks(serve(clock, services.store))
        second = asyncio.create_task(queue.run())
        await add(services, url(peer), "t-2")
        queue.wake()
        await until(services, changed, 2)
        clock.advance(6)
        queue.wake()  # it may just have worked out how long to wait
        await until(services, changed, 3)
        second.cancel()
        await asyncio.wait({second})

    assert [got.headers["webhook-id"] for got in peer.got] == ["t-1", "t-2", "t-1"]


async def test_dead_receivers_hold_up_nobody_else(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Several attempts are made at a time."""
    async with http_peer() as dead, http_peer() as peer, asyncio.timeout(5):
        held = asyncio.Event()

        async def talk(*_: object) -> None:
            await held.wait()

        dead.talk = talk
        await add(services, url(dead), "t-1")
        await add(services, url(peer), "t-2")
        round_of_both = asyncio.create_task(Callbacks(services).deliver_due())
        await peer.arrived.wait()
        held.set()
        assert await round_of_both == 2


async def test_an_attempt_that_cannot_be_noted_spoils_no_other_and_is_made_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. The database goes between a delivery and its note: a sentence for the log, no group of tracebacks."""
    note = callbacks.note

    def away(c: sa.Connection, row: Callback, now: datetime, **facts: Any) -> None:
        if row.task_id == "t-1":
            raise StoreError("the database is away")
        note(c, row, now, **facts)

    async with http_peer() as peer, asyncio.timeout(5):
        await add(services, url(peer), "t-1")
        await add(services, url(peer), "t-2")
        queue = Callbacks(services)
        with monkeypatch.context() as patch, pytest.raises(StoreError, match="the database is away"):
            patch.setattr(callbacks, "note", away)
            await queue.deliver_due()
        assert [await queue.deliver_due(), await queue.deliver_due()] == [1, 0]

    assert sorted(got.headers["webhook-id"] for got in peer.got) == ["t-1", "t-1", "t-2"]
