"""Clients of /ws that behave badly: that say too much, and that take nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_server.store import events
from mcp_server.web import live
from tests.support.web_service import Service, web_service

pytestmark = pytest.mark.timeout(60)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def service(home: Path) -> AsyncIterator[Service]:
    async with web_service() as service:
        yield service


class Client:
    """One end of a socket at /ws, without a network: what the server does is in its hands."""

    def __init__(self, service: Service) -> None:
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.got: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.blocked = asyncio.Event()
        self.more = asyncio.Event()
        self.said.put_nowait({"type": "websocket.connect"})
        headers = [(b"host", b"localhost")]
        scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": headers, "subprotocols": []}
        whole = {**scope, "client": ("127.0.0.1", 5), "scheme": "ws", "root_path": "", "asgi": {"version": "3.0"}}
        self.served = asyncio.ensure_future(service.app(whole, self.said.get, self._send))

    async def _send(self, message: Any) -> None:
        if not self.takes.is_set():
            self.blocked.set()
        await self.takes.wait()  # as a full buffer of the network holds a server up
        self.got.append(message)
        self.more.set()

    async def until(self, kind: str) -> dict[str, Any]:
        """The first message of this type."""
        async with asyncio.timeout(25):  # seconds that a busy machine may take; nothing here waits for time to pass
            while True:
                self.more.clear()
                for message in self.got:
                    if message["type"] == kind:
                        return message
                await self.more.wait()


async def tell(service: Service, count: int) -> None:
    """Some events."""
    store = await service.orchestrator.store()
    await store.write(lambda c: [events.append(c, "host.status", None, NOW, {"n": n}) for n in range(count)] and None)


async def test_a_client_that_says_too_much_is_let_go(service: Service) -> None:
    """Issue: floods. Nothing that a client says matters; a hundred messages are enough."""
    loud, quiet = Client(service), Client(service)
    await loud.until("websocket.accept")
    await quiet.until("websocket.accept")
    for _ in range(live.MOST_SAID + 50):
        loud.said.put_nowait({"type": "websocket.receive", "text": "x" * 1000})

    assert (await loud.until("websocket.close"))["code"] == 1008
    async with asyncio.timeout(5):
        await loud.served
    assert not loud.said.empty()  # the rest was not even looked at
    await tell(service, 1)
    assert json.loads((await quiet.until("websocket.send"))["text"])["type"] == "host.status"
    quiet.said.put_nowait({"type": "websocket.disconnect", "code": 1000})
    async with asyncio.timeout(5):
        await quiet.served


async def test_a_client_that_takes_nothing_holds_nobody_up_and_is_let_go(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: clients that never read. Others hear of all meanwhile; nothing is kept for it."""
    monkeypatch.setattr(live, "SEND_S", 0.3)
    deaf, reader = Client(service), Client(service)
    await deaf.until("websocket.accept")
    await reader.until("websocket.accept")
    deaf.takes.clear()
    await tell(service, 700)

    async with asyncio.timeout(10):
        while len(reader.got) < 701:
            reader.more.clear()
            await reader.more.wait()
        await deaf.served  # by itself: it never hung up
    assert [message["type"] for message in deaf.got] == ["websocket.accept"]
    reader.said.put_nowait({"type": "websocket.disconnect", "code": 1000})
    async with asyncio.timeout(5):
        await reader.served


async def test_a_hundred_deaf_clients_do_not_keep_the_service_from_its_end(service: Service) -> None:
    """Ours: a stop lets all go at once, whoever reads. One after the other they would take a second each: 100 s."""
    clients = [Client(service) for _ in range(100)]
    await asyncio.gather(*(client.until("websocket.accept") for client in clients))
    for client in clients:
        client.takes.clear()
    await tell(service, 3)
    async with asyncio.timeout(25):
        await asyncio.gather(*(client.blocked.wait() for client in clients))  # all are being written to
    service.routes.state.feed.end()
    async with asyncio.timeout(25):
        await asyncio.gather(*(client.served for client in clients))
