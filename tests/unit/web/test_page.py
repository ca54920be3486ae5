"""The page: what is served, with which headers, and who may log in and act by its cookie."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from mcp_server.web import guard, sessions
from mcp_server.web.dashboard.files import FILES
from tests.support.moved_clock import MovedClock
from tests.support.shown import Shown
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)
OWN = {"Origin": "http://localhost:8000", "X-Requested-With": "build-orchestrator"}


@pytest_asyncio.fixture
async def service(home: Path) -> AsyncIterator[Service]:
    async with web_service(MovedClock()) as service:
        yield service


async def test_the_page_is_files_of_ours_and_loads_nothing_from_elsewhere(service: Service) -> None:
    """Issue: XSS. A strict policy, no inline script or style, nothing set as HTML; 304 for who has it."""
    assert {"/", "/page/main.js", "/page/style.css"} <= set(FILES)
    for address, path in FILES.items():
        answer = await service.ask("GET", address)
        assert (answer.status_code, answer.content) == (200, path.read_bytes()), address
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src")
        assert "unsafe" not in policy and answer.headers["x-content-type-options"] == "nosniff"
        tag = answer.headers["etag"]
        for known in (tag, f'W/"x", W/{tag}'):
            again = await service.ask("GET", address, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await service.ask("GET", address, headers={"If-None-Match": '"other"'})).status_code == 200

        text = path.read_text()
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function"):
            assert forbidden not in text, (address, forbidden)
        elsewhere = re.findall(r"https?://[^\s'\"`]+", text)
        assert set(elsewhere) <= {"http://www.w3.org/2000/svg"}, address
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text) or path.suffix == ".js"
        for module in re.findall(r"from '\./([a-z]+\.js)'", text):
            assert f"/page/{module}" in FILES
    for path in ("/page/../guard.py", "/page/%2e%2e/files.py", "/page//etc/passwd", "/page/", "/page/none.js"):
        assert (await service.ask("GET", path)).status_code == 404, path


async def test_a_token_once_and_then_a_cookie_that_no_script_reads(service: Service) -> None:
    """Issue: a CSRF-safe login. The page is there without a token, what it shows is not."""
    tokens = service.orchestrator.tokens
    _, text = await tokens.create("anna", "build")
    assert (await service.ask("GET", "/")).status_code == 200
    assert (await service.ask("GET", "/api/session")).status_code == 401
    for headers in ({}, {"Origin": OWN["Origin"]}, {**OWN, "Origin": "http://evil.example"}, {**OWN, "Origin": "null"}):
        refused = await service.ask("POST", "/api/login", json={"token": text}, headers=headers)
        assert (refused.status_code, refused.headers.get("set-cookie")) == (403, None), headers

    answer = await service.ask("POST", "/api/login", json={"token": text}, headers=OWN)
    assert answer.json() == {"name": "anna", "scope": "build", "login": True}
    set_cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in set_cookie and "SameSite=strict" in set_cookie and "Path=/" in set_cookie
    assert text not in set_cookie
    cookie = {"Cookie": set_cookie.partition(";")[0]}
    assert (await service.ask("GET", "/api/session", headers=cookie)).json() == answer.json() | {"last_event": 0}

    # What changes anything needs the page's own header and Origin; another port of this machine is another site.
    for headers, status in (
        (OWN, 404),
        ({}, 403),
        ({"Origin": OWN["Origin"]}, 403),
        ({**OWN, "Origin": "http://localhost:3000"}, 403),
        ({**OWN, "Origin": "http://evil.example"}, 403),
    ):
        for path in ("/api/builds/1/retry", "/api/builds/1/cancel"):
            got = await service.ask("POST", path, headers={**cookie, **headers})
            assert got.status_code == status, (path, headers, got.text)
    assert (await service.ask("POST", "/mcp", headers=cookie, json={})).status_code == 403
    asked = await service.ask("POST", "/api/pipelines", headers={**cookie, **OWN}, json={"yaml": "a", "project": "p"})
    assert (asked.status_code, asked.json()["detail"]) == (403, "token anna may build: this needs admin")

    left = await service.ask("POST", "/api/logout", headers={**cookie, **OWN})
    assert left.status_code == 200 and "Max-Age=0" in left.headers["set-cookie"]
    assert (await service.ask("GET", "/api/session", headers=cookie)).status_code == 401


async def test_a_session_ends_with_its_token_and_with_its_day(service: Service) -> None:
    """Ours. Nothing that was taken away goes on by a cookie; guesses are slowed down as everywhere."""
    clock, tokens = service.orchestrator.clock, service.orchestrator.tokens
    assert isinstance(clock, MovedClock)
    _, text = await tokens.create("anna", "read")
    await tokens.create("other", "read")

    async def log_in() -> dict[str, str]:
        answer = await service.ask("POST", "/api/login", json={"token": text}, headers=OWN)
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}

    cookie = await log_in()
    clock.advance(sessions.KEPT_S - 1)
    assert (await service.ask("GET", "/api/builds", headers=cookie)).status_code == 200
    clock.advance(1)
    assert (await service.ask("GET", "/api/builds", headers=cookie)).status_code == 401
    cookie = await log_in()
    await tokens.remove("anna")
    assert (await service.ask("GET", "/api/builds", headers=cookie)).status_code == 401
    assert service.routes.state.sessions.token_text("\xff") is None
    for wrong in ("", "x", "x" * 5000, '"'):
        header = {"Cookie": f"a=b; {sessions.COOKIE}={wrong}"}
        assert (await service.ask("GET", "/api/builds", headers=header)).status_code == 401

    guess = {"token": "guess"}
    statuses = [(await service.ask("POST", "/api/login", json=guess, headers=OWN)).status_code for _ in range(22)]
    assert statuses == [401] * 20 + [429] * 2


async def test_sockets_by_cookie_are_the_pages_own(service: Service) -> None:
    """Issue: no other site's page may listen with a browser's cookie."""
    _, text = await service.orchestrator.tokens.create("anna", "read")
    session = service.routes.state.sessions.open(text)

    async def refused(*headers: tuple[bytes, bytes]) -> bool:
        cookie = (b"cookie", f"{sessions.COOKIE}={session}".encode())
        given = [(b"host", b"localhost:8000"), cookie, *headers]
        scope: guard.Message = {"type": "websocket", "path": "/ws", "headers": given, "client": ("127.0.0.1", 1)}
        return await service.guarded._refusal(scope) is not None

    assert not await refused((b"origin", b"http://localhost:8000"))
    assert await refused()
    assert await refused((b"origin", b"http://localhost:3000"))
    assert await refused((b"origin", b"http://evil.example"))


def test_only_so_many_sessions_are_kept() -> None:
    """Ours."""
    kept = sessions.Sessions(MovedClock())
    ids = [kept.open("t") for _ in range(sessions.MOST + 1)]
    assert (kept.token_text(ids[0]), kept.token_text(ids[1]), kept.token_text(ids[-1])) == (None, "t", "t")


async def test_a_log_is_searched_as_a_whole_and_read_on_from_any_line(service: Service, home: Path) -> None:
    """Issue: a log viewer with search. What the page goes by: numbers of lines, and bytes where whole ones begin."""
    await Shown(home).fill()

    async def log(**query: object) -> httpx2.Response:
        answer = await service.ask("GET", "/api/builds/1/log/build:1.1", params=query)
        assert answer.status_code == 200, answer.text
        return answer

    found = await log(grep="(?ai)ERROR: ")
    assert (found.headers["x-log-matches"], found.headers["x-log-lines"]) == ("2", "3000")
    assert found.text.startswith("2000: main/valve.c:8:9: error: unknown name\n2500: ")

    here = await log(line=2000, max_bytes=200)
    start, end = int(here.headers["x-start-offset"]), int(here.headers["x-end-offset"])
    assert here.text.startswith("main/valve.c:8:9") and here.text.endswith("\n")
    assert (await log(before=start, max_bytes=60)).text.endswith("step 1999 of 3000: compiling\n")
    after = await log(offset=end, whole=True, max_bytes=60)
    assert after.text == "step 2006 of 3000: compiling\nstep 2007 of 3000: compiling\n"
    tail = await log(before=2**53 - 1, max_bytes=60)
    assert tail.text.endswith("step 3000 of 3000: compiling\n") and "x-next-offset" not in tail.headers
    refused = await service.ask("GET", "/api/builds/1/log/build:1.1", params={"line": 3002})
    assert (refused.status_code, "it has 3000 lines" in refused.json()["detail"]) == (422, True)
