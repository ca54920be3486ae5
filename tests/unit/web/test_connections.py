"""Connections over a real socket that ask for nothing, and too many of them."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from mcp_server.web import connections
from mcp_server.web.serve import serve

pytestmark = pytest.mark.timeout(30)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put back afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest_asyncio.fixture
async def port(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a service in this process."""
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    monkeypatch.setattr(connections, "MOST_OF_ONE", 3)
    orchestrator, said = Orchestrator(load_config(), environment={}), asyncio.Queue[str]()
    serving = asyncio.create_task(serve(orchestrator, "127.0.0.1", 0, said.put_nowait))
    try:
        async with asyncio.timeout(10):
            yield int((await said.get()).split()[0].rpartition(":")[2])
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
