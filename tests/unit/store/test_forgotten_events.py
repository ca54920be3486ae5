"""Events that are old go, and whoever asks for them is told so."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine.housekeeping import forget_events
from mcp_server.engine.services import Services
from mcp_server.hosts.registry import Hosts
from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.store import builds, events
from mcp_server.store.database import Store

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(stages=(StageSpec(name="build", kind="command", params={"argv": ["true"]}),))
OLD = NOW - timedelta(days=400)


def build_at(c: sa.Connection, began: datetime, ended: datetime | None, chatter: int = 3) -> int:
    project = builds.ensure_project(c, "/p", "p", began)
    build, _ = builds.insert_build(c, project, PLAN, name="n", args_key=str(began) + str(chatter), now=began)
    for _ in range(chatter):
        events.append(c, "test", build.id, began, {})
    if ended is not None:
        builds.end_build(c, build.id, BuildStatus.SUCCESS, "exit", ended)
    return build.id


async def test_old_events_of_builds_that_are_over_go_and_a_gap_is_told(store: Store) -> None:
    """Issue. Who asks with an older id is told, not left in silence; who has seen all of them is not."""
    first = await store.write(lambda c: build_at(c, OLD, OLD + timedelta(hours=1)))
    last_old = await store.read(events.last_id)
    second = await store.write(lambda c: build_at(c, NOW, NOW))

    assert await store.write(lambda c: events.forget(c, NOW - timedelta(days=1))) == last_old == 6
    assert await store.write(lambda c: events.forget(c, NOW - timedelta(days=1))) == 0

    every = await store.read(lambda c: events.events_after(c, 0))
    assert (every[0].type, every[0].id, every[0].data["up_to"]) == ("events.gone", 6, 6)
    assert [event.id for event in every[1:]] == list(range(7, 13))
    assert (await store.read(lambda c: events.events_after(c, 6)))[0].type == "build.status"
    of_first = await store.read(lambda c: events.events_after(c, 2, build_id=first))
    assert [(event.type, event.build) for event in of_first] == [("events.gone", first)]
    assert await store.read(lambda c: events.events_after(c, 6, build_id=first)) == []
    of_second = await store.read(lambda c: events.events_after(c, 0, build_id=second))
    assert of_second[0].id == 7  # nothing of it is gone
    assert [event.type for event in await store.read(lambda c: events.newest_events(c, first, 9))] == ["events.gone"]
    assert len(await store.read(lambda c: events.newest_events(c, second, 9))) == 6
    assert len(await store.read(lambda c: events.newest_events(c, second, 2))) == 2
    assert (await store.read(lambda c: builds.get_build(c, first))).status == "success"


async def test_what_an_open_build_told_stays_and_so_does_the_rest_of_its_time(store: Store) -> None:
    """Ours. A build that has run for a year is still told of from its beginning."""
    await store.write(lambda c: build_at(c, OLD, OLD))
    opened = await store.write(lambda c: build_at(c, OLD, None, 4))
    await store.write(lambda c: build_at(c, OLD, OLD, 5))

    assert await store.write(lambda c: events.forget(c, NOW - timedelta(days=1))) == 6
    assert await store.write(lambda c: events.forget(c, NOW - timedelta(days=1))) == 0
    assert len(await store.read(lambda c: events.newest_events(c, opened, 99))) == 5


async def test_nobody_waits_long_for_the_clean_up_of_many(home: Path, store: Store, database_url: str) -> None:
    """Ours. In batches; with `keep_events: 0` none at all goes."""
    (home / "config.yaml").write_text("store: {keep_events: 300d}\n")
    await store.write(lambda c: build_at(c, OLD, OLD, 2500))
    config = load_config({"BUILD_ORCHESTRATOR_HOME": str(home), "BUILD_ORCHESTRATOR_DATABASE_URL": database_url})
    services = Services(config, store, SystemClock(), Hosts(config, {}))

    assert await forget_events(services) == 2503
    assert await store.read(lambda c: events.events_after(c, 0)) == []
    assert await store.read(events.last_id) == 2503
    (home / "config.yaml").write_text("store: {keep_events: 0}\n")
    await services.refresh()
    await store.write(lambda c: build_at(c, OLD, OLD))
    assert await forget_events(services) == 0
    await services.aclose()


async def test_no_newer_event_can_be_taken_away(store: Store) -> None:
    """Design. Events are facts: the database itself refuses."""
    await store.write(lambda c: build_at(c, OLD, OLD))
    await store.write(lambda c: build_at(c, NOW, NOW))
    await store.write(lambda c: events.forget(c, NOW - timedelta(days=1)))

    with pytest.raises(Exception, match="append-only"):
        await store.write(lambda c: c.exec_driver_sql("DELETE FROM events"))
