"""The queue of callbacks: written with a build's end, found when due, settled once."""

import contextlib
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from mcp_server.store import callbacks
from mcp_server.store.database import Store
from mcp_server.store.events import events_after
from mcp_server.store.tables import BUILDS, PROJECTS

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def a_build(c: sa.Connection) -> None:
    c.execute(sa.insert(PROJECTS).values(id="p", name="p", path="/p", created_at=NOW))
    row = {"project_id": "p", "triggered_by": "bot", "status": "success", "created_at": NOW, "task_id": "t-1"}
    c.execute(
        sa.insert(BUILDS).values(**row, name="n", plan={}, args_key="", priority=1, cancel_requested=False, round=1)
    )


async def test_a_task_has_one_callback_however_often_it_is_added(store: Store) -> None:
    """Seed: idempotent by task id. A build's end that is written again adds none."""
    await store.write(a_build)

    added = [await store.write(lambda c: callbacks.add(c, 1, "t-1", "https://x.example/", "{}", NOW)) for _ in range(2)]

    assert added == [True, False]
    [row] = await store.read(lambda c: callbacks.due(c, NOW))
    assert (row.status, row.attempts, row.next_at) == ("pending", 0, NOW)
    assert "x.example" not in repr(row)


async def test_what_is_added_in_a_transaction_that_fails_is_not_there(store: Store) -> None:
    """Ours. A build whose end was not recorded calls nobody."""
    await store.write(a_build)

    def fails(c: sa.Connection) -> None:
        callbacks.add(c, 1, "t-1", "https://x.example/", "{}", NOW)
        raise RuntimeError

    with contextlib.suppress(RuntimeError):
        await store.write(fails)

    assert await store.read(callbacks.next_time) is None


async def test_an_attempt_is_noted_with_its_event_and_a_settled_one_is_never_due(store: Store) -> None:
    """Ours."""
    await store.write(a_build)
    await store.write(lambda c: callbacks.add(c, 1, "t-1", "https://x.example/", "{}", NOW))
    [row] = await store.read(lambda c: callbacks.due(c, NOW))
    later = NOW + timedelta(seconds=5)
    told = {"attempt": 1}

    await store.write(
        lambda c: callbacks.note(c, row, NOW, status="pending", next_at=later, error="it answered 500", told=told)
    )
    assert await store.read(lambda c: callbacks.due(c, NOW)) == []
    [again] = await store.read(lambda c: callbacks.due(c, later))
    assert (again.attempts, again.last_error) == (1, "it answered 500")
    done = [
        await store.write(
            lambda c: callbacks.note(c, again, later, status="delivered", next_at=None, error=None, told=told)
        )
        for _ in range(2)
    ]

    assert done == [True, False]
    assert await store.read(callbacks.next_time) is None
    events = await store.read(lambda c: events_after(c, 0, build_id=1))
    assert [event.type for event in events] == ["callback.failed", "callback.delivered"]
    [settled] = await store.read(lambda c: callbacks.of_build(c, 1))
    assert (settled.status, settled.attempts) == ("delivered", 2)
