"""`demo`: the whole loop, with nothing installed but a C compiler."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.cli.session import with_orchestrator

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

Folder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="Where the firmware goes; by default HOME/projects/demo."),
]


Agent = Annotated[
    str | None,
    typer.Option("--agent", metavar="AGENT", help="Let this code agent mend it, not the diff that comes along."),
]


def demo(folder: Folder = None, agent: Agent = None, json: Json = False) -> int:
    """Show the whole loop, with nothing installed: build, fail, mend, verify.

    A small firmware with a planted mistake goes through the whole workflow: compiled by this machine's C compiler,
    mended in a copy by a diff that comes with it, built again, run, and flashed to a virtual board meanwhile. Where
    there is no ESP-IDF, a simulated one is used, and every simulated part says so. Exits 0 only if all of that was
    recorded to have happened, 2 if the compiler, ninja or the agent is missing.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli.loop import show_loop  # noqa: PLC0415  # rich and the model, which --help does without

        return await show_loop(orchestrator, folder, agent=agent, json=json)

    return with_orchestrator(work)
