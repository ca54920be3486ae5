"""A board behind RFC 2217, as a terminal server has one: its reset lines are there and are recorded."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from serial import rfc2217


class _Lines:
    """What the server side of the protocol takes for its serial port."""

    cts = dsr = ri = cd = False
    xonxoff = rtscts = break_condition = False
    bytesize, parity, stopbits = 8, "N", 1

    def __init__(self) -> None:
        self.states: list[tuple[bool, bool]] = []
        self.baudrate = 115_200
        self._dtr = self._rts = False

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, value: bool) -> None:
        self._dtr = value
        self.states.append((self._dtr, self._rts))

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, value: bool) -> None:
        self._rts = value
        self.states.append((self._dtr, self._rts))

    def reset_input_buffer(self) -> None: ...

    def reset_output_buffer(self) -> None: ...


class Rfc2217Board:
    """`states` are those of (DTR, RTS) so far. (False, True) holds the chip in reset."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self.url = ""
        self.heard = bytearray()
        self._writers: list[asyncio.StreamWriter] = []
        self._manager: Any = None

    @property
    def states(self) -> list[tuple[bool, bool]]:
        return self._lines.states

    @property
    def baud(self) -> int:
        return self._lines.baudrate

    def say(self, data: bytes) -> None:
        self._writers[-1].write(b"".join(self._manager.escape(data)))

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator["Rfc2217Board"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"rfc2217://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.hang_up()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        lines, connection = cast("Any", self._lines), cast("Any", writer)  # it asks for no more than these have
        self._manager = rfc2217.PortManager(lines, connection)
        try:
            while data := await reader.read(4096):
                self.heard += b"".join(self._manager.filter(data))
        except ConnectionError:
            pass
        writer.close()
