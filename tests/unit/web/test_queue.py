"""The queue as fronts tell of it: REST, the tools' text, the command line's notes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server import queue_view, report, report_tables
from mcp_server.cli import listing
from mcp_server.home import machine_id
from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.store import builds, workers
from tests.support.moved_clock import MovedClock
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)


@pytest_asyncio.fixture
async def service(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service whose worker does nothing, and whose time stands still."""
    (home / "config.yaml").write_text("queue: {builds: 5, per_project: 2}\nservers: {local: {slots: 4}}\n")
    async with web_service(MovedClock()) as service:

        async def nothing() -> None:
            pass

        monkeypatch.setattr(service.orchestrator, "poke", nothing)
        store = await service.orchestrator.store()
        if store.is_shared:  # there a build also waits for this machine to have a worker
            who = {"id": "w", "machine": machine_id(home), "name": "w", "home": str(home), "version": "1", "pid": 1}
            await store.write(lambda c: workers.beat(c, {**who, "state": "serving", "number": None}, 600))
        yield service


async def ordered(service: Service, folder: str, count: int = 1, priority: int = 10) -> list[int]:
    """Numbers of new builds of a folder, each another one."""
    made: list[int] = []
    for _ in range(count):
        argv = ["true", folder, str(asyncio.get_running_loop().time())]
        plan = Plan(stages=(StageSpec(name="build", kind="command", params={"argv": argv}),))
        started = await service.orchestrator.start_plan(folder, plan, name="idf_build", priority=priority)
        made.append(started.build.id)
    return made


async def began(service: Service, *numbers: int, passed_after_s: float | None = None) -> None:
    """These run, or have run for so long and passed."""
    store, now = await service.orchestrator.store(), service.orchestrator.clock.now()
    for number in numbers:
        await store.write(lambda c, n=number: builds.set_running(c, n, now))
        if passed_after_s is not None:
            then = now + timedelta(seconds=passed_after_s)
            await store.write(lambda c, n=number, at=then: builds.end_build(c, n, BuildStatus.SUCCESS, "exit", at))


async def test_a_pending_build_tells_its_place_its_time_and_why(service: Service) -> None:
    """Issue: position and expected start shown, and the reason in words."""
    orchestrator = service.orchestrator
    await began(service, *await ordered(service, "/p/blink", 3), passed_after_s=100)
    running = await ordered(service, "/p/blink", 2)
    await began(service, *running)
    orchestrator.clock.advance(40)  # pyright: ignore[reportAttributeAccessIssue]
    waits, last = await ordered(service, "/p/blink", 2)
    [other] = await ordered(service, "/p/lamp")

    place = (await service.ask("GET", f"/api/builds/{waits}")).json()["queue"]
    at = orchestrator.clock.now() + timedelta(seconds=60)
    assert datetime.fromisoformat(place.pop("expected_start")) == at
    assert place == {"position": 2, "of": 3, "reason": "project blink has 2 of 2 builds running"}
    listed = (await service.ask("GET", "/api/builds?limit=4")).json()["builds"]
    assert [row["queue"] and row["queue"]["position"] for row in listed] == [1, 3, 2, None]
    text = report.build_report(await orchestrator.get(waits))
    assert "place 2 of 3, in about 60 s: project blink has 2 of 2 builds running" in text
    rows = await orchestrator.list(limit=4)
    places = await orchestrator.queue.of(rows)
    assert f"{last} pending" in (text := report_tables.build_list(rows, {}, places)) and "place 3 of 3" in text
    notes = [line.plain for line in listing.build_table(rows, {}, orchestrator.clock.now(), None, places)]
    assert "place 3 of 3, in about 60 s: project blink has 2 of 2" in notes[2], notes
    assert "place 1 of 3: begins now" in report.build_report(await orchestrator.get(other))

    page = (await service.ask("GET", "/api/queue?limit=2")).json()
    assert [(row["build"], row["project"], row["position"]) for row in page["queue"]] == [
        (other, "lamp", 1),
        (waits, "blink", 2),
    ]
    assert [page[key] for key in ("builds", "per_project", "running", "pending", "next")] == [5, 2, 2, 3, 2]
    page = (await service.ask("GET", "/api/queue?limit=2&after=2")).json()
    assert ([row["build"] for row in page["queue"]], page["next"]) == ([last], None)


async def test_the_picture_follows_every_change_of_the_queue(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. It is kept from one look to the next only while nothing came, began, ended or is cancelled."""
    monkeypatch.setattr(queue_view, "CHEAP_S", 60)  # however busy this machine is: no look takes long
    orchestrator = service.orchestrator
    a, b, c_ = await ordered(service, "/p/a", 3)
    assert list(await orchestrator.queue.of(await orchestrator.list())) == [c_, b, a]
    await orchestrator.cancel(a)
    assert (await orchestrator.queue.picture()).places[b].position == 1
    assert (await orchestrator.get(a)).queue is None
    await began(service, b)
    assert list((await orchestrator.queue.picture()).places) == [c_]
    [d] = await ordered(service, "/p/d", priority=1)
    assert list((await orchestrator.queue.picture()).places) == [d, c_]
    file = orchestrator.config.file
    file.write_text("queue: {builds: 1}\n")
    page = (await service.ask("GET", "/api/queue")).json()
    assert (page["builds"], page["per_project"], page["queue"][0]["reason"]) == (1, None, "1 of 1 builds run")
