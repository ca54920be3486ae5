"""Work of seconds that anybody may ask for who may look: a few at a time, so that the rest of the service goes on."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from starlette.exceptions import HTTPException
from starlette.requests import Request

from mcp_server.clock import Clock

AT_ONCE = 4  # searches of logs, each a process; files whose content is compared, each a thread
WAIT_S = 20.0


class Heavy:
    """The turns of one service."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = asyncio.Semaphore(AT_ONCE)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a turn, then have it. 503: there was none for a while."""
        try:
            await self._clock.within(WAIT_S, self._free.acquire())
        except TimeoutError:
            raise HTTPException(503, "too much is searched and read at once: try again", {"Retry-After": "5"}) from None
        try:
            yield
        finally:
            self._free.release()


def heavy_of(request: Request) -> Heavy:
    """The service's own."""
    heavy = request.app.state.heavy
    assert isinstance(heavy, Heavy)
    return heavy
