"""Every error as RFC 9457 problem+json: one sentence in `detail`, the same as on the other fronts."""

import errno
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mcp_server.errors import (
    BadInput,
    ConfigError,
    Conflict,
    EnvironmentMissing,
    Forbidden,
    HostError,
    HostFull,
    NotAgreed,
    NotFound,
    OrchestratorError,
    PipelineError,
    StoreError,
)
from mcp_server.text import one_line

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "bad request",
    401: "no valid token",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "too slow",
    409: "conflict",
    413: "too large",
    415: "not JSON",
    416: "no such range",
    421: "wrong host",
    422: "bad input",
    429: "too many requests",
    500: "internal error",
    503: "not now",
    507: "no space",
}
STATUS: Mapping[type[OrchestratorError], int] = {
    BadInput: 422,
    NotFound: 404,
    Conflict: 409,
    Forbidden: 403,
    NotAgreed: 403,
    EnvironmentMissing: 503,
    ConfigError: 503,
    StoreError: 503,
    HostError: 503,
    HostFull: 507,
}
"""By the nearest base class; any other error of ours is 409: the state of things forbids it."""

_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "For programs: urn:build-orchestrator:REASON."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence: what, where, what would be right."},
        "argument": {"type": "string", "description": "Of bad input: what it was that cannot be used."},
    },
}
_CONTENT = {MEDIA_TYPE: {"schema": _SCHEMA}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "It cannot be done as it was asked, or not by this token.", "content": _CONTENT},
    "5XX": {
        "description": "It cannot be done now: the store, a host or a program is not there, the disk is full; "
        "or, as 500, a fault of this service, whose log tells more.",
        "content": _CONTENT,
    },
}
"""What each route may answer beside its own, for the OpenAPI description."""

NO_SUCH_ADDRESS = "there is nothing at this address: /api/docs has those there are"
FULL = (errno.ENOSPC, errno.EDQUOT)
_SENTENCE_CHARS = 1000


def problem(status: int, detail: str, reason: str | None = None, **more: Any) -> JSONResponse:
    """The answer; `reason` is the error's name for programs, kept in `type`."""
    name = reason or TITLES.get(status, "error").replace(" ", "_")
    body = {"type": f"urn:build-orchestrator:{name}", "title": TITLES.get(status, "error"), "status": status}
    return JSONResponse({**body, "detail": detail[:_SENTENCE_CHARS], **more}, status, media_type=MEDIA_TYPE)


def register(app: FastAPI) -> None:
    """Whatever goes wrong in a route becomes a problem; nothing of ours inside is ever shown."""
    app.add_exception_handler(OrchestratorError, _ours)
    app.add_exception_handler(RequestValidationError, _unusable)
    app.add_exception_handler(WebSocketRequestValidationError, _unusable_handshake)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)
    nowhere = app.router.default

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope["type"] == "websocket" and takes_answer(scope)
        await (problem(404, NO_SUCH_ADDRESS) if refused else nowhere)(scope, receive, send)

    app.router.default = default


def takes_answer(scope: Mapping[str, Any]) -> bool:
    """Whether a WebSocket's handshake can be refused with an answer; else a close is all, 403 without a word."""
    return "websocket.http.response" in (scope.get("extensions") or {})


def of_error(error: OrchestratorError) -> JSONResponse:
    """An error of ours with its own fields: `argument` of bad input, `mistakes` of a pipeline, a `question` to ask."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 409)
    more: dict[str, Any] = {}
    if isinstance(error, BadInput):
        more["argument"] = error.argument
    if isinstance(error, PipelineError):
        more["mistakes"] = list(error.mistakes)
    if isinstance(error, NotAgreed):
        more["question"] = error.question
    return problem(status, str(error), error.reason, **more)


def of_fault(error: BaseException) -> JSONResponse:
    """Any error that was not foreseen; what it says is for the log, not for who asks."""
    if isinstance(error, OrchestratorError):
        return of_error(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return problem(507, "the service has no space left on its disk: free some, then ask again")
    return problem(500, "the service could not answer, by a fault of its own: logs/serve.log of its home tells more")


async def _internal(_: Request, error: Exception) -> JSONResponse:
    return of_fault(error)  # and it is raised once more: whoever has the app logs it


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OrchestratorError)
    return of_error(error)


async def _unusable(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _of_mistakes(error.errors())


async def _unusable_handshake(socket: WebSocket, error: Exception) -> None:
    assert isinstance(error, WebSocketRequestValidationError)
    if takes_answer(socket.scope):
        await socket.send_denial_response(_of_mistakes(error.errors()))
    else:
        await socket.close(1008)


def _of_mistakes(errors: Sequence[Mapping[str, Any]]) -> JSONResponse:
    mistakes = [_mistake(one) for one in errors]
    first = mistakes[0] if mistakes else {"argument": "body", "detail": "cannot be used"}
    return problem(422, f"{first['argument']}: {first['detail']}", "bad_input", argument=first["argument"])


def _mistake(one: Mapping[str, Any]) -> dict[str, str]:
    place = [str(part) for part in one.get("loc", ()) if part not in ("body", "query", "path")]
    said = one_line(str(one.get("msg", "")), 300).removeprefix("Value error, ").replace("valid tuple", "valid list")
    return {"argument": ".".join(place)[:100] or "body", "detail": said}


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = NO_SUCH_ADDRESS if error.status_code == 404 and error.detail == "Not Found" else str(error.detail)
    answer = problem(error.status_code, one_line(said, 300))
    answer.headers.update(error.headers or {})
    if error.status_code == 405 and (methods := request.app.state.methods_of(request.url.path)):
        answer.headers["Allow"] = ", ".join(sorted(methods))
    return answer
