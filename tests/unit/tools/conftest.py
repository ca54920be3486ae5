"""The server in memory, in front of a fake orchestrator, spoken to by the SDK's client in both protocol eras."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx
from mcp import Client

from mcp_server.server import Server, make_server
from tests.unit.tools.fake import Fake


@pytest.fixture(autouse=True)
def never_blocked() -> Iterator[BlockBuster]:
    """A call that blocks the event loop fails its test: one slow call must not hold up the others."""
    with blockbuster_ctx("mcp_server") as guard:
        yield guard


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def server(fake: Fake) -> Server:
    return make_server(fake.open)


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """`auto` speaks 2026-07-28, `legacy` the handshake of 2025-11-25."""
    return request.param


@pytest_asyncio.fixture
async def client(server: Server, mode: str) -> AsyncIterator[Client]:
    """Opened and closed in one task, as its cancel scopes demand; a fixture's two halves run in two."""
    ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold() -> None:
        async with Client(server, mode=mode) as client:
            ready.set_result(client)
            await done.wait()

    holding = asyncio.create_task(hold())
    await asyncio.wait({holding, ready}, return_when=asyncio.FIRST_COMPLETED)
    yield ready.result()
    done.set()
    await holding
