"""`serve`: the service for a team, its bots and its browser."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.session import with_orchestrator
from mcp_server.errors import EnvironmentMissing

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="The address to listen at; others than this machine's want a token.")
]
Port = Annotated[int, typer.Option(metavar="PORT", min=0, max=65_535, help="0: any free one.")]


def serve(host: Host = "127.0.0.1", port: Port = 8000) -> int:
    """Serve builds to a team, its bots and its browser until Ctrl-C.

    One web app: /api with its docs, /ws, /metrics. Builds run in the worker and outlive this process.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        try:
            from mcp_server.web.serve import serve as serve_web  # noqa: PLC0415  # only here, and half a second
        except ModuleNotFoundError as error:
            raise EnvironmentMissing(f"serve needs {error.name}: pip install 'build-orchestrator[server]'") from None
        from mcp_server.cli import screen  # noqa: PLC0415

        return await serve_web(orchestrator, host, port, screen.err().say)

    return with_orchestrator(work)
