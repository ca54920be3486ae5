"""Connections of clients that nobody knows yet: how many of one address, and how long one may take to ask for anything.

No route and no guard sees a connection before its request's head is whole, so who opens a thousand and says nothing
would keep everybody else out.
"""

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

MOST_CONNECTIONS = 1000
MOST_OF_ONE = 500  # of one address, which may be a proxy's
MOST_PINGS, PINGS_S = 100, 10.0  # of one WebSocket; each is answered, also to who takes nothing
HEAD_S = 20.0  # for a request's head, from the connection's beginning or the head's first byte on


class Impatient(H11Protocol):
    """uvicorn's own, which waits for ever."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        peer = self.client[0] if self.client else None
        if sum(_address(one) == peer for one in self.connections) > MOST_OF_ONE:
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle and not self.cycle.response_complete:  # None before the first; not said by its type
            self._leave()
        elif self._limit is None and self.timeout_keep_alive_task is None:
            self._watch()

    def _watch(self) -> None:
        self._limit = self.loop.call_later(HEAD_S, self._end)

    def _leave(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _end(self) -> None:
        self._limit = None
        if self.transport.get_protocol() is self:  # else it is a WebSocket by now
            self.transport.abort()


def _address(connection: object) -> str | None:
    client: tuple[str, int] | None = getattr(connection, "client", None)
    return client[0] if client else None


class Curt(WebSocketsSansIOProtocol):
    """uvicorn's own, which answers every ping for who takes no answers, and logs a refused handshake as a fault."""

    _pings, _since = 0, 0.0

    async def send(self, message: "ASGISendEvent") -> None:
        """Send it; a handshake that was refused with an answer is complete, and nothing to be logged as an error."""
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answer it; who sends too many is let go."""
        now = self.loop.time()
        if now - self._since > PINGS_S:
            self._pings, self._since = 0, now
        self._pings += 1
        if self._pings > MOST_PINGS:
            self.transport.abort()
            return
        super().handle_ping()
