"""Time, from one place, so that tests can move it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

NOTED = timedelta(seconds=1)  # a clock that is further off is worth a line


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

    def agree(self, theirs: datetime, trip_s: float) -> None:
        """Go by another clock, which was asked `trip_s` ago and said this; one that may agree already stays."""
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
    """The machine's own time, set by the clock of the database where machines share one."""

    def __init__(self) -> None:
        self._behind = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._behind

    def agree(self, theirs: datetime, trip_s: float) -> None:
        off, trip = theirs - datetime.now(UTC) - self._behind, timedelta(seconds=trip_s)
        if timedelta() <= -off <= trip:  # the answer was true at some moment of its way
            return
        self._behind += off + trip / 2
        if abs(off) > NOTED:
            log.warning("the clock of this machine is %+.0f s off the database's, which counts", -off.total_seconds())

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
