"""Who subscribed to a build is told when it changes; in both protocol eras."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from mcp import Client, MCPError
from mcp_types import (
    EmptyResult,
    ResourceUpdatedNotification,
    SubscribeRequest,
    SubscribeRequestParams,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from mcp_server.server import Server
from mcp_server.tools import subscriptions
from tests.unit.tools.fake import Fake, running_view, succeeded_view

LIMIT_S = 5
Next = Callable[[], Awaitable[str]]


@contextlib.asynccontextmanager
async def subscribed(server: Server, mode: str, *addresses: str) -> AsyncGenerator[tuple[Client, Next]]:
    """A client that has subscribed, and what gives the next address it is told of."""
    told: asyncio.Queue[str] = asyncio.Queue()

    async def heard(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.put_nowait(message.params.uri)

    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(server, mode=mode, message_handler=heard))
        if mode == "auto":
            listening = await stack.enter_async_context(client.listen(resource_subscriptions=addresses))
            stream = aiter(listening)

            async def following() -> str:
                return getattr(await anext(stream), "uri", "")

            yield client, following
        else:
            for address in addresses:
                await subscribe(client, address)
            yield client, told.get


async def subscribe(client: Client, address: str) -> None:
    """As clients do up to 2025-11-25."""
    request = SubscribeRequest(params=SubscribeRequestParams(uri=address))
    await client.session.send_request(request, EmptyResult)


async def unsubscribe(client: Client, address: str) -> None:
    """The reverse."""
    request = UnsubscribeRequest(params=UnsubscribeRequestParams(uri=address))
    await client.session.send_request(request, EmptyResult)


async def settled(fake: Fake, watchers: int) -> None:
    """Return once so many look at the store."""
    async with asyncio.timeout(LIMIT_S):
        while fake.watchers != watchers:
            await fake.turned.wait()


async def test_a_build_that_changes_is_told_and_no_other(server: Server, fake: Fake, mode: str) -> None:
    """interfaces: updated-notifications while a build runs, and what is below it; nothing is looked at meanwhile."""
    fake.push(running_view(1, 9))
    fake.happen(42)
    async with asyncio.timeout(LIMIT_S), subscribed(server, mode, "build://42", "build://42/log/build") as (_, heard):
        await asyncio.sleep(subscriptions.PAUSE_S + 0.05)
        looks = fake.looks
        await asyncio.sleep(0.1)
        assert fake.looks == looks  # nothing changed: nobody looks
        fake.happen(7)
        fake.happen(None)
        fake.happen(42)
        assert {await heard(), await heard()} == {"build://42", "build://42/log/build"}


async def test_many_changes_are_four_a_second_and_the_last_is_not_lost(server: Server, fake: Fake, mode: str) -> None:
    """Issue: at most four a second, and at the end."""
    fake.push(running_view(1, 9))
    times: list[float] = []
    async with asyncio.timeout(LIMIT_S), subscribed(server, mode, "build://42") as (_, heard):
        loop = asyncio.get_running_loop()

        async def listen() -> None:
            while True:
                await heard()
                times.append(loop.time())

        listening = asyncio.create_task(listen())
        for _ in range(60):
            fake.happen(42, times=5)
            await asyncio.sleep(0.01)
        fake.push(succeeded_view())
        fake.happen(42)
        ended = loop.time()
        await asyncio.sleep(subscriptions.PAUSE_S * 1.5)
        listening.cancel()
        await asyncio.wait({listening})

    assert times[-1] > ended
    assert 2 <= len(times) <= 6
    assert min(b - a for a, b in itertools.pairwise(times)) > subscriptions.PAUSE_S * 0.7


async def test_the_end_of_a_session_ends_what_it_subscribed_to(server: Server, fake: Fake, mode: str) -> None:
    """Issue: a subscription ends with its session; another's goes on. Nobody listens: nobody follows the store."""
    fake.push(running_view(1, 9))
    async with asyncio.timeout(LIMIT_S):
        async with subscribed(server, mode, "build://42") as (_, heard):
            async with subscribed(server, mode, "build://42"):
                await settled(fake, 1)
            fake.happen(42)
            assert await heard() == "build://42"
            assert fake.watchers == 1
        await settled(fake, 0)


async def test_a_stream_that_is_cancelled_is_no_longer_fed(server: Server, fake: Fake) -> None:
    """Cancellation, 2026-07-28: the client leaves its stream and keeps its connection."""
    fake.push(running_view(1, 9))
    async with asyncio.timeout(LIMIT_S), Client(server) as client:
        async with client.listen(resource_subscriptions=["build://42", "build://7", "host://local"]) as stream:
            assert stream.honored.resource_subscriptions == ["build://42"]
            await settled(fake, 1)
        await settled(fake, 0)
        assert (await client.read_resource("build://42")).contents


async def test_subscribing_and_unsubscribing_by_hand(
    server: Server, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 2025-11-25: announced, twice is once, unknown ones and too many are refused in a sentence."""
    monkeypatch.setattr(subscriptions, "MOST", 1)
    fake.push(running_view(1, 9))
    async with asyncio.timeout(LIMIT_S), Client(server, mode="legacy") as client:
        resources = client.server_capabilities.resources
        assert resources is not None and resources.subscribe
        await unsubscribe(client, "build://42")
        await subscribe(client, "build://42")
        await subscribe(client, "build://42")
        await settled(fake, 1)
        with pytest.raises(MCPError, match="a session may have 1 subscriptions"):
            await subscribe(client, "build://42/log/build")
        await unsubscribe(client, "build://42")
        await settled(fake, 0)
        for address, said in {"build://7": "there is no build 7", "host://local": "only builds tell"}.items():
            with pytest.raises(MCPError, match=said):
                await subscribe(client, address)
        assert fake.watchers == 0
