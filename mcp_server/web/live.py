"""Events as they happen: a WebSocket at /ws, server-sent at /api/events; both go on after the last id seen."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, cast

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from mcp_server.clock import Clock
from mcp_server.web.context import orchestrator_of
from mcp_server.web.feed import Feed
from mcp_server.web.shapes import LAST

router = APIRouter(tags=["events"])

SEND_S = 30.0  # a reader that takes nothing for so long is let go; it may come back with `after`
STILL_S = 15.0  # silence that proxies end is broken by a comment
MOST_SAID = 100  # messages of a client to whom nobody listens

After = Annotated[int | None, Query(ge=0, le=LAST, description="The last id seen; without: from now on.")]
Build = Annotated[int | None, Query(ge=1, le=LAST, description="Of this build only.")]


def feed_of(connection: HTTPConnection) -> Feed:
    """The service's own."""
    return cast("Feed", connection.app.state.feed)


@router.websocket("/ws")
async def websocket(socket: WebSocket, build: Build = None, after: After = None) -> None:
    """Each event as one JSON text."""
    await socket.accept()
    clock = orchestrator_of(socket).clock
    # Somebody has to listen: only so a client that has gone is noticed, and the server can stop.
    listening = asyncio.create_task(_listen(socket))
    feed = feed_of(socket)
    sending = asyncio.create_task(_send(socket, feed, clock, build, after))
    ending = asyncio.create_task(feed.ended.wait())
    tasks = {listening, sending, ending}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        code = 1008 if listening.done() and not listening.cancelled() and listening.result() else 1001
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(1):  # who took nothing takes no farewell either
                await socket.close(code)


async def _listen(socket: WebSocket) -> bool:
    """Until it hangs up; True: it says too much."""
    for _ in range(MOST_SAID):
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return False
    return True


async def _send(socket: WebSocket, feed: Feed, clock: Clock, build: int | None, after: int | None) -> None:
    events = feed.after(feed.last if after is None else after, build)
    with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with contextlib.aclosing(events):
            async for told in events:
                await clock.within(SEND_S, socket.send_text(told.text))


@router.get("/api/events", response_class=StreamingResponse)
async def server_sent(
    request: Request,
    build: Build = None,
    after: After = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=LAST)] = None,
) -> StreamingResponse:
    """Server-sent events; a browser that reconnects names the last one it has seen by itself."""
    feed = feed_of(request)
    start = last_event_id if last_event_id is not None else after
    text = _stream(feed, orchestrator_of(request).clock, feed.last if start is None else start, build)
    return StreamingResponse(
        text, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _stream(feed: Feed, clock: Clock, cursor: int, build: int | None) -> AsyncGenerator[str]:
    yield ": build-orchestrator\n\n"
    events = feed.after(cursor, build)
    async with contextlib.aclosing(events):
        coming = asyncio.ensure_future(anext(events))
        try:
            while True:
                try:
                    told = await clock.within(STILL_S, asyncio.shield(coming))
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                except StopAsyncIteration:
                    return
                yield f"id: {told.id}\ndata: {told.text}\n\n"
                coming = asyncio.ensure_future(anext(events))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
