"""Waits for what the worker finds out after a verdict."""

from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView


async def with_sizes(orchestrator: Orchestrator, number: int) -> BuildView:
    """The build once its sizes are on record."""
    async with orchestrator.changes() as changed:
        while True:
            view = await orchestrator.get(number)
            verdict = view.stages[0].verdict
            if verdict is not None and "sizes" in verdict.details:
                return view
            await changed.wait()
