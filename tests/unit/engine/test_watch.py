"""A job that becomes silent while its observer waits for a word."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from mcp_server.engine.watch import Watch
from mcp_server.hosts.base import Exit, ExitReason, Host, JobState, JobStatus
from mcp_server.model import Progress
from tests.support.moved_clock import MovedClock

ENDED = Exit(ExitReason.CANCELLED, 143, log_size=0)


class SilentHost:
    """Its job prints what is put into `said`, and ends when it is killed."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes] = asyncio.Queue()
        self.over = asyncio.Event()
        self.followed_from: list[int] = []
        self.late = b""

    async def wait(self, job_id: str) -> Exit:
        await self.over.wait()
        return ENDED

    async def follow(self, job_id: str, offset: int = 0) -> AsyncIterator[bytes]:
        self.followed_from.append(offset)
        while True:
            yield await self.said.get()

    async def read_log(self, job_id: str, offset: int, max_bytes: int = 65_536) -> bytes:
        found, self.late = self.late, b""
        return found

    async def kill(self, job_id: str, grace_s: float = 1) -> JobStatus:
        self.over.set()
        return JobStatus(JobState.ENDED, exit=ENDED)


class Waiting:
    """Waits 15 s after `wait`, without end after anything else."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.patience_s: float | None = None
        self.decided = False
        self.progress: Progress | None = None

    def feed(self, data: bytes) -> None:
        self.patience_s = 15 if data == b"wait" else None
        self.heard.put_nowait(data)

    def give_up(self) -> None:
        self.decided = True


async def tell(progress: Progress) -> None:
    raise AssertionError(progress)


async def settle() -> None:
    """Let the watch come to rest."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("word", [b"wait", b"erasing"])
async def test_a_job_is_ended_when_its_observers_patience_is_over_and_only_then(word: bytes) -> None:
    """Issue. The whole-chip erase may be silent for minutes, a loader that starts may not."""
    host, observer, clock = SilentHost(), Waiting(), MovedClock()
    watch = Watch(cast("Host", host), "a-1-flash-1-1", observer, clock, live=True, tell=tell)
    async with asyncio.timeout(5):
        ending = asyncio.create_task(watch.end())
        for piece in (b"wait", word):  # the second one begins the time anew
            host.said.put_nowait(piece)
            assert await observer.heard.get() == piece
            await settle()
            clock.advance(14)
            await settle()
            assert not host.over.is_set()
        clock.advance(600 if word == b"erasing" else 1)
        await settle()
        assert (observer.decided, host.over.is_set()) == ((False, False) if word == b"erasing" else (True, True))
        host.over.set()
        if word == b"erasing":
            ending.cancel()
        else:
            assert await ending == ENDED
        await asyncio.wait({ending})


async def test_a_silent_link_is_not_taken_for_a_silent_job() -> None:
    """Ours. What the job wrote meanwhile is read before it is ended for its silence."""
    host, observer, clock = SilentHost(), Waiting(), MovedClock()
    watch = Watch(cast("Host", host), "a-1-flash-1-1", observer, clock, live=True, tell=tell)
    async with asyncio.timeout(5):
        ending = asyncio.create_task(watch.end())
        host.said.put_nowait(b"wait")
        await observer.heard.get()
        await settle()
        host.late = b"erasing"
        clock.advance(15)
        assert await observer.heard.get() == b"erasing"
        await settle()
        clock.advance(600)
        await settle()
        assert not host.over.is_set()
        assert host.followed_from == [0, len(b"waiterasing")]
        ending.cancel()
        await asyncio.wait({ending})
