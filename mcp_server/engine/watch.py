"""A running job's log, fed to its observer from the first byte to the last, whatever the link does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from mcp_server.clock import Clock
from mcp_server.engine.stages.base import Impatient, Observer
from mcp_server.hosts.base import Exit, Host, JobId
from mcp_server.hosts.gap import is_hole
from mcp_server.model import Progress

PROGRESS_S = 0.25  # at most four a second go out
QUIET_S = 0.15  # a job that ends sooner is read at its end: no follower is started for it
GRACE_S = 1  # between TERM and KILL; a cancel has two seconds to the last child
PIECE_BYTES = 32_768  # read at a time: the observer works in the event loop

Tell = Callable[[Progress], Awaitable[None]]


class Watch:
    """Watches one job. `end` may be called again after HostUnreachable: it goes on where it was."""

    def __init__(self, host: Host, job_id: JobId, observer: Observer, clock: Clock, *, live: bool, tell: Tell) -> None:
        self._host, self._job_id, self._observer, self._clock = host, job_id, observer, clock
        self._live, self._tell = live, tell
        self._impatient = observer if isinstance(observer, Impatient) else None
        self._offset = 0
        self._told: Progress | None = None

    async def end(self) -> Exit:
        """The exit record, when the observer has seen the whole log or has decided."""
        waiting = asyncio.ensure_future(self._host.wait(self._job_id))
        following: asyncio.Task[None] | None = None
        try:
            if not self._live:
                await asyncio.wait({waiting}, timeout=QUIET_S)
            if not waiting.done():
                following = asyncio.create_task(self._follow())
                await asyncio.wait({waiting, following}, return_when=asyncio.FIRST_COMPLETED)
                if following.done() and self._observer.decided:
                    await self._host.kill(self._job_id, GRACE_S)
            end = await waiting
            if following is not None:
                await following
        finally:
            tasks = {task for task in (waiting, following) if task is not None}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._rest(end)
        return end

    async def _follow(self) -> None:
        """Feed the log while it grows; progress is told at most four times a second."""
        told_at, due = 0.0, None
        try:
            async for piece in self._pieces():
                self._feed(piece)
                if self._observer.decided:
                    break
                if due is None or due.done():
                    pause = max(0.0, told_at + PROGRESS_S - self._clock.monotonic())
                    due = asyncio.create_task(self._progress(pause))
                    told_at = self._clock.monotonic() + pause
        finally:
            if due is not None and not due.done():
                due.cancel()
                await asyncio.wait({due})

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The log as it grows, until there is no more of it or the observer has waited long enough for more."""
        pieces = self._host.follow(self._job_id, self._offset)
        while True:
            limit_s = self._impatient.patience_s if self._impatient else None
            if self._impatient is None or limit_s is None:
                piece = await anext(pieces, None)
            else:
                try:
                    piece = await self._clock.within(limit_s, anext(pieces, None))
                except TimeoutError:
                    # The link may have been silent, not the job: nobody ends a job for that.
                    piece = await self._host.read_log(self._job_id, self._offset, PIECE_BYTES)
                    pieces = self._host.follow(self._job_id, self._offset + len(piece))
                    if not piece:
                        self._impatient.give_up()
                        return
            if piece is None:
                return
            yield piece

    async def _progress(self, pause_s: float) -> None:
        await self._clock.sleep(pause_s)
        progress = self._observer.progress
        if progress is not None and progress != self._told:
            self._told = progress
            await self._tell(progress)

    async def _rest(self, end: Exit) -> None:
        while not self._observer.decided and (end.log_size is None or self._offset < end.log_size):
            piece = await self._host.read_log(self._job_id, self._offset, PIECE_BYTES)
            if not piece:
                break
            self._feed(piece)
            await asyncio.sleep(0)

    def _feed(self, piece: bytes) -> None:
        self._offset += len(piece)
        if not is_hole(piece):
            self._observer.feed(piece)
