"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")


class Call:
    """What is to be called at its time, unless it is cancelled before."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def done(self) -> bool:
        return self._call is None

    def set_result(self, _: None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def cancel(self) -> None:
        self._call = None


class MovedClock:
    """Time passes only in `advance`; who sleeps or waits within a limit goes on when its time has come."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 1, tzinfo=UTC)
        self._passed = 0.0
        self._alarms: list[tuple[float, int, asyncio.Future[None] | Call]] = []  # a heap; of one time the oldest first
        self._number = itertools.count()

    def now(self) -> datetime:
        return self._now + timedelta(seconds=self._passed)

    def agree(self, theirs: datetime, trip_s: float) -> None:
        """It is moved by tests only."""

    def monotonic(self) -> float:
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass and wake those whose time has come."""
        self._passed += seconds
        while (when := self.next_alarm()) is not None and when <= self._passed:
            heapq.heappop(self._alarms)[2].set_result(None)

    def next_alarm(self) -> float | None:
        """When the first of those who wait is to go on; None where nobody waits."""
        while self._alarms and self._alarms[0][2].done():
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def go_back(self, by: timedelta) -> None:
        """The wall clock is set, as by a person or NTP; nothing has passed."""
        self._now -= by

    async def sleep(self, seconds: float) -> None:
        await self._alarm(seconds)

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        task, alarm = asyncio.ensure_future(work), self._alarm(seconds)
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise TimeoutError
        finally:
            alarm.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def call_later(self, seconds: float, call: Callable[[], None]) -> Call:
        coming = Call(call)
        self._add(seconds, coming)
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(coming.set_result, None)
        return coming

    def _alarm(self, seconds: float) -> asyncio.Future[None]:
        alarm = asyncio.get_running_loop().create_future()
        if seconds <= 0:
            alarm.set_result(None)
        self._add(seconds, alarm)
        return alarm

    def _add(self, seconds: float, alarm: asyncio.Future[None] | Call) -> None:
        heapq.heappush(self._alarms, (self._passed + seconds, next(self._number), alarm))
