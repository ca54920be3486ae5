"""The line between the chip and whoever has the port open: its speed, its noise, its bounded buffer."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from mcp_server.demo.chip.faults import Faults

HIGH_WATER = 256 * 1024
"""Bytes not yet taken by the other side; from here on a running program is no longer read."""
MAX_WAITING = 4 << 20
"""Bytes; beyond them what is sent is lost, as it is on a board whose reader sleeps."""
TOLERANCE = 0.03  # of a baud rate; a UART reads well what is 3 % off
_TICK_BYTES = 64  # a slow line passes so many at a time

# What a UART makes of bytes that come at another speed: no rule is right, so a fixed one that loses the text.
_GARBLED = bytes((byte * 167 + 91) & 0x7F | 0x80 for byte in range(256))


class Port(Protocol):
    """A way in for one client at a time."""

    def write(self, data: bytes) -> None:
        """Pass it on as fast as the client takes it."""

    def waiting(self) -> int:
        """Bytes that the client did not take yet."""
        ...

    def discard(self) -> None:
        """Forget what the client did not take yet."""

    def baud(self) -> int | None:
        """What the client's side is set to; None where that cannot be known."""
        ...


class Pacer:
    """Passes bytes on at a rate, in order; a task that ends with `close`."""

    def __init__(self, bits_per_s: int, sink: Callable[[bytes], None]) -> None:
        self._byte_s, self._sink = 10 / bits_per_s, sink  # a byte has a start and a stop bit
        self._waiting = bytearray()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, data: bytes) -> None:
        self._waiting += data
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._pass_on())

    def clear(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self.clear()
        if self._task:
            self._task.cancel()

    async def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._waiting:
            size = min(_TICK_BYTES, len(self._waiting))
            due += size * self._byte_s
            await asyncio.sleep(due - loop.time())
            piece = bytes(self._waiting[:size])  # empty where it was cleared meanwhile
            del self._waiting[:size]
            if piece:
                self._sink(piece)
        self._task = None


class Uart:
    """The chip's end of the line. `receive` gets what came; `rate` is the chip's own baud rate, None for any."""

    def __init__(self, faults: Faults, receive: Callable[[bytes], None]) -> None:
        self.port: Port | None = None
        self.rate: int | None = None
        self._faults, self._receive = faults, receive
        self._sent = 0
        self._drained: list[Callable[[], None]] = []
        rate = faults.bits_per_s
        self._out = Pacer(rate, self._write) if rate else None
        self._in = Pacer(rate, self._pass_in) if rate else None

    @property
    def congested(self) -> bool:
        return self.waiting() > HIGH_WATER

    def waiting(self) -> int:
        """Bytes that were sent and not yet taken."""
        return (self.port.waiting() if self.port else 0) + (0 if self._out is None else len(self._out))

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once the line is no longer congested."""
        self._drained.append(call)

    def drained(self) -> None:
        """The port took something, or is gone."""
        if self._drained and not self.congested:
            calls, self._drained = self._drained, []
            for call in calls:
                call()

    def send(self, data: bytes) -> None:
        """To the client, if there is one; what nobody reads is lost."""
        if not self.port or self._faults.silent or self.waiting() > MAX_WAITING:
            return
        if self._faults.garbage or self._off_speed():
            data = data.translate(_GARBLED)
        if self._faults.noise:
            data = self._noisy(data)
        (self._write if self._out is None else self._out.put)(data)

    def received(self, data: bytes) -> None:
        """From the client."""
        if self._in is not None:
            self._in.put(data)
        else:
            self._pass_in(data)

    def discard(self) -> None:
        """Forget what was sent and not yet taken, as a reset does."""
        if self._out is not None:
            self._out.clear()
        if self.port:
            self.port.discard()

    def close(self) -> None:
        for pacer in (self._in, self._out):
            if pacer is not None:
                pacer.close()

    def _write(self, data: bytes) -> None:
        if self.port:
            self.port.write(data)
        self.drained()

    def _pass_in(self, data: bytes) -> None:
        if not self._faults.silent:
            self._receive(data.translate(_GARBLED) if self._off_speed() else data)

    def _off_speed(self) -> bool:
        theirs = self.port.baud() if self.port else None
        return bool(self.rate and theirs) and abs((theirs or 0) - (self.rate or 0)) > TOLERANCE * (self.rate or 1)

    def _noisy(self, data: bytes) -> bytes:
        every = self._faults.noise
        noisy = bytearray(data)
        for at in range(every - 1 - self._sent % every, len(noisy), every):
            noisy[at] ^= 0x10
        self._sent += len(data)
        return bytes(noisy)
