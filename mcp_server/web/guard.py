"""Who comes in: token, Host and Origin, size and rate, before any route sees the request.

With no token configured, only this machine's own users are admitted: a client on loopback whose Host, and Origin where
it sends one, are loopback names, and whose body is JSON, which no other site's page can send unasked.
"""

import asyncio
import dataclasses
import functools
import ipaddress
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from mcp_server.clock import Clock
from mcp_server.file_links import PLACE
from mcp_server.scopes import CALLER, Caller, Scope
from mcp_server.tokens import Tokens
from mcp_server.web.dashboard.files import FILES
from mcp_server.web.problems import problem, takes_answer
from mcp_server.web.sessions import COOKIE, LOGIN, LOGOUT, Sessions, cookie_of, own_page

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PUBLIC = frozenset({"/healthz", "/api/docs", "/api/openapi.json", LOGIN, LOGOUT, *FILES})
"""What says nothing of this home, and what asks by itself."""

MCP = "/mcp"

SIGNED = "/webhooks/"
"""Whoever comes there proves himself by a signature of the body."""

MAX_BODY = 8 * 1024 * 1024
MAX_SIGNED_BODY = 25 * 1024 * 1024  # GitHub sends no larger ones
BODY_S = 30  # for a whole body; a trickle holds nobody's place
RATE, BURST = 200.0, 400.0  # requests a second of one client
WRONG_RATE, WRONG_BURST = 0.5, 20.0  # wrong tokens of one address
MOST_CLIENTS = 10_000  # remembered
READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Buckets:
    """Token buckets by client; the least recently seen are forgotten."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._clock, self._rate, self._burst = clock, rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, *, take: bool = True) -> float:
        """Seconds until one could be had; 0 where it can be now, and then it is taken, unless not `take`."""
        now = self._clock.monotonic()
        left, then = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        wait = max(0.0, (1 - left) / self._rate)
        self._left[client] = (left - 1 if take and not wait else left, now)
        while len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        return wait


class Guard:
    """ASGI middleware around the whole service; who asks is in the request's state as `who`, and in CALLER."""

    def __init__(self, app: App, tokens: Tokens, clock: Clock, sessions: Sessions) -> None:
        self._app, self._tokens, self._clock, self._sessions = app, tokens, clock, sessions
        self._rates = Buckets(clock, RATE, BURST)
        self._wrong = Buckets(clock, WRONG_RATE, WRONG_BURST)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        before = CALLER.set(None)
        try:
            await self._guarded(scope, receive, send)
        finally:
            CALLER.reset(before)

    async def _guarded(self, scope: Message, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(scope)
        if refusal is None and scope["type"] == "http":
            limit = MAX_SIGNED_BODY if str(scope["path"]).startswith(SIGNED) else MAX_BODY
            body = await self._body(scope, receive, limit)
            if isinstance(body, bytes):
                await self._app(scope, _replayed(body, receive), send)
                return
            refusal = body
        if refusal is not None:
            await _refuse(scope, receive, send, refusal)
            return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Message) -> Any | None:
        """The answer to whoever may not come in; None for who may."""
        path, headers = str(scope["path"]), _headers(scope)
        client = str((scope.get("client") or ("",))[0])
        if (wait := self._rates.wait_s(client)) > 0:
            return _slow_down(wait)
        if path == LOGIN:
            if (wait := self._wrong.wait_s(client, take=False)) > 0:
                return _slow_down(wait)
            scope.setdefault("state", {})["wrong_token"] = functools.partial(self._wrong.wait_s, client)
        reads = scope["type"] == "http" and scope["method"] in READING
        if path in PUBLIC or path.startswith(SIGNED) or (reads and path.startswith(PLACE)):
            return None
        origin = headers.get("origin")
        who = await self._who(headers, client)
        if origin is not None and not _allowed(origin, headers.get("host", "")):
            return problem(403, f"Origin {origin[:100]!r} is another site's: its pages may not use this service")
        if not isinstance(who, Caller):
            return who
        if who.by_cookie and not reads and not own_page(headers, is_socket=scope["type"] == "websocket"):
            return problem(403, "a session is used by this service's own page only: programs send a token")
        looks = path == MCP or scope["type"] == "websocket" or reads  # each tool asks by itself
        wanted: Scope = "read" if looks else "build"
        if not who.may(wanted):
            return problem(403, f"token {who.name} may {who.scope}: this needs {wanted}")
        if who.name == "local" and (refusal := _not_json(scope, headers)) is not None:
            return refusal
        who = dataclasses.replace(who, at=_address(scope, headers))
        scope.setdefault("state", {})["who"] = who
        CALLER.set(who)
        return None

    async def _who(self, headers: dict[str, str], client: str) -> Any:
        """Who it is, or the answer to whom nobody knows."""
        given = headers.get("authorization", "")
        if not given and (kept := self._sessions.token_text(cookie_of(headers.get("cookie", ""), COOKIE))):
            by_cookie = await self._tokens.of(kept)  # each time: a token that was taken away ends its sessions
            if by_cookie is not None:
                return Caller(by_cookie.name, by_cookie.scope, by_cookie=True)
        if not given and not await self._tokens.any():
            if not is_loopback(client):
                return problem(401, "only this machine's users are admitted while there is no token")
            if not is_loopback(_name_of(headers.get("host", ""))):
                return problem(421, "Host should be localhost or 127.0.0.1 while there is no token")
            return Caller("local", "admin")
        if (wait := self._wrong.wait_s(client, take=False)) > 0:
            return _slow_down(wait)
        kind, _, text = given.partition(" ")
        token = await self._tokens.of(text.strip()) if kind.lower() == "bearer" else None
        if token is None:
            if given:
                self._wrong.wait_s(client)
            return _unknown("the token is wrong or expired" if given else "send Authorization: Bearer TOKEN")
        return Caller(token.name, token.scope)

    async def _body(self, scope: Message, receive: Receive, limit: int) -> Any:
        """The whole body, or the answer to one that is too large or too slow."""
        length = _headers(scope).get("content-length", "0")
        if length.isdecimal() and len(length) < 20 and int(length) > limit:
            return problem(413, f"a body may have {limit:,} bytes, this one has {int(length):,}")
        try:
            return await self._clock.within(BODY_S, _read(receive, limit))
        except TimeoutError:
            return problem(408, f"the body did not come within {BODY_S} s")
        except _TooLargeError:
            return problem(413, f"a body may have {limit:,} bytes")


