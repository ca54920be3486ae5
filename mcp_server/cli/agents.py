"""`agents`: which code agents there are."""

from typing import TYPE_CHECKING

from mcp_server.cli.options import Json
from mcp_server.cli.session import with_orchestrator

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


def agents(json: Json = False) -> int:
    """Show the code agents, which can be used, and what the others lack.

    The default is `agents.default` of config.yaml, else the first that can be used. Exits 0 if one can be used, 1 if
    none can.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server import record  # noqa: PLC0415
        from mcp_server.cli import agent_table, screen  # noqa: PLC0415  # rich, once there is something to show

        views = await orchestrator.workflows.agents()
        if json:
            screen.print_json([record.of_agent(view) for view in views])
        else:
            out = screen.out()
            out.say(*agent_table.agent_lines(views, out.width if out.console.is_terminal else None))
        return 0 if any(view.availability.available for view in views) else 1

    return with_orchestrator(work)
