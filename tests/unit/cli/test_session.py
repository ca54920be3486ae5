"""One command's time with the orchestrator."""

import asyncio.unix_events
import inspect
import logging
import sys
from pathlib import Path

import pytest

from mcp_server.cli.session import with_orchestrator
from mcp_server.orchestrator import Orchestrator


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio waits for a child by its descriptor there")
def test_a_child_that_ends_as_its_reader_leaves_is_no_line_on_stderr(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours. `logs BUILD -f | head` said now and then that it did not know a process."""
    said = "Unknown child process pid %d, will report returncode 255"
    assert said in inspect.getsource(asyncio.unix_events)

    async def leaves(orchestrator: Orchestrator) -> int:
        asyncio_says = logging.getLogger("asyncio")
        asyncio_says.warning(said, 1)
        asyncio_says.warning("something else")
        return 0

    assert with_orchestrator(leaves) == 0
    assert [record.getMessage() for record in caplog.records] == ["something else"]
