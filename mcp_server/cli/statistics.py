"""`stats`: what earlier builds tell."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json
from mcp_server.cli.session import with_orchestrator

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

Project = Annotated[
    str | None, typer.Option("--project", metavar="PROJECT", help="Only of this project: a path, a name or an id.")
]


def stats(project: Project = None, json: Json = False) -> int:
    """Show counts, success rate, durations and why builds fail.

    Of one project, or of the only one there is, also how its last builds differ: duration, sizes, coverage,
    the files that take longest to compile, and the tests that fail most.

    Exits 0, also where there are no builds yet.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import screen, stats_table  # noqa: PLC0415  # rich, once there is something to show

        found, trends = await orchestrator.stats(project), await orchestrator.figures.beside_stats(project)
        if json:
            screen.print_json(stats_table.record(found, trends))
        else:
            out = screen.out()
            wide = out.width if out.console.is_terminal else None
            out.say(*stats_table.lines(found, wide), *stats_table.trend_lines(trends, wide, ascii_only=out.ascii))
        return 0

    return with_orchestrator(work)
