"""A running job's log, fed to its observer from the first byte to the last, whatever the link does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from mcp_server.clock import Clock
from mcp_server.engine.delayed import Delayed
from mcp_server.engine.stages.base import Impatient, Observer
from mcp_server.errors import HostUnreachable
from mcp_server.hosts.base import Exit, Host, JobId
from mcp_server.hosts.gap import is_hole
from mcp_server.model import Progress

PROGRESS_S = 0.25  # at most four a second go out
QUIET_S = 0.15  # a job that ends sooner is read at its end: no follower is started for it
GRACE_S = 1  # between TERM and KILL; a cancel has two seconds to the last child
AGAIN_S = 1  # before a job is killed on a host that was away
PIECE_BYTES = 32_768  # read at a time: the observer works in the event loop

Tell = Callable[[Progress], Awaitable[None]]


class Watch:
    """Watches one job. `end` may be called again after HostUnreachable: it goes on where it was."""

    def __init__(self, host: Host, job_id: JobId, observer: Observer, clock: Clock, *, live: bool, tell: Tell) -> None:
        self._host, self._job_id, self._observer, self._clock = host, job_id, observer, clock
        self._live, self._tell = live, tell
        self._offset = 0
        self._told: Progress | None = None

    async def end(self) -> Exit:
        """The exit record, when the observer has seen the whole log or has decided."""
        following = Delayed(self._clock, 0 if self._live else QUIET_S, self._follow)
        try:
            end = await self._host.wait(self._job_id)
            await following.finish()
        finally:
            await following.aclose()
        await self._rest(end)
        return end

    async def _follow(self) -> None:
        """Feed the log while it grows; end a job that is decided. Progress is told at most four times a second."""
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
        while self._observer.decided:
            try:
                await self._host.kill(self._job_id, GRACE_S)
                break
            except HostUnreachable:  # where the wait for the job's end does not fail of it, too
                await self._clock.sleep(AGAIN_S)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The log as it grows, until there is no more of it or the observer has waited long enough for more."""
        pieces = self._host.follow(self._job_id, self._offset)
        impatient = self._observer if isinstance(self._observer, Impatient) else None
        while True:
            limit_s = impatient.patience_s if impatient else None
            if impatient is None or limit_s is None:
                piece = await anext(pieces, None)
            else:
                try:
                    piece = await self._clock.within(limit_s, anext(pieces, None))
                except TimeoutError:
                    # The link may have been silent, not the job: nobody ends a job for that.
                    piece = await self._host.read_log(self._job_id, self._offset, PIECE_BYTES)
                    pieces = self._host.follow(self._job_id, self._offset + len(piece))
                    if not piece:
                        impatient.give_up()
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
