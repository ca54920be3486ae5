"""Waiting in line for slots and directories."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine.fair import Begun, Fair
from mcp_server.engine.leases import Choice, Claim, Gate, LeaseLine, Pool
from mcp_server.engine.line import Line, Ticket
from mcp_server.model import BuildStatus, Lease, Plan, StageSpec
from mcp_server.store import builds, leases
from mcp_server.store.database import Statements, Store
from mcp_server.turns import Turns, Waiting

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command"),))


@pytest_asyncio.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    store = Store(load_config().database_url, home)
    store.migrate()
    yield store
    await store.aclose()


@pytest_asyncio.fixture
async def line(store: Store) -> LeaseLine:
    return LeaseLine(store, SystemClock())


def ask(line: LeaseLine, build: int, *, priority: int = 10, slots: int = 1) -> asyncio.Task[Lease]:
    return take(line, [Choice("dir:local:/b", slots)], build=build, priority=priority)


def take(
    line: LeaseLine,
    *claims: Claim,
    build: int = 1,
    stage: str | None = None,
    priority: int = 10,
    rank: float = 0,
    gate: Gate | None = None,
) -> asyncio.Task[Lease]:
    """The first of the leases that are granted together."""

    async def first() -> Lease:
        asked = line.acquire(claims, build=build, stage=stage, reason="test", priority=priority, rank=rank, gate=gate)
        return (await asked)[0]

    return asyncio.create_task(first())


async def give_back(line: LeaseLine, lease: Lease, gate: Gate | None = None) -> None:
    await line._store.write(lambda c: leases.release(c, lease, NOW))
    line.release([lease], gate)


async def settled(*tasks: asyncio.Task[Lease]) -> list[bool]:
    """Which of these were granted, once all that can be has been."""
    await asyncio.wait(tasks, timeout=0.2)
    return [task.done() for task in tasks]


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


async def test_what_is_given_back_together_is_given_away_in_one_transaction(
    line: LeaseLine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. A commit for each would be most of what a thousand short stages cost."""
    held = [await ask(line, build, slots=20) for build in range(20)]
    waiting = [ask(line, build, slots=20) for build in range(20, 40)]
    await asyncio.wait(waiting, timeout=0.05)
    await store.write(lambda c: [leases.release(c, lease, NOW) for lease in held])
    writes, write = list[object](), store.write

    def counted(statements: Statements[object]) -> Awaitable[object]:
        writes.append(statements)
        return write(statements)

    monkeypatch.setattr(store, "write", counted)
    with anyio.fail_after(5):
        for lease in held:
            line.release([lease])
        await asyncio.gather(*waiting)

    assert len(writes) == 1


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


async def test_the_first_free_of_several_hosts_is_taken_in_the_order_given(line: LeaseLine) -> None:
    """Interfaces: `server` may be a list, the first free one runs the stage."""
    either = [Choice("host:fast", 1, order=0), Choice("host:slow", 1, order=1)]
    first, second = await take(line, either, stage="a"), await take(line, either, stage="b")
    third = take(line, either, stage="c")
    waited = await settled(third)
    await give_back(line, first)

    with anyio.fail_after(5):
        assert (first.resource, second.resource) == ("host:fast", "host:slow")
        assert waited == [False]
        assert (await third).resource == "host:fast"


async def test_of_hosts_with_one_tag_the_least_loaded_goes_first(line: LeaseLine) -> None:
    """Issue. Loaded is what is taken of its slots, so a big machine is given more."""
    tagged = [Choice("host:big", 4), Choice("host:small", 1)]
    with anyio.fail_after(5):
        taken = [(await take(line, tagged, stage=str(n))).resource for n in range(5)]

    assert sorted(taken) == ["host:big"] * 4 + ["host:small"]
    assert taken[:2] == ["host:big", "host:small"]


async def test_who_needs_two_things_holds_neither_while_it_waits(line: LeaseLine) -> None:
    """Ours. A stage of a group that runs elsewhere must not keep a host's slot from others."""
    group = await take(line, [Choice("group:flash")], build=1)
    both = take(line, [Choice("group:flash")], [Choice("host:lab")], build=2)
    waited = await settled(both)

    with anyio.fail_after(5):
        assert (await take(line, [Choice("host:lab")], build=3)).resource == "host:lab"
    assert waited == [False]
    await give_back(line, group)
    assert await settled(both) == [False]  # now the other one has the slot
    both.cancel()
    await asyncio.wait({both})


