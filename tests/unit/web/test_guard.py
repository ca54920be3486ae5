"""Who comes in: every route by enumeration, tokens of every kind, other sites' pages, floods."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio
from starlette.routing import Route, WebSocketRoute

from mcp_server.errors import BadInput, Conflict, Forbidden, NotFound, StoreError
from mcp_server.model import Plan, StageSpec
from mcp_server.scopes import CALLER, SCOPES, Caller
from mcp_server.web import guard
from mcp_server.web.app import ROUTERS
from mcp_server.web.problems import NO_SUCH_ADDRESS
from tests.support.moved_clock import MovedClock
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(30)


@pytest_asyncio.fixture
async def service(home: Path) -> AsyncIterator[Service]:
    async with web_service(MovedClock()) as service:
        yield service


def every_route(service: Service) -> list[tuple[str, str]]:
    """Method and path of each, with something in the place of its parameters."""
    return [
        (method, re.sub(r"\{[^}]*\}", "1", route.path))
        for holder in (service.routes, *ROUTERS)
        for route in holder.routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
    ]


async def socket_says(
    service: Service, token: str | None, path: str = "/ws", *, query: bytes = b"", answers: bool = True
) -> list[dict[str, Any]]:
    """What a socket's address says first to who sends this token; `answers`: its server can refuse with a body."""
    said, got = asyncio.Queue[dict[str, Any]](), asyncio.Queue[Any]()
    said.put_nowait({"type": "websocket.connect"})
    headers = [
        (b"host", b"localhost"),
        *([(b"authorization", f"Bearer {token}".encode())] if token is not None else []),
    ]
    scope = {"type": "websocket", "path": path, "query_string": query, "headers": headers, "subprotocols": []}
    whole = {**scope, "client": ("127.0.0.1", 5), "scheme": "ws", "root_path": "", "asgi": {"version": "3.0"}}
    whole |= {"extensions": {"websocket.http.response": {}}} if answers else {}
    serving = asyncio.ensure_future(service.app(whole, said.get, got.put))
    async with asyncio.timeout(5):
        told = [await got.get()]
        said.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await serving
    while not got.empty():
        told.append(got.get_nowait())
    return told


async def refusal(service: Service, token: str | None, path: str = "/ws", query: bytes = b"") -> tuple[Any, ...]:
    """Status, media type, status in the body, sentence of a refused handshake."""
    start, body = await socket_says(service, token, path, query=query)
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    problem = json.loads(body["body"])
    return start["status"], dict(start["headers"])[b"content-type"].decode(), problem["status"], problem["detail"]


async def test_without_a_token_nobody_comes_into_any_route(service: Service) -> None:
    """Issue. By enumeration, so that a new route is closed without anybody thinking of it."""
    clock = service.orchestrator.clock
    assert isinstance(clock, MovedClock)
    token, text = await service.orchestrator.tokens.create("bot", "admin")
    _, expired = await service.orchestrator.tokens.create("once", "admin", 1)
    clock.advance(86_400)
    wrongs = (None, "", "x", expired, f"bo_{token.id}_{'A' * 43}", text[:-1], text + "x", text.upper(), "bo_" * 500)
    routes = [(method, path) for method, path in every_route(service) if path not in guard.PUBLIC]
    routes.remove(("GET", "/files/1/1"))  # a signed link needs none: test_file_links.py
    routes += [(method, "/mcp") for method in ("GET", "POST", "DELETE")]

    described = {(m.upper(), p) for p, item in service.routes.openapi()["paths"].items() for m in item}
    every = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]
    known = {(method, route.path.replace(":path}", "}")) for route in every for method in route.methods or ()}
    assert described <= known and len(routes) > 30
    for method, path in routes:
        for wrong in wrongs:
            service.guarded._wrong = guard.Buckets(clock, 1, 10_000)
            service.guarded._rates = guard.Buckets(clock, 1, 10_000)
            asked = await service.ask(method, path, token=wrong)
            assert asked.status_code == 401, (method, path, wrong)
            assert asked.headers["content-type"] == "application/problem+json"
    websockets = [route for router in ROUTERS for route in router.routes if isinstance(route, WebSocketRoute)]
    assert [route.path for route in websockets] == ["/ws"]
    for wrong in wrongs:
        service.guarded._wrong = guard.Buckets(clock, 1, 10_000)
        assert (await refusal(service, wrong))[:3] == (401, "application/problem+json", 401), wrong
        [closed] = await socket_says(service, wrong, answers=False)
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008), wrong
    assert (await socket_says(service, text))[0]["type"] == "websocket.accept"


