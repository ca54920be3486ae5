"""A TCP port on 127.0.0.1 as the chip's port: plain bytes (`socket://`), or RFC 2217 with speed and lines (`rfc2217://`).

One client at a time; another one is hung up on, as a serial port that is busy refuses.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from mcp_server.demo.chip.uart import Uart

if TYPE_CHECKING:
    from serial.rfc2217 import PortManager, Serial

_IAC = b"\xff"
_LEAVES_S = 0.1


class Lines(Protocol):
    def __call__(self, *, rts: bool, dtr: bool) -> None: ...


class SerialSide:
    """What pyserial's PortManager takes for a serial port: it sets speed and lines and asks for the modem's state."""

    def __init__(self, lines: Lines, discard: Callable[[], None]) -> None:
        self._lines, self._discard = lines, discard
        self._rts = self._dtr = False
        self.baudrate = 115200
        self.bytesize, self.parity, self.stopbits = 8, "N", 1
        self.xonxoff = self.rtscts = self.break_condition = False
        self.cts = self.dsr = self.cd = True
        self.ri = False

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, on: bool) -> None:
        self._rts = on
        self._lines(rts=self._rts, dtr=self._dtr)

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, on: bool) -> None:
        self._dtr = on
        self._lines(rts=self._rts, dtr=self._dtr)

    def reset_input_buffer(self) -> None:
        """The client wants nothing of what was sent before."""
        self._discard()

    def reset_output_buffer(self) -> None:
        """Nothing is ever kept in this direction."""


class TcpPort:
    """`opened` and `closed` are called for each client. `lines` None: plain bytes."""

    def __init__(self, uart: Uart, opened: Callable[[], None], closed: Callable[[], None], lines: Lines | None) -> None:
        self.uart, self.opened, self.closed, self.lines = uart, opened, closed, lines
        self.client: Client | None = None
        self.path = ""
        self._server: asyncio.Server | None = None

    async def listen(self, port: int) -> None:
        """On 127.0.0.1; 0 for any free port. OSError where it is taken. `path` is the URL then."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Client(self), "127.0.0.1", port)
        number = self._server.sockets[0].getsockname()[1]
        self.path = f"{'rfc2217' if self.lines else 'socket'}://127.0.0.1:{number}"

    def write(self, data: bytes) -> None:
        if self.client:
            self.client.write(data)

    def waiting(self) -> int:
        return self.client.transport.get_write_buffer_size() if self.client else 0

    def discard(self) -> None:
        """Nothing: what was given to the network comes."""

    def baud(self) -> int | None:
        return self.client.side.baudrate if self.client and self.lines else None

    def close(self) -> None:
        """The port is gone, its client is hung up on."""
        if self._server:
            self._server.close()
        if self.client:
            self.client.transport.abort()
            self.client = None


class Client(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, port: TcpPort) -> None:
        self._port = port
        self.side = SerialSide(port.lines or _no_lines, port.uart.discard)
        self._manager: PortManager | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(low=0)
        if self._port.client is None:
            self._take()
        else:
            # The one before may have hung up already, and only the news of it come later.
            transport.pause_reading()
            asyncio.get_running_loop().call_later(_LEAVES_S, self._take_or_leave)

    def _take_or_leave(self) -> None:
        if self._port.client is not None:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._take()
            self.transport.resume_reading()

    def _take(self) -> None:
        self._port.client = self
        if self._port.lines:
            from serial.rfc2217 import PortManager  # noqa: PLC0415  # only where it is used

            # It asks of both no more than SerialSide and a transport's write() have.
            self._manager = PortManager(cast("Serial", self.side), cast("Serial", self.transport))
        self._port.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._port.client is self:
            self._port.client = None
            self._port.closed()

    def data_received(self, data: bytes) -> None:
        if self._port.client is not self:
            return
        if self._manager:
            data = self._filtered(self._manager, data)
        if data:
            self._port.uart.received(data)

    def resume_writing(self) -> None:
        self._port.uart.drained()

    def write(self, data: bytes) -> None:
        self.transport.write(data.replace(_IAC, _IAC + _IAC) if self._manager else data)

    def _filtered(self, manager: "PortManager", data: bytes) -> bytes:
        """The bytes for the chip. What has no command in it passes as a whole: the filter takes one byte at a time."""
        from serial.rfc2217 import M_NORMAL  # noqa: PLC0415

        if _IAC not in data and manager.mode == M_NORMAL and manager.suboption is None:
            return data
        return b"".join(manager.filter(data))


def _no_lines(*, rts: bool, dtr: bool) -> None:
    """Plain TCP has none."""