async def test_a_long_line_for_a_thing_that_is_taken_keeps_nobody_from_what_is_free(line: LeaseLine) -> None:
    """Ours. They stand before it in the line, and want the same host, too."""
    await take(line, [Choice("group:flash")], build=1)
    stuck = [take(line, [Choice("group:flash")], [Choice("host:lab", 2)], build=2, stage=str(n)) for n in range(120)]
    await settled(*stuck)

    with anyio.fail_after(5):
        assert (await take(line, [Choice("host:lab", 2)], build=3)).resource == "host:lab"
    for ticket in stuck:
        ticket.cancel()
    await asyncio.wait(stuck)


async def test_a_build_runs_no_more_stages_than_its_limit_and_its_longest_way_first(line: LeaseLine) -> None:
    """Seed: parallel_limit. Design: longest critical path first."""
    gate, many = Gate(1), [Choice("host:local", 10)]
    first = await take(line, many, stage="first", gate=gate)
    short = take(line, many, stage="short", rank=1, gate=gate)
    long = take(line, many, stage="long", rank=60, gate=gate)
    other_build = take(line, many, build=2)
    assert await settled(short, long, other_build) == [False, False, True]
    await give_back(line, first, gate)
    assert await settled(short, long) == [False, True]
    short.cancel()
    await asyncio.wait({short})


async def test_leases_of_builds_that_are_over_are_dropped_at_the_start(store: Store) -> None:
    """Ours. A worker may be killed between the end of a build and the release of its leases."""

    def fill(c: builds.sa.Connection) -> tuple[int, int]:
        project = builds.ensure_project(c, "/src", "src", NOW)
        made = [builds.insert_build(c, project, PLAN, name="b", args_key=k, now=NOW)[0].id for k in "ab"]
        for build in made:
            lease = Lease(resource=f"dir:{build}", slot=0, build=build, stage=None, reason="test", taken_at=NOW)
            leases.add(c, lease, NOW)
        builds.end_build(c, made[0], BuildStatus.FAILED, "exit", NOW)
        return made[0], made[1]

    _, still_open = await store.write(fill)
    await store.write(lambda c: leases.release_ended(c, NOW))

    assert [lease.build for lease in await store.read(leases.holders)] == [still_open]


async def test_a_slot_goes_to_builds_that_began_and_then_to_projects_turn_by_turn(store: Store) -> None:
    """Issue: fairness. Twenty builds that wait for the same slot keep nobody else waiting for twenty."""
    begun = Begun()
    begun.add(3)
    line = LeaseLine(store, SystemClock(), Fair(begun))
    for build, project in ((1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "b"), (6, "b"), (7, "c"), (8, "c")):
        line.fair.belongs(build, project)
    order: list[int] = []

    async def use(turn: asyncio.Task[Lease]) -> None:
        lease = await turn
        order.append(lease.build)
        await give_back(line, lease)

    held = await ask(line, 1)
    turns = [ask(line, build, priority=1 if build == 8 else 10) for build in (2, 3, 4, 5, 6, 7, 8)]
    await asyncio.wait(turns, timeout=0)
    begun.add(1)
    with anyio.fail_after(5):
        await asyncio.gather(give_back(line, held), *(use(turn) for turn in turns))

    assert order == [8, 3, 5, 7, 6, 2, 4]  # a has two begun all along


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 10]), st.integers(1, 2)), max_size=20),
    st.sets(st.integers(1, 20)),
    st.lists(st.sampled_from("abc"), max_size=5),
)
def test_a_line_goes_by_the_turns_of_the_queue(
    builds_: list[tuple[str, int, int]], begun: set[int], served: list[str]
) -> None:
    """Ours. Slots are given by the same rule as builds are taken, so that places that are told are true."""
    began = Begun()
    line = Line(fair := Fair(began))
    for number, (project, _, _) in enumerate(builds_, 1):
        fair.belongs(number, project)
    for number, project in enumerate(served, 100):
        fair.belongs(number, project)
        fair.granted(number)
    asking = [(priority, n) for n, (_, priority, tickets) in enumerate(builds_, 1) for _ in range(tickets)]
    pools = Pool([Choice("host:a")]), Pool([Choice("host:a"), Choice("host:b")])  # of two lanes in turn
    for number, (priority, build) in enumerate(asking):
        waits: Any = None
        line.add(Ticket(priority, build, 0, number, [pools[number % 2]], None, "test", None, waits))
    for build in begun:
        began.add(build)
    got = [ticket.build for ticket in line.order(line.lanes_for(["host:a"]), {})]

    turns = Turns(served=dict.fromkeys(reversed(list(dict.fromkeys(reversed(served))))))
    for number, (project, priority, _) in enumerate(builds_, 1):
        if number in begun:
            turns.count(project, 1)
        else:
            turns.add(Waiting(number, project, priority))
    place = {one.id: at for at, one in enumerate(iter(turns.next, None), 1)}
    assert got == [build for _, build in sorted(asking, key=lambda one: (one[0], place.get(one[1], 0), one[1]))]
