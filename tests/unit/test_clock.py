"""The clock's own rules."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mcp_server.clock import SystemClock


@pytest.mark.parametrize("turns", range(3))
async def test_a_cancel_that_meets_the_end_of_the_work_is_not_lost(turns: int) -> None:
    """Ours. A lost cancel let a wait that nobody wanted any more run to its time limit."""
    done = asyncio.Event()
    waiting = asyncio.create_task(SystemClock().within(30, done.wait()))
    await asyncio.sleep(0)
    done.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    over = waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})

    assert over or waiting.cancelled()


async def test_work_that_takes_too_long_is_ended_before_the_timeout_is_told() -> None:
    """Ours. Nothing may run on behind the back of who waited."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await SystemClock().within(0.01, work())
    assert ended.is_set()


@pytest.mark.parametrize("ahead_s", [3600, -3600, 0.5])
def test_a_clock_that_cannot_be_right_goes_by_the_one_that_all_share(ahead_s: float) -> None:
    """Issue: clock apart by an hour."""
    clock = SystemClock()
    clock.agree(datetime.now(UTC) + timedelta(seconds=ahead_s), 0.1)

    assert ahead_s - 0.2 < (clock.now() - datetime.now(UTC)).total_seconds() < ahead_s + 0.2


def test_a_clock_that_may_be_right_is_left_alone_by_a_slow_answer() -> None:
    """Ours. What an answer took on its way is no news of the time."""
    clock = SystemClock()
    clock.agree(datetime.now(UTC) - timedelta(seconds=2), 3)

    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
