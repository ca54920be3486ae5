"""`doctor`: what is here, what is missing, and the command that mends it."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.cli.session import with_orchestrator

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

Host = Annotated[str | None, typer.Option("--host", metavar="NAME", help="Instead, look at this server.")]
Project = Annotated[str | None, typer.Option("--project", metavar="DIR", help="Also look at this project.")]


Port = Annotated[str | None, typer.Option("--port", "-p", metavar="PORT", help="Also ask the board there: resets it.")]


def doctor(project: Project = None, host: Host = None, port: Port = None, json: Json = False) -> int:
    """Show what is here, what is missing, and the command that mends it.

    Exits 0 if an ESP-IDF build could start here, 1 if something it needs is missing (builds on servers are not
    affected by that), or the host or port that is named. With --host, that host's serial ports and boards instead;
    hosts NAME shows the rest of it.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import checks  # noqa: PLC0415  # rich, once there is something to show

        found = await orchestrator.doctor(project, port=port, host=host or "local")
        if orchestrator.config.schedules and host is None:
            found = [*found, *await orchestrator.schedules.checks()]
        return checks.show(found, json=json)

    return with_orchestrator(work)
