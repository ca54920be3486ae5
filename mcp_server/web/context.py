"""What routes take from a request: the orchestrator, who asks, and what he may do."""

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from mcp_server.errors import Forbidden
from mcp_server.tokens import Scope
from mcp_server.web.guard import Who

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


def orchestrator_of(connection: HTTPConnection) -> "Orchestrator":
    """The service's own."""
    return cast("Orchestrator", connection.app.state.orchestrator)


def who_of(connection: HTTPConnection) -> Who:
    """Whoever the guard let in."""
    return cast("Who", connection.state.who)


def _orchestrator(request: Request) -> object:
    return orchestrator_of(request)


def need(request: HTTPConnection, scope: Scope) -> None:
    """Forbidden: the token may not do what needs `scope`."""
    who = who_of(request)
    if not who.may(scope):
        raise Forbidden(f"token {who.name} may {who.scope}: this needs {scope}")


Service = Annotated["Orchestrator", Depends(_orchestrator)]
