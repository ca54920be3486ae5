"""What routes take from a request: the orchestrator, and who asks."""

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from mcp_server.scopes import Caller

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


def orchestrator_of(connection: HTTPConnection) -> "Orchestrator":
    """The service's own."""
    return cast("Orchestrator", connection.app.state.orchestrator)


def who_of(connection: HTTPConnection) -> Caller:
    """Whoever the guard let in."""
    return cast("Caller", connection.state.who)


def trigger_of(request: Request) -> str:
    """What a build says of who has ordered it here: a person by the page, or a program."""
    return "manual" if request.headers.get("x-requested-with") == "build-orchestrator" else "api"


def _orchestrator(request: Request) -> object:
    return orchestrator_of(request)


Service = Annotated["Orchestrator", Depends(_orchestrator)]
