"""Builds that come round by the clock: each time once, whoever serves, and whatever the clock does."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.config import load_config
from mcp_server.config_schedules import Schedule
from mcp_server.demo.place import lay_out, simulated_installation
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.schedules import Schedules, following, latest
from mcp_server.store import builds
from tests.support.git_tree import UserTree
from tests.support.moved_clock import MovedClock
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)
HOUR = 3600
CONFIG = """
schedules:
  nightly: {project: greenhouse, cron: "0 3 * * *", branch: main, qemu: no, SUPERSEDE}
"""


class World:
    """A service whose builds stay pending, and another one of the same home; their clock is the test's."""

    def __init__(self, service: Service, clock: MovedClock, home: Path) -> None:
        self.service, self.clock, self.home = service, clock, home
        self.orchestrator = service.orchestrator

    def write(self, text: str = CONFIG, *, supersede: bool = False) -> None:
        self.home.joinpath("config.yaml").write_text(text.replace("SUPERSEDE", f"supersede: {supersede}".lower()))

    async def at(self, hours: float, schedules: Schedules | None = None) -> list[tuple[int, str, str | None]]:
        """Builds once the services' clock says so many hours since midnight, and one has looked."""
        self.clock._passed = hours * HOUR
        await (schedules or self.orchestrator.schedules).look()
        found = await self.orchestrator.list(limit=50)
        return [(one.id, one.triggered_by, one.branch) for one in reversed(found)]

    async def end(self, number: int, *, begin_only: bool = False) -> None:
        store, now = await self.orchestrator.store(), self.clock.now()
        await store.write(lambda c: builds.set_running(c, number, now))
        if not begin_only:
            await store.write(lambda c: builds.end_build(c, number, BuildStatus.SUCCESS, "exit", now))


@pytest_asyncio.fixture
async def world(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    tree = UserTree(lay_out(tmp_path / "greenhouse"), tmp_path / "user")
    tree.git("init", "-q", "-b", "main")
    tree.commit("init")
    clock = MovedClock()

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(Orchestrator, "poke", nothing)
    async with web_service(clock, PATH=os.environ["PATH"], IDF_PATH=str(simulated_installation())) as service:
        service.orchestrator.config.make_home()
        await service.orchestrator.projects.import_(str(tree.top), "greenhouse")
        made = World(service, clock, home)
        made.write()
        yield made


async def test_each_time_is_built_once_whoever_serves_and_whatever_the_clock_does(world: World) -> None:
    """Issue: scheduled builds; two services, a restart in between, a clock set back, times missed made up for once."""
    one = (1, "schedule", "main")
    assert await world.at(2) == []
    assert await world.at(2.99) == []
    assert await world.at(3.01) == [one]
    assert await world.at(3.02) == [one]
    other = Orchestrator(load_config(), clock=world.clock, environment=world.orchestrator.environment)
    assert await world.at(3.03, other.schedules) == [one]
    store = await world.orchestrator.store()
    await store.write(lambda c: c.exec_driver_sql("UPDATE schedules SET done_until = '2026-11-01 02:00:00.000000'"))
    await world.end(1)
    assert await world.at(3.04, other.schedules) == [one]  # it died before it had noted it
    assert await world.at(1) == [one]
    assert await world.at(3.5) == [one]  # the same three o'clock
    assert await world.at(24 * 4 + 9, other.schedules) == [one, (2, "schedule", "main")]
    assert len(await world.at(24 * 5 + 9)) == 2  # it waits still, and will build what is there
    await world.end(2)
    assert len(await world.at(24 * 5 - 1)) == 2  # set back by hours, before a time that another build stood for
    assert len(await world.at(24 * 5 + 4)) == 2
    assert len(await world.at(24 * 6 + 4)) == 3
    assert len(await world.at(24 * 7 + 4)) == 3
    await world.end(3, begin_only=True)
    assert len(await world.at(24 * 8 + 9)) == 4  # while one runs, the branch may have moved
    await world.end(4)
    assert len(await world.at(2)) == 4  # days back: that clock was wrong before
    assert len(await world.at(3.5)) == 4  # that three o'clock was built
    assert len(await world.at(27.5)) == 5  # and this one never was
    await other.aclose()


async def test_what_is_left_of_the_time_before_is_superseded_where_asked_for(world: World) -> None:
    """Ours. The build of the new time takes its place; the API tells when it comes next and what became of the last."""
    world.write(supersede=True)
    await world.at(2)
    await world.at(3.5)
    await world.end(1, begin_only=True)
    await world.at(27.5)
    first = (await world.orchestrator.get(1)).build
    assert (first.cancel_requested, first.reason) == (True, "superseded")
    assert first.build_output == "superseded by build 2: the next time of schedule nightly came"
    [row] = (await world.service.ask("GET", "/api/schedules")).json()
    assert row == {
        "name": "nightly",
        "project": "greenhouse",
        "cron": "0 3 * * *",
        "timezone": "UTC",
        "branch": "main",
        "next": "2026-11-03T03:00:00Z",
        "last_build": 2,
        "last_status": "pending",
        "last_at": "2026-11-02T03:30:00Z",
        "problem": None,
    }
    [check] = await world.orchestrator.schedules.checks()
    assert (check.status, check.found) == (
        "ok",
        "greenhouse next at 2026-11-03 03:00 UTC, the last time was build 2: pending",
    )


async def test_what_cannot_be_built_is_told_and_not_tried_again_for_that_time(world: World) -> None:
    """Ours. With its place in config.yaml where the project is unknown; a schedule that changes begins anew."""
    world.write(CONFIG.replace("greenhouse", "greenhose"))
    await world.at(2)
    assert await world.at(3.5) == []
    [said] = await world.orchestrator.schedules.unknown()
    place = f"{world.home}/config.yaml:3:22 schedules.nightly.project: "
    assert said.startswith(f"{place}project 'greenhose' is not known")
    [check] = await world.orchestrator.schedules.checks()
    assert check.status == "warn" and "'greenhose' is not known" in check.found
    world.write()
    assert await world.at(3.6) == []  # that time is over
    world.write(CONFIG.replace("0 3 * * *", "*/30 * * * *"))
    assert await world.at(4.7) == []  # nothing is made up for that nobody had asked for then
    assert len(await world.at(5.1)) == 1


def test_what_is_written_for_an_hour_that_comes_twice_comes_once() -> None:
    """Ours. Also for who looks in its second: 02:10 has come again, and 02:30 was."""
    schedule = Schedule(project="p", cron="30 2 * * *", timezone="Europe/Berlin")
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert following(schedule, second) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert following(schedule, second - timedelta(hours=1)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


RULES = ["30 2 * * *", "0 3 * * *", "*/20 * * * *", "15 */2 * * *", "0 0 1 * *", "5 4 * * SUN", "0 12 29 2 *"]


@given(
    st.sampled_from(RULES),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 15)),
    st.lists(st.integers(1, 60 * 30), min_size=1, max_size=6),
)
def test_a_time_is_found_once_however_seldom_anybody_looks(
    cron: str, zone: str, begin: datetime, pauses_min: list[int]
) -> None:
    """Ours. Also where clocks change: the last time since the last look, and none that was found before."""
    schedule = Schedule(project="p", cron=cron, timezone=zone)
    since = now = begin.replace(tzinfo=UTC)
    for pause in pauses_min:
        now += timedelta(minutes=pause)
        expected: datetime | None = None
        coming = following(schedule, since)
        while coming is not None and coming <= now:
            assert coming > (expected or since)
            expected, coming = coming, following(schedule, coming)
        assert latest(schedule, since, now) == expected
        since = expected or since
