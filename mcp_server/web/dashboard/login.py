"""Logging in by the page: a token once, then a cookie that no script can read."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.web.context import Service, who_of
from mcp_server.web.live import feed_of
from mcp_server.web.problems import problem
from mcp_server.web.sessions import COOKIE, KEPT_S, LOGIN, LOGOUT, cookie_of, own_page

if TYPE_CHECKING:
    from mcp_server.web.sessions import Sessions

router = APIRouter(tags=["the page"])


class Login(BaseModel):
    """A token's text."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"token": "bo_0123456789ab_…"}]})

    token: Annotated[str, Field(min_length=1, max_length=500)]


class Session(BaseModel):
    """Whoever asks: the name of his token, or `local`; what it may do; whether it came by logging in.

    `last_event`: events from now on are those after it, wherever they are asked for.
    """

    name: str
    scope: str
    login: bool
    last_event: int


@router.post(LOGIN)
async def log_in(service: Service, request: Request, ask: Login) -> Response:
    """Exchange a token for a session's cookie (HttpOnly, SameSite=Strict). For the service's own page only."""
    if not own_page(request.headers):
        return problem(403, "logging in is for this service's own page: programs send Authorization: Bearer TOKEN")
    token = await service.tokens.of(ask.token)
    if token is None:
        cast("Callable[[], float]", request.state.wrong_token)()
        return problem(401, "the token is wrong or expired")
    session = _sessions(request).open(ask.token)
    answer = JSONResponse({"name": token.name, "scope": token.scope, "login": True})
    answer.set_cookie(
        COOKIE, session, max_age=KEPT_S, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return answer


@router.post(LOGOUT)
async def log_out(request: Request) -> Response:
    """End the session of the cookie that comes along."""
    if not own_page(request.headers):
        return problem(403, "logging out is for this service's own page")
    _sessions(request).close(cookie_of(request.headers.get("cookie", ""), COOKIE))
    answer = JSONResponse({})
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


@router.get("/api/session")
async def get_session(request: Request) -> Session:
    """Who asks, and what he may do."""
    who = who_of(request)
    return Session(name=who.name, scope=who.scope, login=who.by_cookie, last_event=feed_of(request).last)


def _sessions(request: Request) -> "Sessions":
    return cast("Sessions", request.app.state.sessions)
