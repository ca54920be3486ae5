"""What many ask for at once, done once: a hundred builds that begin together need not each start Git."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Together(Generic[K, T]):
    """`work(key)` for all who ask while the last one for that key runs: nobody gets what was begun before they asked.

    Between two of one key there are `rest_s` seconds: so many more join. An error of the work is raised for each who
    asked. Who is cancelled leaves the work to the others.
    """

    def __init__(self, work: Callable[[K], Awaitable[T]], rest_s: float = 0) -> None:
        self._work, self._rest_s = work, rest_s
        self._asked: dict[K, list[asyncio.Future[T]]] = {}
        self._busy: dict[K, asyncio.Task[None]] = {}

    async def ask(self, key: K) -> T:
        """The result of a work that begins from now on."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(key, []).append(answer)
        if key not in self._busy:
            self._busy[key] = asyncio.create_task(self._serve(key))
        return await answer

    async def _serve(self, key: K) -> None:
        try:
            while key in self._asked:
                await self._answer(key, self._asked.pop(key))
                if key in self._asked:
                    await asyncio.sleep(self._rest_s)
        finally:
            del self._busy[key]

    async def _answer(self, key: K, asked: list[asyncio.Future[T]]) -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = await self._work(key)
        except Exception as said:
            error = said
        for answer in asked:
            if answer.done():  # who asked was cancelled
                continue
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(cast("T", result))
