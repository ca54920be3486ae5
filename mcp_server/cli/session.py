"""One command's time with the orchestrator, from opening the home to letting it go."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mcp_server.loading import all_is_loaded

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator


def make_orchestrator() -> "Orchestrator":
    """The orchestrator of this process's home."""
    # Half a second of imports, which no --help and no usage error should wait for.
    from mcp_server.config import load_config  # noqa: PLC0415
    from mcp_server.orchestrator import Orchestrator  # noqa: PLC0415

    return Orchestrator(load_config())


def with_orchestrator(work: "Callable[[Orchestrator], Awaitable[int]]") -> int:
    """Run `work` and return its exit code; whatever happens, the orchestrator lets everything go. Builds run on."""

    async def whole() -> int:
        orchestrator = make_orchestrator()
        try:
            all_is_loaded()
            return await work(orchestrator)
        finally:
            await orchestrator.aclose()

    return asyncio.run(whole())
