"""Work that is only begun where something else takes a while: who is over before pays no task for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mcp_server.clock import Clock


class Delayed:
    """`work`, begun after `seconds`. `aclose` ends it, `finish` waits for it where it was begun."""

    def __init__(self, clock: Clock, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._timer = clock.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def finish(self) -> None:
        """Begin nothing from now on; what was begun is waited for, and its error is raised here."""
        self._timer.cancel()
        if self._task is not None:
            await self._task

    async def aclose(self) -> None:
        """Return when nothing of it runs any more."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