async def test_a_refused_handshake_is_a_problem_like_any_other_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. An address that is none, a number that is none, too many requests, a fault; without a token 401."""
    _, text = await service.orchestrator.tokens.create("bot", "read")
    media = "application/problem+json"
    assert await refusal(service, text, "/wss") == (404, media, 404, NO_SUCH_ADDRESS)
    assert (await refusal(service, text, query=b"after=x"))[:3] == (422, media, 422)
    start = (await socket_says(service, None))[0]
    assert b"Bearer" in dict(start["headers"])[b"www-authenticate"]
    monkeypatch.setattr(service.guarded, "_rates", guard.Buckets(service.orchestrator.clock, 0.001, 0))
    start = (await socket_says(service, text))[0]
    assert (start["status"], b"retry-after" in dict(start["headers"])) == (429, True)
    monkeypatch.setattr(service.guarded, "_refusal", AsyncMock(side_effect=StoreError("the database was locked")))
    assert await refusal(service, text) == (503, media, 503, "the database was locked")


async def test_a_token_may_do_what_its_scope_says(service: Service) -> None:
    """Issue: too weak."""
    _, text = await service.orchestrator.tokens.create("screen", "read")
    for method, path in every_route(service):
        open_ = path in guard.PUBLIC or path.startswith(guard.SIGNED)
        if method not in guard.READING and not open_:
            answer = await service.ask(method, path, token=text)
            assert answer.status_code == 403, (method, path)
            assert answer.json()["detail"] == "token screen may read: this needs build"
    assert (await service.ask("GET", "/api/builds", token=text)).status_code == 200


async def test_what_needs_more_than_building_says_so(service: Service, tmp_path: Path) -> None:
    """Ours. Boards and pushes are another matter than builds."""
    _, text = await service.orchestrator.tokens.create("bot", "build")
    asked = [
        ("/api/projects/p/build", {"flash": True}, "flash"),
        ("/api/pipelines", {"yaml": "a", "project": "p"}, "admin"),
        ("/api/create-and-build", {"prompt": "p", "template": "t", "name": "n", "auto_push": True}, "admin"),
        ("/api/create-and-build", {"prompt": "p", "template": "/srv/t", "name": "n"}, "admin"),
        ("/api/create-and-build", {"prompt": "p", "template": "git@host:t", "name": "n"}, "admin"),
        ("/api/create-and-build", {"prompt": "p", "template": "t", "name": "n", "agent": "patch:/etc"}, "admin"),
        ("/api/projects/p/build", {"agent": "patch:/etc"}, "admin"),
    ]
    for path, body, wanted in asked:
        answer = await service.ask("POST", path, token=text, json=body)
        assert answer.status_code == 403, answer.text
        assert answer.json()["detail"] == f"token bot may build: this needs {wanted}"


async def test_a_retry_needs_what_the_build_needed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Who may build does not overwrite a board, nor push, by repeating what another was allowed."""
    monkeypatch.setattr(service.orchestrator, "poke", AsyncMock())  # nothing here is to run
    params = {"project": str(tmp_path), "argv": ["true"], "port": "/dev/ttyUSB0"}
    for kind, wanted in (("idf.flash", "flash"), ("git.push", "admin"), ("command", "build")):
        plan = Plan(stages=(StageSpec(name="last", kind=kind, params=params),))
        for scope in SCOPES[1:]:
            before = CALLER.set(Caller("bot", scope))
            try:
                if SCOPES.index(scope) < SCOPES.index(wanted):
                    with pytest.raises(Forbidden, match=f"token bot may {scope}: this needs {wanted}"):
                        await service.orchestrator.start_plan(tmp_path, plan, name=kind, agreed=True)
                else:
                    await service.orchestrator.start_plan(tmp_path, plan, name=kind, agreed=True)
            finally:
                CALLER.reset(before)


