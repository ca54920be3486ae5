"""Hears each commit of a store that machines share: one connection a process, made anew whenever it is lost."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager

import sqlalchemy as sa

from mcp_server.errors import StoreError
from mcp_server.store.postgres import CHANNEL, conninfo

log = logging.getLogger(__name__)

HEARING_S = 10  # until the first connection is there
QUIET_S = 15  # then it is asked whether the server is still there
ANSWER_S = 5
AGAIN_S, MOST_AGAIN_S = 0.2, 5.0  # after a lost connection, ever more seldom

Heard = Callable[[Collection[str] | None], None]
"""Gets the words of a commit; None: nobody knows what was said meanwhile."""


class Ear:
    """Wakes one waiter at each commit of anybody."""

    def __init__(self, heard: Heard | None = None) -> None:
        self._heard = heard
        self._arrived = asyncio.Event()

    def hear(self, words: Collection[str] | None) -> None:
        """Wake the waiter."""
        self._arrived.set()
        if self._heard is not None:
            self._heard(words)

    async def wait(self) -> None:
        """Return once something was committed since the last wait."""
        await self._arrived.wait()
        self._arrived.clear()


class Listener:
    """Tells all its ears of commits. One event loop's."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._ears: set[Ear] = set()
        self._task: asyncio.Task[None] | None = None
        self._hears = asyncio.Event()

    @asynccontextmanager
    async def watch(self, heard: Heard | None = None) -> AsyncGenerator[Ear]:
        """An ear that hears what is committed from now on. StoreError: the server cannot be listened to."""
        ear = Ear(heard)
        self._ears.add(ear)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._listen())
            try:
                async with asyncio.timeout(HEARING_S):
                    await self._hears.wait()
            except TimeoutError:
                raise StoreError("the database cannot be listened to: what runs goes on, try again") from None
            yield ear
        finally:
            self._ears.discard(ear)

    @property
    def hears(self) -> bool:
        """Whether commits are heard now, as far as is known."""
        return self._hears.is_set()

    async def aclose(self) -> None:
        """Hear nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _listen(self) -> None:
        from psycopg import Error  # noqa: PLC0415 - of an extra

        pause = AGAIN_S
        while True:
            try:
                await self._hear_until_lost()
                pause = AGAIN_S
            except (Error, OSError, TimeoutError) as error:
                if self._hears.is_set():
                    log.warning("commits of others are not heard, asking again: %s", type(error).__name__)
                    pause = AGAIN_S
            self._hears.clear()
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_AGAIN_S)

    async def _hear_until_lost(self) -> None:
        from psycopg import AsyncConnection  # noqa: PLC0415 - of an extra

        async with asyncio.timeout(HEARING_S):
            link = await AsyncConnection.connect(conninfo(self._url), autocommit=True)
        try:
            link.add_notify_handler(lambda notice: self._tell(_words(notice.payload)))  # what comes with an answer
            async with asyncio.timeout(ANSWER_S):
                await link.execute(f"LISTEN {CHANNEL}".encode())
            self._hears.set()
            self._tell(None)  # whatever was said before
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        await _readable(link.fileno())
                except TimeoutError:
                    async with asyncio.timeout(ANSWER_S):
                        await link.execute(b"SELECT 1")
                link.pgconn.consume_input()
                while notice := link.pgconn.notifies():
                    self._tell(_words(notice.extra.decode()))
        finally:
            with contextlib.suppress(Exception):
                await asyncio.shield(link.close())

    def _tell(self, words: Collection[str] | None) -> None:
        for ear in list(self._ears):
            ear.hear(words)


async def _readable(number: int) -> None:
    """Return once something has come in. The driver's own waiting wakes ten times a second."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(number, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(number)


def _words(payload: str) -> Collection[str] | None:
    """What a commit said: () nothing in particular, None more than fits."""
    if not payload:
        return ()
    try:
        said: object = json.loads(payload)
    except ValueError:  # it is not one of ours, or of a later version
        return None
    return [str(word) for word in said] or None if isinstance(said, list) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
