"""Schemathesis against a running service, by the service's own description; schemathesis.toml says what it is told."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.support.workers import end_everything

SUITE = os.environ.get("BO_TEST_SCHEMATHESIS", "")
SECONDS = 18

pytestmark = [
    pytest.mark.skipif(not SUITE, reason="no suite: BO_TEST_SCHEMATHESIS should name the program schemathesis, 4.x"),
    pytest.mark.timeout(90),
]
SETTINGS = Path(__file__).with_name("schemathesis.toml")
PROJECT = """\
pipeline:
  name: lamp
  stages:
    - {name: make, command: "mkdir -p out && echo lamp >out/lamp.txt", artifacts: [out/*]}
    - {name: fail, command: "echo 'main.c:1:2: error: no light'; exit 3", depends_on: [make]}
"""
ENDLESS, SLOW = "/api/events", "/api/agents"  # the second starts each agent's program to ask for its version


async def test_no_request_leads_to_a_500_or_to_an_answer_that_is_not_described(home: Path, tmp_path: Path) -> None:
    """Issue: schemathesis over the spec; examples, edges, random requests, and chains of them."""
    folder = tmp_path / "lamp"
    folder.mkdir()
    (folder / ".build-orchestrator.yaml").write_text(PROJECT)
    command = [sys.executable, "-m", "mcp_server", "serve", "--port", "0"]
    service = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        assert service.stderr is not None
        url = (await service.stderr.readline()).decode().split()[0]
        await curl(url, "/api/projects", f'{{"source": "{folder}"}}')
        await curl(url, "/api/projects/lamp/build", "{}")
        code, said = await run(url, tmp_path)
        service.terminate()
        async with asyncio.timeout(20):
            _, left = await service.communicate()
        assert (service.returncode, left) == (0, b"")
    finally:
        if service.returncode is None:
            service.kill()
            await service.communicate()
        await asyncio.to_thread(end_everything, home)
    assert code == 0, said
    assert "Stateful" in said and " passed" in said, said
    assert not (home / "logs" / "serve.log").exists()


async def curl(url: str, path: str, body: str) -> None:
    """One POST, so that there is something to be found."""
    given = ("-sf", "-X", "POST", "-H", "Content-Type: application/json", "-d", body, url + path)
    asked = await asyncio.create_subprocess_exec("curl", *given, stdout=asyncio.subprocess.DEVNULL)
    assert await asked.wait() == 0


async def run(url: str, folder: Path) -> tuple[int | None, str]:
    """Exit code and output of the suite."""
    given = [SUITE, "--config-file", str(SETTINGS), "run", f"{url}/api/openapi.json", "--no-color", "--warnings", "off"]
    given += ["--exclude-path", ENDLESS, "--exclude-path", SLOW, "--rate-limit", "150/s", "--max-examples", "15"]
    given += ["--max-time", str(SECONDS), "--generation-deterministic"]
    suite = await asyncio.create_subprocess_exec(
        *given, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await suite.communicate()
    return suite.returncode, said.decode()[-6000:]
