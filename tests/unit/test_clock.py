"""The clock's own rules."""

import asyncio

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