async def test_a_look_that_resets_a_board_is_no_look(service: Service) -> None:
    """Ours. A tool that any token may use asks for more where it is told a port."""
    before = CALLER.set(Caller("screen", "read"))
    try:
        with pytest.raises(Forbidden, match="token screen may read: this needs flash"):
            await service.orchestrator.doctor(port="/dev/ttyUSB0")
    finally:
        CALLER.reset(before)


async def test_a_login_in_a_remotes_url_is_refused_before_it_is_recorded(
    service: Service, home: Path, tmp_path: Path
) -> None:
    """Issue: no row, event, log or answer has it."""
    (tmp_path / "lamp").mkdir()
    assert (await service.ask("POST", "/api/projects", json={"source": str(tmp_path / "lamp")})).status_code == 202
    for remote in (
        "https://ghp_secretsecret@github.com/me/lamp",
        "https://me:ghp_secretsecret@github.com/me/lamp",
        "HTTPS://ghp_secretsecret@github.com",
        "ssh://git:ghp_secretsecret@github.com/me/lamp",
        "git://ghp_secretsecret@h/x",
    ):
        order = {"prompt": "p", "template": "esp-idf-app", "name": "lamp", "auto_push": True, "remote": remote}
        answer = await service.ask("POST", "/api/create-and-build", json=order)
        assert (answer.status_code, answer.json()["argument"]) == (422, "remote")
        stage: dict[str, object] = {"name": "out", "uses": "git.push", "with": {"branch": "b", "remote": remote}}
        text = json.dumps({"pipeline": {"name": "p", "stages": [stage]}})
        answer = await service.ask("POST", "/api/pipelines", json={"yaml": text, "project": "lamp"})
        assert answer.status_code == 422 and "without a login" in answer.text, answer.text
        assert "secretsecret" not in answer.text
    assert not [path for path in home.rglob("*") if path.is_file() and b"secretsecret" in path.read_bytes()]


async def test_a_token_ends_when_it_should_and_its_text_is_kept_nowhere(service: Service, home: Path) -> None:
    """Issue: expired."""
    tokens = service.orchestrator.tokens
    clock = service.orchestrator.clock
    assert isinstance(clock, MovedClock)
    token, text = await tokens.create("bot", "read", 2)
    assert token.expires_at == clock.now() + timedelta(days=2)
    assert (await service.ask("GET", "/api/builds", token=text)).status_code == 200
    assert [kept.used_at for kept in await tokens.list()] == [clock.now()]

    clock.advance(2 * 86_400)
    assert (await service.ask("GET", "/api/builds", token=text)).status_code == 401
    secret = text.split("_", 2)[2].encode()
    assert not [path for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()]
    with pytest.raises(Conflict, match="there is a token bot already"):
        await tokens.create("bot", "read")
    await tokens.remove("bot")
    with pytest.raises(NotFound):
        await tokens.remove("bot")


@pytest.mark.parametrize(
    ("name", "scope", "days", "argument"),
    [("", "read", None, "name"), ("a b", "read", None, "name"), ("a", "root", None, "scope"), ("a", "read", 0, "days")],
)
async def test_a_token_that_cannot_be_is_one_sentence(
    service: Service, name: str, scope: str, days: int | None, argument: str
) -> None:
    """Ours."""
    with pytest.raises(BadInput) as refused:
        await service.orchestrator.tokens.create(name, scope, days)
    assert refused.value.argument == argument


async def test_the_environments_token_may_do_all(home: Path) -> None:
    """Interfaces: BUILD_ORCHESTRATOR_TOKEN. One that could be guessed is refused."""
    async with web_service(BUILD_ORCHESTRATOR_TOKEN="a" * 32) as service:
        assert (await service.ask("GET", "/api/builds", token="a" * 32)).status_code == 200
        assert (await service.ask("GET", "/api/builds")).status_code == 401
    async with web_service(BUILD_ORCHESTRATOR_TOKEN="short") as service:
        with pytest.raises(BadInput, match="20 characters"):
            service.orchestrator.tokens.check_fixed()


