"""One command's time with the orchestrator, from opening the home to letting it go."""

import asyncio
import logging
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

    logging.getLogger("asyncio").addFilter(_is_news)
    return asyncio.run(whole())


def _is_news(record: logging.LogRecord) -> bool:
    """Not of a child that ended just as its pipe was closed: before Python 3.12 asyncio looks twice for its end."""
    return not str(record.msg).startswith("Unknown child process")
