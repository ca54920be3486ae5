"""The service on a full disk, with a locked or removed database, with a clock that goes back: it says so and lives."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_server.store import builds, sqlite
from tests.support.moved_clock import MovedClock
from tests.support.small_disk import mounted
from tests.support.web_service import Service, web_service
from tests.unit.web.test_floods import Client

pytestmark = pytest.mark.timeout(60)
PROJECT = "pipeline:\n  name: lamp\n  stages:\n    - {name: a, command: 'true'}\n"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of 3 MB."""
    folder = tmp_path / "small"
    monkeypatch.setenv("BUILD_ORCHESTRATOR_HOME", str(folder))
    yield from mounted(folder, "3m")


@pytest_asyncio.fixture
async def service(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 200)
    async with web_service(MovedClock()) as service:
        await with_project(service, tmp_path, monkeypatch)
        yield service


async def with_project(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project lamp, whose builds stay pending."""

    async def nothing() -> None:
        pass

    monkeypatch.setattr(service.orchestrator, "poke", nothing)
    (tmp_path / "lamp").mkdir()
    (tmp_path / "lamp" / ".build-orchestrator.yaml").write_text(PROJECT)
    assert (await service.ask("POST", "/api/projects", json={"source": str(tmp_path / "lamp")})).status_code == 202


async def start(service: Service, token: str | None = None) -> tuple[int, dict[str, Any]]:
    """Ask for a build of it."""
    answer = await service.ask("POST", "/api/projects/lamp/build", token=token, json={})
    assert answer.headers["content-type"].startswith("application/")
    return answer.status_code, answer.json()


def fill(folder: Path) -> Path:
    """Leave not a byte."""
    path = folder / "everything"
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return path


async def test_a_full_disk_is_said_and_all_goes_on_once_there_is_room(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: disk full. Who only looks is served meanwhile, with a token, too; readers stay and hear of what comes."""
    async with web_service() as service:
        await with_project(service, tmp_path, monkeypatch)
        _, token = await service.orchestrator.tokens.create("bot", "build")
        full = fill(small)
        for _ in range(3):
            status, problem = await start(service, token)
            assert status in (503, 507) and "space" in problem["detail"], problem
        for path in ("/api/builds", "/api/projects", "/healthz", "/metrics"):
            assert (await service.ask("GET", path, token=token)).status_code == 200, path
        answer = await service.ask("POST", "/api/projects", token=token, json={"source": str(tmp_path)})
        assert answer.status_code == 403
        full.unlink()
        assert (await start(service, token))[0] == 202
        assert len((await service.ask("GET", "/api/builds", token=token)).json()["builds"]) == 1


@pytest.mark.sqlite_only
async def test_a_database_that_is_locked_is_waited_for_and_said(service: Service, home: Path) -> None:
    """Issue. Writing is refused with a sentence; reading goes on; then all is as before."""
    reader = Client(service)
    await reader.until("websocket.accept")
    locking = sqlite3.connect(home / "orchestrator.db", isolation_level=None)
    locking.execute("BEGIN EXCLUSIVE")
    status, problem = await start(service)
    assert (status, "was locked" in problem["detail"]) == (503, True)
    assert (await service.ask("GET", "/api/builds")).status_code == 200
    locking.execute("ROLLBACK")
    locking.close()
    assert (await start(service))[0] == 202
    assert json.loads((await reader.until("websocket.send"))["text"])["type"] == "build.status"
    reader.said.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await reader.served


@pytest.mark.sqlite_only
async def test_a_database_that_is_removed_is_said_and_not_written_to_for_nobody(service: Service, home: Path) -> None:
    """Ours. Open connections to a file that has no name any more would take everything and keep nothing."""
    assert (await start(service))[0] == 202
    aside = home / "aside"
    aside.mkdir()
    files = [path for path in home.iterdir() if path.name.startswith("orchestrator.db")]
    for path in files:
        path.rename(aside / path.name)
    for method, path in (("GET", "/api/builds"), ("POST", "/api/projects/lamp/build"), ("GET", "/healthz")):
        answer = await service.ask(method, path)
        assert answer.status_code == 503 and "was removed while it was in use" in answer.text, (path, answer.text)
    assert not (home / "orchestrator.db").exists()  # nor is an empty one made
    for path in files:
        (aside / path.name).rename(path)
    assert len((await service.ask("GET", "/api/builds")).json()["builds"]) == 1


async def test_a_clock_that_goes_back_breaks_nothing(service: Service) -> None:
    """Issue. Tokens, sessions, rates, events and figures, a month back: nothing is refused, negative or silent."""
    clock = service.orchestrator.clock
    assert isinstance(clock, MovedClock)
    _, text = await service.orchestrator.tokens.create("bot", "admin", 7)
    number = (await start(service, text))[1]["build_id"]
    store, began = await service.orchestrator.store(), clock.now()
    await store.write(lambda c: builds.set_running(c, number, began))
    page = {"Origin": "http://localhost:8000", "X-Requested-With": "build-orchestrator"}
    login = await service.ask("POST", "/api/login", json={"token": text}, headers=page)
    cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
    reader = Client(service)
    await reader.until("websocket.close")  # without a token

    clock.go_back(timedelta(days=30))
    assert (await service.ask("GET", "/api/session", token=text)).json()["name"] == "bot"
    assert (await service.ask("GET", "/api/session", headers=cookie)).json()["login"] is True
    shown = (await service.ask("GET", f"/api/builds/{number}", token=text)).json()
    assert shown["elapsed_s"] >= 0 and (shown["eta_s"] or 0) >= 0
    assert "-" not in shown["verdict"].partition("\n")[0].replace("esp-idf", ""), shown["verdict"]
    for path in ("/api/builds", "/api/projects/lamp/stats", "/api/hosts?check=false", "/metrics", "/healthz"):
        assert (await service.ask("GET", path, token=text)).status_code == 200, path
    second = (await start(service, text))[1]["build_id"]
    assert second > number
    listed = (await service.ask("GET", "/api/builds", token=text)).json()["builds"]
    assert [one["id"] for one in listed] == [second, number]
    events = (await service.ask("GET", f"/api/builds/{second}/events", token=text)).json()
    assert events and events[-1]["build"] == second
    store = await service.orchestrator.store()
    await store.write(lambda c: builds.end_build(c, number, builds.BuildStatus.SUCCESS, "exit", clock.now()))
    shown = (await service.ask("GET", f"/api/builds/{number}", token=text)).json()
    assert shown["duration"] >= 0, shown["duration"]
    stats = (await service.ask("GET", "/api/projects/lamp/stats", token=text)).json()
    assert (stats["average_duration"] or 0) >= 0
    clock.go_back(timedelta(days=-60))
    assert (await service.ask("GET", "/api/session", token=text)).status_code == 401  # it has expired, truly now
    await asyncio.wait_for(reader.served, 5)