async def test_without_tokens_this_machines_users_are_admitted_and_nobody_else(service: Service) -> None:
    """Interfaces: the loopback rule; DNS rebinding and pages of other sites."""
    got = await service.ask("GET", "/api/builds")
    assert (got.status_code, got.json()) == (200, {"builds": [], "next": None})
    for more, status in (
        ({"client": "192.168.1.7"}, 401),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example", "headers": {"Origin": "http://evil.example"}}, 421),
        ({"headers": {"Origin": "http://evil.example"}}, 403),
        ({"headers": {"Origin": "null"}}, 403),
        ({"headers": {"Origin": "http://localhost:8000"}}, 200),
        ({"headers": {"Origin": "http://127.0.0.1:3000"}}, 200),
        ({"host": "[::1]:8000", "client": "::1"}, 200),
    ):
        arguments: dict[str, Any] = more
        assert (await service.ask("GET", "/api/builds", **arguments)).status_code == status, more
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        sent = await service.ask("POST", "/api/builds/1/retry", content=b"{}", headers={"Content-Type": content_type})
        assert sent.status_code == 415
    assert (await service.ask("POST", "/api/builds/1/retry")).status_code == 404  # as curl sends it: no body at all


async def test_floods_and_guesses_are_slowed_down(service: Service) -> None:
    """Issue: rate and size limits; one client's flood is nobody else's."""
    _, text = await service.orchestrator.tokens.create("bot", "read")
    clock = service.orchestrator.clock
    assert isinstance(clock, MovedClock)
    statuses = [(await service.ask("GET", "/api/builds", token="guess")).status_code for _ in range(22)]
    assert statuses == [401] * 20 + [429] * 2
    assert (await service.ask("GET", "/api/builds", token=text)).status_code == 429
    assert (await service.ask("GET", "/api/builds", token=text, client="10.0.0.2")).status_code == 200
    clock.advance(3)
    assert (await service.ask("GET", "/api/builds", token=text)).status_code == 200

    buckets = guard.Buckets(clock, 10, 2)
    assert [buckets.wait_s("a"), buckets.wait_s("a"), buckets.wait_s("a")] == [0, 0, pytest.approx(0.1)]
    clock.advance(0.1)
    assert (buckets.wait_s("a"), buckets.wait_s("b")) == (0, 0)


async def test_a_body_is_bounded_before_anything_reads_it(service: Service) -> None:
    """Issue: size limits, with and without a length that says so."""
    big = b"x" * (guard.MAX_BODY + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * 1_000_000

    for content in (big, pieces()):
        answer = await service.ask(
            "POST", "/api/pipelines", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


async def test_mistakes_are_one_sentence_that_names_the_argument(service: Service) -> None:
    """Ours. The same shape from the framework, from us and from routes that are not there."""
    for method, path, body, status, said in (
        ("GET", "/api/builds?limit=0", None, 422, "limit: "),
        ("GET", "/api/builds?status=done", None, 422, "status: "),
        ("GET", "/api/builds/x", None, 422, "build: 'x' is neither"),
        ("GET", "/api/nothing", None, 404, "there is nothing at this address: /api/docs"),
        ("DELETE", "/api/builds", None, 405, "Method Not Allowed"),
        ("POST", "/api/projects/p/build", {"flush": True}, 422, "flush: "),
        ("POST", "/api/projects/p/builds", {}, 422, "prompt: "),
        ("POST", "/api/projects/p/builds", {"prompt": "x", "expect": "y"}, 422, "expect: Input should be a valid list"),
        ("POST", "/api/projects/p/builds", {"prompt": " "}, 404, "project 'p' is not known"),
    ):
        answer = await service.ask(method, path, json=body)
        assert answer.status_code == status, answer.text
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status and problem["detail"].startswith(said), problem
        assert problem["type"].startswith("urn:build-orchestrator:")
    for path, methods in (("/api/projects", "GET, POST"), ("/api/projects/p", "DELETE, GET"), ("/api/builds", "GET")):
        assert (await service.ask("OPTIONS", path)).headers["allow"] == methods