class _TooLargeError(Exception):
    pass


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)  # it hung up: its route notices
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _TooLargeError
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then whatever else comes."""
    given = asyncio.Event()

    async def again() -> Message:
        if not given.is_set():
            given.set()
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def _refuse(scope: Message, receive: Receive, send: Send, refusal: Any) -> None:
    if scope["type"] == "websocket":
        await receive()  # its `connect`
        if not takes_answer(scope):
            await send({"type": "websocket.close", "code": 1008, "reason": "forbidden"})
            return
    await refusal(scope, receive, send)


def _unknown(said: str) -> Any:
    answer = problem(401, f"{said}; `build-orchestrator tokens create NAME` makes one")
    answer.headers["WWW-Authenticate"] = 'Bearer realm="build-orchestrator"'
    return answer


def _slow_down(wait_s: float) -> Any:
    answer = problem(429, f"too many requests: try again in {wait_s:.0f} s")
    answer.headers["Retry-After"] = str(max(1, round(wait_s)))
    return answer


def _not_json(scope: Message, headers: dict[str, str]) -> Any | None:
    """A page of another site can send forms and text unasked, JSON only where it is allowed to."""
    if scope["type"] == "websocket" or scope["method"] in READING:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if kind == "application/json" or (not kind and not has_body):
        return None
    return problem(415, "Content-Type should be application/json while there is no token")


def _headers(scope: Message) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _address(scope: Message, headers: dict[str, str]) -> str:
    """The service's, as it was asked."""
    host = headers.get("host", "")
    secure = scope.get("scheme") in ("https", "wss")
    return f"{'https' if secure else 'http'}://{host}" if _name_of(host) else ""


def _name_of(host: str) -> str:
    """The name of `name:port`, `[::1]:8000`; "" where it is none."""
    try:
        return "" if set(host) & set("@/?#\\") else urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _allowed(origin: str, host: str) -> bool:
    """Whether a page comes from this service, or both from this machine: a page under development, say."""
    try:
        at = urlsplit(origin)
        name = at.hostname or ""
    except ValueError:
        return False
    if at.scheme not in ("http", "https"):
        return False
    return at.netloc.lower() == host.lower() or (is_loopback(name) and is_loopback(_name_of(host)))


def is_loopback(name: str) -> bool:
    """Whether an address or host name is this machine's own."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
