"""`doctor`: what is here, what is missing, and the command that mends it."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.cli.session import with_orchestrator

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

Host = Annotated[str | None, typer.Option("--host", metavar="NAME", help="Instead, look at this server.")]
Project = Annotated[str | None, typer.Option("--project", metavar="DIR", help="Also look at this project.")]


def doctor(project: Project = None, host: Host = None, json: Json = False) -> int:
    """Show what is here, what is missing, and the command that mends it.

    Exits 0 if an ESP-IDF build could start here, 1 if something it needs is missing; builds on servers are not
    affected by that. With --host, the same as hosts NAME.
    """
    if host not in (None, "local"):
        from mcp_server.cli import machines  # noqa: PLC0415

        return machines.hosts(host, json=json)

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import checks  # noqa: PLC0415  # rich, once there is something to show

        return checks.show(await orchestrator.doctor(project), json=json)

    return with_orchestrator(work)
