"""Connections over a real socket that ask for nothing, and too many of them."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import websockets.asyncio.client as websocket
from websockets.exceptions import ConnectionClosed

from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from mcp_server.web import connections
from mcp_server.web import serve as serving_room
from mcp_server.web.serve import serve

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("root_logger")]
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest_asyncio.fixture
async def port(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a service in this process."""
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    monkeypatch.setattr(connections, "MOST_OF_ONE", 3)
    monkeypatch.setattr(serving_room, "STOP_S", 1)
    orchestrator, said = Orchestrator(load_config(), environment={}), asyncio.Queue[str]()
    serving = asyncio.create_task(serve(orchestrator, "127.0.0.1", 0, said.put_nowait), name="serving")
    try:
        async with asyncio.timeout(10):
            yield int((await said.get()).split()[0].rpartition(":")[2])
        if not serving.done():
            signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await serving == 0
    finally:
        serving.cancel()
        await asyncio.wait({serving})
        await orchestrator.aclose()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side lets go, without a word."""
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_who_asks_for_nothing_is_let_go(port: int) -> None:
    """Issue: floods. A head that never begins, one that trickles, and one that follows an answer."""
    silent, slow, second = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    slow[1].write(HEAD)
    second[1].write(HEAD + b"\r\n")
    assert (await second[0].readuntil(b"}")).startswith(b"HTTP/1.1 200")
    second[1].write(HEAD)
    for reader, writer in (silent, slow, second):
        assert await ended(reader)
        writer.close()


async def test_one_address_has_so_many_connections_and_not_all_there_are(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: floods. What it has is served on; one more is refused."""
    monkeypatch.setattr(connections, "HEAD_S", 20.0)
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ended(reader)
    writer.close()
    held[0][1].write(HEAD + b"\r\n")
    assert (await held[0][0].readuntil(b"}")).startswith(b"HTTP/1.1 200")
    for _, writer in held:
        writer.close()


async def test_who_pings_and_takes_nothing_is_let_go(port: int) -> None:
    """Issue: floods. Each ping is answered, so a thousand a second would be kept for who never reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    ping = b"\x89\x84\0\0\0\0ping"
    writer.write(ping)
    assert await reader.readexactly(6) == b"\x8a\x04ping"
    writer.write(ping * (connections.MOST_PINGS + 1))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(6 * (connections.MOST_PINGS + 2))
    writer.close()


async def test_a_handshake_is_refused_with_a_problem_and_logged_as_no_fault(port: int, home: Path) -> None:
    """Ours. uvicorn calls a handshake that was answered one that nobody answered."""
    await (made := Orchestrator(load_config())).tokens.create("bot", "read")
    await made.aclose()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n") and b"application/problem+json" in head
    assert json.loads(body)["title"] == "no valid token" and b"www-authenticate" in head.lower()
    writer.close()
    logged = home / "logs" / "serve.log"
    assert not logged.exists() or "ERROR" not in logged.read_text()


async def test_a_stop_tells_who_waits_and_frees_the_port(
    port: int, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Issue: graceful stop. A stream, a socket, and a request whose body does not come; bounded, each told."""
    monkeypatch.setattr(connections, "HEAD_S", 20.0)
    slow, stream = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    slow[1].write(b"POST /api/pipelines HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    slow[1].write(b'Content-Length: 99\r\n\r\n{"a')
    stream[1].write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await stream[0].readuntil(b": build-orchestrator\n")
    async with asyncio.timeout(15), websocket.connect(f"ws://127.0.0.1:{port}/ws") as reader:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await reader.recv()
        assert reader.close_code in (1001, 1012)
        told = await slow[0].read()
        assert told.startswith(b"HTTP/1.1 503") and b"the service is stopping" in told
        assert (await stream[0].read()).endswith(b"0\r\n\r\n")  # ended, not broken off
    for _, writer in (slow, stream):
        writer.close()
    [serving] = [task for task in asyncio.all_tasks() if task.get_name() == "serving"]
    async with asyncio.timeout(10):
        assert await serving == 0
    socket.create_server(("127.0.0.1", port)).close()
    log = home / "logs" / "serve.log"
    assert not log.exists() or "Traceback" not in log.read_text()
