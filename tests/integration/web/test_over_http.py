"""Over the network: the plugin's tools at /mcp, and the bot of examples/, each against a running service."""

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    EmptyResult,
    ResourceUpdatedNotification,
    SubscribeRequest,
    SubscribeRequestParams,
    TextContent,
)

from mcp_server.config import load_config
from mcp_server.demo.place import lay_out, simulated_installation
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import events
from tests.support.left_files import build_that_left
from tests.support.workers import end_everything

pytestmark = pytest.mark.timeout(90)
ROOT = Path(__file__).parents[3]
TOKEN = "a-token-of-the-environment-0123456789"


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """Where a service with a token listens."""
    environment = {**os.environ, "IDF_PATH": str(simulated_installation()), "BUILD_ORCHESTRATOR_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_server", "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "is open to whoever has a token" in line
        yield line.split()[0]
    finally:
        process.kill()
        process.communicate()
        end_everything(home)


async def made(url: str, name: str, scope: str) -> str:
    """A new token's text."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "mcp_server", "tokens", "create", name, "--scope", scope],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout.strip()


async def called(client: Client, tool: str, **arguments: object) -> tuple[bool, str]:
    """Whether it is an error, and what it says."""
    async with asyncio.timeout(40):
        result = await client.call_tool(tool, arguments)
    block = result.content[0]
    assert isinstance(block, TextContent)
    return bool(result.is_error), block.text


async def news(client: Client, address: str, told: asyncio.Queue[str]) -> str:
    """Subscribe to a build, let another process write an event of it: what the client is told of."""
    orchestrator = Orchestrator(load_config())
    try:
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
            if client.protocol_version >= "2026":
                stream = await stack.enter_async_context(client.listen(resource_subscriptions=[address]))
            else:
                stream = None
                await client.session.send_request(
                    SubscribeRequest(params=SubscribeRequestParams(uri=address)), EmptyResult
                )
            now = orchestrator.clock.now()
            await (await orchestrator.store()).write(lambda c: events.append(c, "build.status", 1, now, {}))
            return await told.get() if stream is None else getattr(await anext(aiter(stream)), "uri", "")
    finally:
        await orchestrator.aclose()


async def a_file_by_its_link(client: Client, url: str, place: Path) -> bytes:
    """What a bot on another machine reads of a build by what the tool tells it, without a token."""
    orchestrator = Orchestrator(load_config())
    try:
        number = await build_that_left(orchestrator, place, {"app.bin": b"firmware"})
    finally:
        await orchestrator.aclose()
    _, text = await called(client, "build_get", build=number, detail="artifacts")
    link = text.splitlines()[-1]
    assert link.startswith(f"{url}/files/{number}/build/app.bin?expires=")
    async with httpx2.AsyncClient() as http:
        return (await http.get(link)).content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tools_are_there_within_what_a_token_may(url: str, home: Path, tmp_path: Path, mode: str) -> None:
    """Issue: the same tools over HTTP, with sessions and without. A project by its name, or below the roots."""
    (home / "config.yaml").write_text(f"security: {{project_roots: ['{tmp_path}']}}\n")
    project = lay_out(tmp_path / "greenhouse")
    token = await made(url, "bot", "build")
    told: asyncio.Queue[str] = asyncio.Queue()

    async def heard(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.put_nowait(message.params.uri)

    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, message_handler=heard) as client,
    ):
        names = {tool.name for tool in (await client.list_tools()).tools}
        failed, built = await called(client, "idf_build", project=str(project))
        by_name = await called(client, "build_list", project=project.name)
        refused = [
            await called(client, "idf_build", project="."),
            await called(client, "idf_build", project="/etc"),
            await called(client, "idf_flash", project=project.name),
            await called(client, "pipeline_run", yaml="pipeline: {}"),
        ]
        told_of = await news(client, "build://1", told)
        linked = await a_file_by_its_link(client, url, tmp_path / "kept")

    assert {"idf_build", "workflow_run", "build_wait"} <= names
    assert failed and built.startswith("build 1 failed in stage build") and "valve_opne" in built
    assert told_of == "build://1"
    assert linked == b"firmware"
    assert by_name[0] is False and "1" in by_name[1]
    assert refused == [
        (True, "project: a service has no folder of its caller's: give a project's id or name"),
        (True, "project: '/etc' is not below security.project_roots: give a project's id or name"),
        (True, "token bot may build: this needs flash"),
        (True, "token bot may build: this needs admin"),
    ]
    async with httpx2.AsyncClient() as http:
        assert (await http.post(f"{url}/mcp", json={})).status_code == 401


@pytest.mark.skipif(importlib.util.find_spec("copier") is None, reason="no copier: the extra [agents] brings it")
def test_the_example_bot_orders_follows_and_has_its_result(url: str, tmp_path: Path) -> None:
    """Issue: a bot script, run. Its agent is a diff, so that no model is needed."""
    diff = tmp_path / "work.diff"
    page = '<html lang="en"><head><title>About</title></head><body><p>About</p></body></html>'
    diff.write_text(f"--- /dev/null\n+++ b/about.html\n@@ -0,0 +1,1 @@\n+{page}\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "bot.py"), url, "An about page", f"patch:{diff}"],
        env={**os.environ, "TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEVELOPER: completed" in done.stdout
    assert '"success": true' in done.stdout and '"commit_sha"' in done.stdout and "about.html" in done.stdout
