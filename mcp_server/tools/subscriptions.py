"""Who subscribed to a build is told when it changes, until his session or his subscription ends.

One look into the store serves everybody. It is made when a row has changed, and by nobody while nobody listens.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from mcp_server.errors import OrchestratorError
from mcp_server.following import new_events

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

PAUSE_S = 0.25  # at most four a second
PAGE = 500  # events of one look into the store: behind so many more may wait already
MOST = 100  # addresses of one session or stream
ADDRESS = re.compile(r"build://(?P<build>[^/?#]{1,64})(?:[/?#].{0,2000})?", re.DOTALL)
READER = "build-orchestrator.reader"

Context = ServerRequestContext[Any, Any]


class News(InMemorySubscriptionBus):
    """What changed, to whoever listens. Follows the store while there is anybody."""

    def __init__(self) -> None:
        super().__init__()
        self._addresses: dict[int, Counter[str]] = {}
        self._following: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def add(self, orchestrator: "Orchestrator", address: str) -> int:
        """Watch what is at an address from now on; the build's number. NotFound, BadInput: it is no build's."""
        fits = ADDRESS.fullmatch(address)
        if fits is None:
            raise MCPError(INVALID_PARAMS, "only builds tell when they change: build://{id} and what is below it")
        number = (await orchestrator.get(fits["build"])).build.id
        self._addresses.setdefault(number, Counter())[address] += 1
        try:
            if self._following is None:
                self._ready = asyncio.Event()
                self._following = asyncio.create_task(self._follow(orchestrator, self._ready), name="build news")
            await self._ready.wait()
        except BaseException:
            self.drop(number, address)
            raise
        return number

    def drop(self, number: int, address: str) -> None:
        """The reverse of one `add`."""
        counts = self._addresses[number]
        counts[address] -= 1
        if not counts[address]:
            del counts[address]
        if not counts:
            del self._addresses[number]
        if not self._addresses and self._following is not None:
            self._following.cancel()
            self._following = None

    @contextlib.asynccontextmanager
    async def watching(self, orchestrator: "Orchestrator", addresses: Sequence[str]) -> AsyncGenerator[Sequence[str]]:
        """Watch those of the addresses that can be watched."""
        added: list[tuple[int, str]] = []
        try:
            for address in dict.fromkeys(addresses):
                if len(added) < MOST:
                    with contextlib.suppress(OrchestratorError, MCPError):
                        added.append((await self.add(orchestrator, address), address))
            yield [address for _, address in added]
        finally:
            for number, address in added:
                self.drop(number, address)

    async def _follow(self, orchestrator: "Orchestrator", ready: asyncio.Event) -> None:
        async with contextlib.aclosing(new_events(orchestrator)) as batches:
            async for found in batches:
                ready.set()
                for number in {event.build for event in found} & self._addresses.keys():
                    for address in list(self._addresses.get(number or 0, ())):
                        await self.publish(ResourceUpdated(uri=address))
                if 0 < len(found) < PAGE:
                    await orchestrator.clock.sleep(PAUSE_S)


class Listen(ListenHandler):
    """`subscriptions/listen` of 2026-07-28: what it acknowledges is watched while its stream is open."""

    def __init__(self, news: News) -> None:
        super().__init__(news)
        self._news = news

    async def __call__(self, ctx: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Serve one stream."""
        asked = params.notifications
        if not asked.resource_subscriptions:
            return await super().__call__(ctx, params)
        async with self._news.watching(await ctx.lifespan_context(), asked.resource_subscriptions) as watched:
            honored = asked.model_copy(update={"resource_subscriptions": list(watched)})
            return await super().__call__(ctx, params.model_copy(update={"notifications": honored}))


class Reader:
    """One session of an earlier protocol: its addresses, and a task that writes to it, so that no other waits."""

    def __init__(self, news: News, session: ServerSession) -> None:
        self._news, self._session = news, session
        self._addresses: dict[str, int] = {}
        self._due: dict[str, None] = {}  # a session that reads slowly is told once of many changes
        self._more = asyncio.Event()
        self._leave = news.subscribe(self._take)
        self._writing = asyncio.create_task(self._write(), name="resource updates")

    def _take(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated) and event.uri in self._addresses:
            self._due[event.uri] = None
            self._more.set()

    async def _write(self) -> None:
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                await self._more.wait()
                self._more.clear()
                while self._due:
                    address = next(iter(self._due))
                    del self._due[address]
                    await self._session.send_resource_updated(address)

    async def add(self, orchestrator: "Orchestrator", address: str) -> None:
        """Tell of it from now on."""
        if address in self._addresses:
            return
        if len(self._addresses) >= MOST:
            raise MCPError(INVALID_PARAMS, f"a session may have {MOST} subscriptions")
        number = await self._news.add(orchestrator, address)
        if address in self._addresses or self._writing.done():  # asked for twice at once; the session is gone
            self._news.drop(number, address)
        else:
            self._addresses[address] = number

    def drop(self, address: str) -> None:
        """Tell of it no more."""
        self._due.pop(address, None)
        if (number := self._addresses.pop(address, None)) is not None:
            self._news.drop(number, address)

    async def aclose(self) -> None:
        """The session is over."""
        self._leave()
        for address in list(self._addresses):
            self.drop(address)
        self._writing.cancel()
        await asyncio.wait({self._writing})


class Subscriptions:
    """`resources/subscribe` and `resources/unsubscribe`, up to 2025-11-25."""

    def __init__(self, news: News) -> None:
        self._news = news

    async def subscribe(self, ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Tell this session of a build until it unsubscribes or ends."""
        connection = ctx.session._connection  # pyright: ignore[reportPrivateUsage]  # the one way to a session's end
        orchestrator = await ctx.lifespan_context()
        reader: Reader | None = connection.state.get(READER)
        if reader is None:
            reader = connection.state[READER] = Reader(self._news, ctx.session)
            connection.exit_stack.push_async_callback(reader.aclose)
        try:
            await reader.add(orchestrator, params.uri)
        except OrchestratorError as error:
            raise MCPError(INVALID_PARAMS, str(error), data={"uri": params.uri}) from error
        return EmptyResult()

    async def unsubscribe(self, ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell it no more."""
        connection = ctx.session._connection  # pyright: ignore[reportPrivateUsage]
        reader: Reader | None = connection.state.get(READER)
        if reader is not None:
            reader.drop(params.uri)
        return EmptyResult()
