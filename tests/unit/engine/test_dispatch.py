"""Which builds the worker takes: limits, turns between projects, what ran before, what is cancelled."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import Queue, load_config
from mcp_server.engine.dispatch import local
from mcp_server.engine.dispatch.local import Local
from mcp_server.engine.services import Services
from mcp_server.hosts.registry import Hosts
from mcp_server.model import Build, BuildStatus, Plan, StageSpec
from mcp_server.store import builds, queue
from mcp_server.store.database import Store

pytestmark = pytest.mark.timeout(20)
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command"),))


class Run:
    """A build's run that lasts until a test ends it."""

    began: ClassVar[list[int]] = []
    over: ClassVar[dict[int, asyncio.Event]] = {}

    def __init__(self, services: Services, build: int) -> None:
        self.stop, self.build = asyncio.Event(), build

    async def run(self) -> None:
        Run.began.append(self.build)
        await Run.over.setdefault(self.build, asyncio.Event()).wait()


@pytest_asyncio.fixture
async def services(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    config = load_config()
    store = Store(config.database_url, home)
    store.migrate()
    monkeypatch.setattr(local, "BuildRun", Run)
    Run.began, Run.over = [], {}
    yield Services(config, store, SystemClock(), Hosts(config, {}), {})
    await store.aclose()


def limited(services: Services, **queue_: int) -> None:
    services.config = services.config.model_copy(update={"queue": Queue(**queue_)})


async def ordered(services: Services, *orders: tuple[str, int]) -> list[int]:
    """The numbers of pending builds of these projects and priorities."""

    def statements(c: builds.sa.Connection) -> list[int]:
        numbers: list[int] = []
        for name, priority in orders:
            project = builds.ensure_project(c, f"/{name}", name, NOW)
            key = f"{name} {len(numbers)} {queue.new_builds(c, 0)}"
            build: Build = builds.insert_build(c, project, PLAN, name="b", args_key=key, now=NOW, priority=priority)[0]
            numbers.append(build.id)
        return numbers

    return await services.store.write(statements)


async def look(dispatch: Local, services: Services, after: int = 0) -> list[int]:
    """What was taken since the last look, once the worker has read what is above `after`."""
    Run.began.clear()
    dispatch.dispatch(await services.store.read(lambda c: queue.new_builds(c, after)))
    await asyncio.sleep(0)
    return list(Run.began)


async def end(*numbers: int) -> list[int]:
    """What is taken where these end."""
    Run.began.clear()
    for number in numbers:
        Run.over[number].set()
    for _ in range(4):
        await asyncio.sleep(0)
    return list(Run.began)


async def test_limits_and_turns_hold_from_one_build_to_the_next(services: Services) -> None:
    """Issue: limits global and per project, fairness; a build's end alone takes the next one."""
    limited(services, builds=3, per_project=2)
    dispatch = Local(services)
    big = await ordered(services, *[("big", 10)] * 5)
    assert await look(dispatch, services) == big[:2]
    small = await ordered(services, ("small", 10), ("small", 10), ("late", 5))
    assert await look(dispatch, services, after=big[-1]) == [small[2]]  # urgent, and then all three run
    assert await look(dispatch, services) == []  # seen before
    assert await end(big[0]) == [small[0]]
    assert await end(small[2]) == [big[2]]  # one of each runs: who was served longer ago
    assert await end(big[1]) == [small[1]]
    assert (dispatch.busy, dispatch.held_back) == (True, True)
    limited(services, builds=1)
    await look(dispatch, services, after=small[-1])
    assert await end(big[2], small[0]) == []  # one runs, as many as may now
    assert await end(small[1]) == [big[3]]
    limited(services, builds=9)
    assert await look(dispatch, services, after=small[-1]) == big[4:]
    assert await end(*big[3:]) == []
    assert (dispatch.busy, dispatch.held_back) == (False, False)
    await dispatch.aclose()


async def test_what_ran_is_taken_again_first_and_counts_after_a_workers_death(services: Services) -> None:
    """Issue: limits hold through recovery; who was served last stays so."""
    limited(services, builds=3, per_project=1)
    orders = [("a", 10), ("a", 1), ("b", 10), ("b", 10), ("c", 10), ("a", 20)]
    a, a2, b, b2, c_, _ = await ordered(services, *orders)
    for number in (b, b2, a):  # limits were others then
        await services.store.write(lambda c, n=number: builds.set_running(c, n, NOW))
    limited(services, builds=2, per_project=1)
    dispatch = Local(services, await services.store.read(queue.served))
    assert sorted(await look(dispatch, services)) == [a, b, b2]
    assert set(services.begun) == {a, b, b2}
    assert await end(b) == []
    assert await end(b2) == [c_]
    assert await end(a) == [a2]
    assert set(services.begun) == set()
    await dispatch.aclose()
    assert Run.began == [a2]  # a worker that leaves takes nothing more


async def test_transfers_and_cancelled_builds_wait_for_no_limit(services: Services) -> None:
    """Ours. A long build keeps no import waiting, and a cancel of what waits is done at once."""
    limited(services, builds=1)
    dispatch = Local(services)
    long, waits, fetched = await ordered(services, ("a", 10), ("a", 10), ("new", -1))
    assert await look(dispatch, services) == [fetched, long]
    await services.store.write(lambda c: builds.request_cancel(c, waits, NOW))
    await services.store.write(lambda c: builds.request_cancel(c, long, NOW))
    assert await look(dispatch, services, after=fetched) == [waits]
    assert dispatch._runs[long][0].stop.is_set()
    await services.store.write(lambda c: builds.end_build(c, waits, BuildStatus.CANCELLED, "cancelled", NOW))
    assert await end(waits, fetched) == []
    many = await ordered(services, *[("new", -1)] * 10)
    assert await look(dispatch, services, after=fetched) == many[: local.MOST_BESIDE]
    assert await end(many[0]) == [many[8]]
    await dispatch.aclose()


@pytest.mark.sqlite_only
async def test_what_is_new_is_found_by_indexes_alone(services: Services) -> None:
    """Ours. Ten thousand that wait cost a wake nothing."""

    def plan(c: sa.Connection) -> str:
        asked: list[str] = []
        driver: Any = c.connection.dbapi_connection
        driver.set_trace_callback(asked.append)
        queue.new_builds(c, 7)
        driver.set_trace_callback(None)
        rows = c.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[0]}")
        return " ".join(str(row[3]) for row in rows)

    told = await services.store.read(plan)
    assert "ix_builds_to_cancel (status=? AND rowid<?)" in told, told
    assert "ix_builds_status (status=? AND rowid>?)" in told, told
