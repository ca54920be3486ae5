"""Time, from one place, so that tests can move it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Nothing is called any more; a call that was made stays."""
        ...


class Clock(Protocol):
    """Wall time for records, monotonic time for durations, and the only way to wait for time to pass."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; 0 yields to other tasks once."""
        ...

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Have `call` called by the event loop after `seconds`."""
        ...

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """The result of `work`, or TimeoutError after `seconds`; `work` is then cancelled and has ended."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call)

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        # Not wait_for: before Python 3.12 it loses a cancel that comes in the moment the work is done.
        async with asyncio.timeout(seconds):
            return await work
