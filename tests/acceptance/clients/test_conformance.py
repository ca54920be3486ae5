"""The official MCP conformance suite against a running service; conformance.yml says what fails, and why."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.support.workers import end_everything

SUITE = os.environ.get("BO_TEST_CONFORMANCE", "")
NODE = os.environ.get("BO_TEST_NODE", "node")

pytestmark = [
    pytest.mark.skipif(not SUITE, reason="no suite: BO_TEST_CONFORMANCE and BO_TEST_NODE (from 22 on) should name it"),
    pytest.mark.timeout(60),
]
EXPECTED = Path(__file__).with_name("conformance.yml")


async def test_the_service_speaks_both_protocols_as_their_suite_wants(home: Path, tmp_path: Path) -> None:
    """Issue: the official suite over HTTP. Its schema checks of each message count, too."""
    command = [sys.executable, "-m", "mcp_server", "serve", "--port", "0"]
    service = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        assert service.stderr is not None
        url = f"{(await service.stderr.readline()).decode().split()[0]}/mcp"
        answers = await asyncio.gather(*(run(url, version, tmp_path) for version in ("2025-11-25", "2026-07-28")))
    finally:
        service.kill()
        await service.communicate()
        await asyncio.to_thread(end_everything, home)

    for code, said in answers:
        assert code == 0, said
        assert "✓ tools-list" in said and "✓ dns-rebinding-protection" in said


async def run(url: str, version: str, folder: Path) -> tuple[int | None, str]:
    """Exit code and output of the suite for one version of the protocol."""
    given = ("server", "--url", url, "--spec-version", version, "--expected-failures", str(EXPECTED))
    suite = await asyncio.create_subprocess_exec(
        *(NODE, SUITE, *given), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await suite.communicate()
    return suite.returncode, said.decode()[-4000:]
