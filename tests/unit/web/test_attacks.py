"""What a hostile caller writes into addresses, filters and headers, and what he reads by it: nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from mcp_server.logs import LogSlice
from mcp_server.web import heavy
from tests.support.left_files import build_that_left
from tests.support.moved_clock import MovedClock
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)
SECRET = "what only this user may read"


@pytest_asyncio.fixture
async def service(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """With build 1, that left out/a.txt and out/b.txt; the second is a link to a secret by now."""
    async with web_service(MovedClock()) as service:

        async def nothing() -> None:
            pass

        monkeypatch.setattr(service.orchestrator, "poke", nothing)
        place = tmp_path / "kept"
        (tmp_path / "secret").write_text(SECRET)
        number = await build_that_left(service.orchestrator, place, {"out/a.txt": b"a", "out/b.txt": b"b"})
        assert number == 1
        (place / "build" / "out" / "b.txt").unlink()
        (place / "build" / "out" / "b.txt").symlink_to(tmp_path / "secret")
        yield service


async def test_no_path_leads_out_of_what_a_build_left(service: Service, tmp_path: Path) -> None:
    """Issue: path traversal in artifacts and logs, as clients and as crooked ones write it; links that came later."""
    assert (await service.ask("GET", "/api/builds/1/artifacts/out/a.txt")).text == "a"
    up = "../" * 12
    paths = [f"{up}{tmp_path}/secret", str(tmp_path / "secret"), "out/b.txt", "build/out/b.txt", "out/../../../secret"]
    paths += [
        "..\\..\\secret",
        "out/a.txt\0",
        "\0",
        "out/a.txt/../../../../secret",
        "~/.ssh/id_rsa",
        "file:///etc/passwd",
    ]
    for path in paths:
        for written in (
            quote(path, safe=""),
            quote(quote(path, safe=""), safe=""),
            quote(path),
            path.replace("/", "%2F"),
        ):
            answer = await service.ask("GET", f"/api/builds/1/artifacts/{written}".replace("\0", "%00"))
            assert answer.status_code in (404, 405, 422), (written, answer.text)
            assert SECRET not in answer.text
        for stage in (path, f"build:{path}", f"build:1.{path}"):
            answer = await service.ask("GET", f"/api/builds/1/log/{quote(stage, safe='')}")
            assert answer.status_code in (404, 422), (stage, answer.text)
            assert SECRET not in answer.text


async def test_a_range_that_is_none_is_not_there(service: Service) -> None:
    """Ours. Of the rest there is one piece at a time; thousands of them are the whole file once."""
    path = "/api/builds/1/artifacts/out/a.txt"
    for asked, status in (
        ("bytes=0-0", 206),
        ("bytes=0-", 206),
        ("bytes=-1", 206),
        ("bytes=5-1", 200),
        ("bytes=-0", 200),
        ("lines=1-2", 200),
        (f"bytes={','.join(['0-0'] * 5000)}", 200),
        ("bytes=1-", 416),
        (f"bytes={'9' * 15}-", 416),
    ):
        answer = await service.ask("GET", path, headers={"Range": asked})
        assert (answer.status_code, answer.text if status < 300 else "a") == (status, "a"), asked
        if status == 416:
            assert answer.headers["content-range"] == "bytes */1" and answer.json()["title"] == "no such range"


async def test_what_takes_seconds_is_done_a_few_at_a_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Searches by patterns that never end would be as many processes as somebody asks for."""
    begun, most, go = 0, 0, asyncio.Event()
    enough = asyncio.Event()

    async def slow(*_: object, **__: object) -> LogSlice:
        nonlocal begun, most
        begun += 1
        most = max(most, begun)
        if begun == heavy.AT_ONCE:
            enough.set()
        await go.wait()
        begun -= 1
        return LogSlice("build", "found")

    monkeypatch.setattr(service.orchestrator, "log", slow)
    path = "/api/builds/1/log/build?grep=x"
    asked = [asyncio.ensure_future(service.ask("GET", path)) for _ in range(12)]
    clock = service.orchestrator.clock
    assert isinstance(clock, MovedClock)
    async with asyncio.timeout(10):
        await enough.wait()
        assert (await service.ask("GET", "/api/builds")).status_code == 200  # who asks for little is served
        clock.advance(heavy.WAIT_S + 1)
        late, waiting = await asyncio.wait(asked, timeout=0.5)
        go.set()
        statuses = sorted([(await answer).status_code for answer in asked])
    assert most == heavy.AT_ONCE and len(late) + len(waiting) == 12
    assert statuses == [200] * heavy.AT_ONCE + [503] * (12 - heavy.AT_ONCE)


