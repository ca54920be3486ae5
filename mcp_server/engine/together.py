"""What many ask for at once, done once: a hundred builds that begin together need not each start Git."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Together(Generic[K, T]):
    """`work(key)` for all who ask while the last one for that key runs: nobody gets what was begun before they asked.

    Between two of one key there are `rest_s` seconds: so many more join. An error of the work is raised for each who
    asked. Who is cancelled leaves the work to the others.
    """

    def __init__(self, work: Callable[[K], Awaitable[T]], rest_s: float = 0) -> None:
        self._work, self._rest_s = work, rest_s
        self._coming: dict[K, asyncio.Task[T]] = {}
        self._running: dict[K, asyncio.Task[T]] = {}

    async def ask(self, key: K) -> T:
        """The result of a work that begins from now on."""
        if key not in self._coming:
            self._coming[key] = asyncio.create_task(self._run(key, self._running.get(key)))
        return await asyncio.shield(self._coming[key])

    async def _run(self, key: K, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait({before})
            await asyncio.sleep(self._rest_s)
        mine = self._running[key] = self._coming.pop(key)
        try:
            return await self._work(key)
        finally:
            if self._running[key] is mine:
                del self._running[key]
