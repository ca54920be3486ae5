"""The connections to one host: made when needed, one at a time, with at most eight channels each."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import asyncssh

from mcp_server.config import Server
from mcp_server.errors import HostUnreachable
from mcp_server.hosts.ssh_channel import WINDOW, Session, SshChannel
from mcp_server.hosts.ssh_config import Hop, Sources, SshConfigError, way_to
from mcp_server.hosts.ssh_dial import DialError, dial

CHANNELS = 8  # a connection; OpenSSH's MaxSessions is 10, and other programs have sessions, too
BACKOFF_S = (0.5, 1.0)  # between the attempts to dial, so there are three
IDLE_S = 60.0  # then a connection without a channel is closed
ATTEMPTS = 12  # to open a channel; each costs a connection that was lost or is full
OPEN_S = 30.0  # for a channel on a connection that lives; else it is taken for dead


class Link:
    """One connection. `used` counts channels that the server still has, also those that nobody here holds."""

    def __init__(self, idle_s: float) -> None:
        self.connection: asyncssh.SSHClientConnection | None = None
        self.tunnels: list[asyncssh.SSHClientConnection] = []
        self.capacity = CHANNELS
        self.used = 0
        self.closed = False
        self._idle_s = idle_s
        self._idle: asyncio.TimerHandle | None = None

    @property
    def free(self) -> bool:
        return not self.closed and self.used < self.capacity

    def take(self) -> None:
        self.used += 1
        if self._idle:
            self._idle.cancel()
            self._idle = None

    def give_back(self) -> None:
        self.used -= 1
        if not self.used and not self.closed:
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self.close)

    def close(self) -> None:
        """Say goodbye; what still runs on it is cut."""
        self.closed = True
        if self._idle:
            self._idle.cancel()
        for connection in filter(None, [self.connection, *reversed(self.tunnels)]):
            connection.close()

    def abort(self) -> None:
        """Drop it: nobody answers there."""
        self.closed = True
        for connection in filter(None, [self.connection, *reversed(self.tunnels)]):
            connection.abort()

    async def wait_closed(self) -> None:
        for connection in filter(None, [self.connection, *reversed(self.tunnels)]):
            await connection.wait_closed()


class Pool:
    """Opens channels on as many connections as they need."""

    def __init__(
        self,
        name: str,
        server: Server,
        sources: Sources,
        *,
        backoff_s: Sequence[float] = BACKOFF_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._name, self._server, self._sources = name, server, sources
        self._backoff_s, self._idle_s = backoff_s, idle_s
        self.links: list[Link] = []
        self._dialling: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[SshChannel]] = set()
        self._closed = False

    async def run(self, command: str) -> SshChannel:
        """Run `command` on a connection with room; a new one is made where there is none. HostUnreachable."""
        opening = asyncio.create_task(self._run(command))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # or the channel would stay open with nobody to close it
            opening.add_done_callback(_end_unwanted)
            raise

    async def aclose(self) -> None:
        """End every connection, in any state."""
        self._closed = True
        if self._dialling:
            self._dialling.cancel()
        for link in self.links:
            link.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(2):  # a dead link answers no goodbye
                for link in list(self.links):
                    await link.wait_closed()
        for link in self.links:
            link.abort()
        if self._opening or self._dialling:
            await asyncio.wait([*self._opening, *([self._dialling] if self._dialling else [])])

    async def _run(self, command: str) -> SshChannel:
        for _ in range(ATTEMPTS):
            link = await self._reserve()
            try:
                return await self._open(link, command)
            except TimeoutError:
                link.abort()
                raise HostUnreachable(self._name, f"no answer within {OPEN_S:g} s; its connection is dropped") from None
            except (asyncssh.Error, OSError):
                if not link.closed:  # the server takes no more channels on this one (MaxSessions)
                    link.capacity = min(link.capacity, link.used)
                    if not link.capacity:
                        link.close()
                        raise HostUnreachable(self._name, "its SSH server takes the login but no session") from None
        raise HostUnreachable(self._name, "its SSH server ends every connection as soon as it is used")

    async def _open(self, link: Link, command: str) -> SshChannel:
        session: Session | None = None

        def factory() -> Session:
            nonlocal session
            session = Session(link.give_back)
            return session

        try:
            async with asyncio.timeout(OPEN_S):
                channel, _ = await cast(Any, link.connection).create_session(
                    factory, command, encoding=None, window=WINDOW, request_pty=False, x11_forwarding=False
                )
        except BaseException as error:
            if session is None:  # else it gives the place back, when the channel is gone
                link.give_back()
            elif isinstance(error, asyncssh.ChannelOpenError) and not link.closed:
                raise HostUnreachable(self._name, "its SSH server takes the login but runs no command") from None
            raise
        assert session
        return SshChannel(channel, session)

    async def _reserve(self) -> Link:
        """A place on a connection. Between the look and the taking nobody else runs."""
        while True:
            if self._closed:
                raise HostUnreachable(self._name, "closed here; its jobs run on")
            for link in self.links:
                if link.free:
                    link.take()
                    return link
            if self._dialling is None:
                self._dialling = asyncio.create_task(self._dial())
                self._dialling.add_done_callback(self._dialled)
            try:
                await asyncio.shield(self._dialling)  # all who wait share what comes of it
            except asyncio.CancelledError:
                if not self._closed:
                    raise

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dialling = None
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    async def _dial(self) -> None:
        try:
            way = await asyncio.to_thread(way_to, self._server, self._sources)
        except SshConfigError as error:
            raise HostUnreachable(self._name, str(error)) from None
        for pause_s in (*self._backoff_s, None):
            try:
                await self._connect(way)
            except DialError as error:
                if pause_s is None or not error.again:
                    raise HostUnreachable(self._name, str(error)) from None
                await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311
            else:
                return

    async def _connect(self, way: Sequence[Hop]) -> None:
        link = Link(self._idle_s)
        try:
            link.connection = await dial(self._name, way, self._sources, self._forget(link), link.tunnels)
        except BaseException:
            link.close()
            raise
        if link.closed:
            raise DialError("the connection was lost at once", again=True)
        self.links.append(link)

    def _forget(self, link: Link) -> Callable[[], None]:
        def closed() -> None:
            link.close()
            if link in self.links:
                self.links.remove(link)

        return closed


def _end_unwanted(opening: asyncio.Task[SshChannel]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().abandon()
