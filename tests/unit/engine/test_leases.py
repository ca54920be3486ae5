"""Waiting in line for slots and directories."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest_asyncio

from mcp_server.clock import SystemClock
from mcp_server.engine.leases import LeaseLine
from mcp_server.model import BuildStatus, Lease, Plan, StageSpec
from mcp_server.store import builds, leases
from mcp_server.store.database import Store

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command"),))


@pytest_asyncio.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    store = Store(f"sqlite:///{home}/orchestrator.db", home)
    store.migrate()
    yield store
    await store.aclose()


@pytest_asyncio.fixture
async def line(store: Store) -> LeaseLine:
    return LeaseLine(store, SystemClock())


def ask(line: LeaseLine, build: int, *, priority: int = 10, slots: int = 1) -> asyncio.Task[Lease]:
    return asyncio.create_task(
        line.acquire("dir:local:/b", slots=slots, build=build, stage=None, reason="test", priority=priority)
    )


async def give_back(line: LeaseLine, lease: Lease) -> None:
    await line._store.write(lambda c: leases.release(c, lease, NOW))
    await line.offer(lease.resource)


async def test_one_directory_is_given_to_one_build_at_a_time_urgent_first_then_the_oldest(line: LeaseLine) -> None:
    """Design. Two builds of one directory queue up."""
    order: list[int] = []

    async def use(turn: asyncio.Task[Lease]) -> None:
        lease = await turn
        order.append(lease.build)
        await give_back(line, lease)

    held = await ask(line, 1)
    turns = [ask(line, build, priority=priority) for build, priority in ((4, 10), (3, 10), (5, 1))]
    await asyncio.wait(turns, timeout=0)  # each has now asked
    with anyio.fail_after(5):
        await asyncio.gather(give_back(line, held), *(use(turn) for turn in turns))

    assert order == [5, 3, 4]


async def test_as_many_as_there_are_slots_go_at_once(line: LeaseLine) -> None:
    """Design: host slots."""
    first, second = await ask(line, 1, slots=2), await ask(line, 2, slots=2)
    third = ask(line, 3, slots=2)
    await asyncio.wait({third}, timeout=0)
    waiting = not third.done()
    await give_back(line, first)
    with anyio.fail_after(5):
        lease = await third

    assert waiting
    assert {first.slot, second.slot} == {0, 1}
    assert lease.slot == first.slot


async def test_who_leaves_the_line_takes_nothing_along(line: LeaseLine, store: Store) -> None:
    """Ours. A cancelled build must not hold a directory for ever."""
    held = await ask(line, 1)
    leaver = ask(line, 2)
    await asyncio.wait({leaver}, timeout=0)
    leaver.cancel()
    await asyncio.wait({leaver})
    await give_back(line, held)

    assert await store.read(leases.holders) == []
    with anyio.fail_after(5):
        assert (await ask(line, 3)).build == 3


async def test_after_a_restart_a_build_gets_back_what_it_held(line: LeaseLine, store: Store) -> None:
    """Design. The lease ends with its job, and the job ran on while no worker did."""
    held = await ask(line, 1)
    successor = LeaseLine(store, SystemClock())
    other = ask(successor, 2, priority=1)

    with anyio.fail_after(5):
        regained = await ask(successor, 1)

    assert regained == held
    assert not other.done()
    other.cancel()
    await asyncio.wait({other})


async def test_leases_of_builds_that_are_over_are_dropped_at_the_start(store: Store) -> None:
    """Ours. A worker may be killed between the end of a build and the release of its leases."""

    def fill(c: builds.sa.Connection) -> tuple[int, int]:
        project = builds.ensure_project(c, "/src", "src", NOW)
        made = [builds.insert_build(c, project, PLAN, name="b", args_key=k, now=NOW)[0].id for k in "ab"]
        for build in made:
            leases.take(c, f"dir:{build}", 1, build, None, "test", NOW)
        builds.end_build(c, made[0], BuildStatus.FAILED, "exit", NOW)
        return made[0], made[1]

    _, still_open = await store.write(fill)
    await store.write(lambda c: leases.release_ended(c, NOW))

    assert [lease.build for lease in await store.read(leases.holders)] == [still_open]