async def test_filters_are_values_and_never_sql(service: Service) -> None:
    """Issue: SQL through filters. Whatever is asked, the rows stay, and no other ones are shown."""
    asks: list[tuple[str, str]] = [
        ("/api/builds", "project"),
        ("/api/builds", "status"),
        ("/api/builds", "after"),
        ("/api/builds", "limit"),
        ("/api/projects", "after"),
        ("/api/events", "after"),
        ("/api/hosts", "name"),
    ]
    crooked = (
        "' OR '1'='1",
        "1; DROP TABLE builds; --",
        "x' UNION SELECT text FROM tokens --",
        '" OR ""="',
        "%",
        "_amp",
    )
    crooked += ("lamp'--", "1 OR 1=1", "\\' OR 1=1 --", "lamp\0", "ｌａｍｐ")
    for path, name in asks:
        for value in crooked:
            answer = await service.ask("GET", path, params={name: value})
            if path == "/api/projects":  # an id that there is not: from the beginning
                assert answer.status_code == 200 and [one["name"] for one in answer.json()["projects"]] == ["lamp"]
            else:
                assert answer.status_code in (404, 422), (path, name, value, answer.text)
    for value in crooked:
        for path in ("/api/projects/{}", "/api/projects/{}/stats", "/api/builds/{}", "/api/tasks/{}"):
            answer = await service.ask("GET", path.format(quote(value, safe="")))
            assert answer.status_code in (404, 422), (path, value, answer.text)
    listed: dict[str, Any] = (await service.ask("GET", "/api/builds")).json()
    assert [(one["id"], one["status"], one["project"]) for one in listed["builds"]] == [(1, "success", "lamp")]


async def test_no_site_and_no_borrowed_name_uses_the_service(service: Service) -> None:
    """Issue: CSRF and DNS rebinding, at every kind of door, as browsers send it."""
    evil = {"Origin": "http://evil.example"}
    for method, path in (
        ("GET", "/api/builds"),
        ("POST", "/mcp"),
        ("GET", "/api/events"),
        ("POST", "/api/builds/1/retry"),
    ):
        for more, statuses in (
            ({"headers": evil}, (403,)),
            ({"host": "evil.example"}, (421,)),
            ({"host": "evil.example", "headers": evil}, (421,)),
            ({"host": "localhost.evil.example:8000"}, (421,)),
            ({"host": "127.0.0.1.evil.example"}, (421,)),
            ({"host": "evil.example@localhost"}, (403, 421)),
            ({"host": ""}, (403, 421)),
            ({"headers": {"Origin": "http://localhost.evil.example"}}, (403,)),
            ({"headers": {"Origin": "file://"}}, (403,)),
            ({"headers": {"Origin": "http://[::1"}}, (403,)),
        ):
            arguments: dict[str, Any] = more
            answer = await service.ask(method, path, **arguments)
            assert answer.status_code in statuses, (method, path, more, answer.status_code)
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "text/plain; application/json", ""):
        answer = await service.ask("POST", "/api/builds/1/retry", content=b"{}", headers={"Content-Type": content_type})
        assert answer.status_code == 415, content_type


async def test_nobody_becomes_this_machines_user_by_a_header(service: Service) -> None:
    """Ours. Who is on loopback is what the connection says."""
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host", "X-Original-URL"):
        answer = await service.ask("GET", "/api/builds", client="10.0.0.9", headers={name: "127.0.0.1"})
        assert answer.status_code == 401
