"""The board: power, reset circuit and UART around the chip, and which of loader and app has it.

With lines (RFC 2217), RTS alone pulls EN down and DTR alone pulls the strap down, as the two transistors of a
devkit do; both or neither leave the chip alone. The strap is read when EN rises: low means download mode.

A pty and a plain TCP port have no lines. There the chip goes to download mode whenever a SYNC arrives, and a
loader's last words (a soft reset, or simply that the port was closed, for a hard reset cannot be seen) are a
reset whose boot waits for whoever opens the port next, so that a watcher sees it from its first line.

Power comes with the first one who opens the port.
"""

import asyncio
from collections.abc import Callable
from enum import Enum

from mcp_server.demo.chip import boot_log
from mcp_server.demo.chip.boot import Boot, BootSettings
from mcp_server.demo.chip.boot_log import Cause
from mcp_server.demo.chip.faults import Faults
from mcp_server.demo.chip.flash import NorFlash
from mcp_server.demo.chip.models import MODELS
from mcp_server.demo.chip.program import Program
from mcp_server.demo.chip.registers import Registers
from mcp_server.demo.chip.rom import SYNC_DATA, Deed, Loader
from mcp_server.demo.chip.uart import Uart

OPEN_WAIT_S = 0.2
"""After the port was opened: a loader's SYNC that comes within it finds no boot log in its way."""
LINES_WAIT_S = 0.5
"""The same with RFC 2217, whose client must first agree on speed and lines, and then forgets what came."""
RESTART_WAIT_S = 1.0
"""After a loader's soft reset on a port without lines: so long for the loader to leave."""
EN_RISE_S = 0.3
"""Both lines on after RTS alone: EN rises so slowly. A devkit takes milliseconds, but RFC 2217 brings one line after
the other, each with a turn over the net and a client's pause of 50 ms."""


class Mode(Enum):
    """OFF: it boots when the port is opened. HELD: EN is down."""

    OFF = "off"
    HELD = "held"
    DOWNLOAD = "download"
    RUN = "run"


class Board:
    """One board with one port. `tell(event, **fields)` reports; `vanish()` takes the port away."""

    def __init__(
        self,
        settings: BootSettings,
        flash: NorFlash,
        faults: Faults,
        mac: str,
        *,
        lines: bool,
        baud: int | None,
        tell: Callable[..., None],
        vanish: Callable[[], None],
    ) -> None:
        """`baud`: the app's rate; None where no rate is wrong."""
        self._settings, self._flash, self._faults, self._mac = settings, flash, faults, mac
        self._has_lines, self._baud, self._tell, self._vanish = lines, baud, tell, vanish
        self.uart = Uart(faults, self._receive)
        self.mode = Mode.OFF
        self._cause = boot_log.POWER_ON
        self._present = False
        self._timer: asyncio.TimerHandle | None = None
        self._loader: Loader | None = None
        self._boot: Boot | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[Program] = set()
        self._tail = b""
        self._rts = self._dtr = False

    # what happens to the port

    def opened(self) -> None:
        """Somebody opened the port; who comes while it still waits has the whole time for a SYNC."""
        self._present = True
        if self.mode is Mode.OFF:
            self._later(LINES_WAIT_S if self._has_lines else OPEN_WAIT_S, lambda: self._run(self._cause))

    def closed(self) -> None:
        """The last one closed the port."""
        self._present = False
        self.uart.discard()
        self.uart.drained()
        if not self._has_lines and self.mode in (Mode.DOWNLOAD, Mode.OFF):
            self._off(self._cause if self.mode is Mode.OFF else boot_log.POWER_ON)

    def unplugged(self) -> None:
        """The cable is pulled, which also brought the power."""
        self._present = False
        self._off(boot_log.POWER_ON)
        self.uart.drained()

    def lines(self, *, rts: bool, dtr: bool) -> None:
        """The client set its lines; True is asserted, which pulls down."""
        self._rts, self._dtr = rts, dtr
        if rts and not dtr:
            if self.mode is not Mode.HELD:
                self._stop()
                self.mode = Mode.HELD
                self._tell("held")
            self._cancel_timer()
        elif self.mode is Mode.HELD:
            if rts:  # and dtr: EN rises, but slowly; the lines may say more until then
                self._later(EN_RISE_S, self._released)
            else:
                self._released()

    def reset(self, cause: Cause = boot_log.POWER_ON) -> None:
        """The reset button."""
        self._stop()
        if self._present or self._has_lines:
            self._run(cause)
        else:
            self._off(cause)

    async def end(self) -> None:
        """The power goes. Returns when nothing of it runs any more."""
        self._stop()
        self.uart.close()
        for program in list(self._ending):
            await program.gone.wait()

    # modes

    def _released(self) -> None:
        if self._dtr and not self._rts and not self._faults.no_boot_mode:
            self._download()
        else:
            self._run(boot_log.POWER_ON)

    def _run(self, cause: Cause) -> None:
        self._stop()
        self.mode = Mode.RUN
        self.uart.rate = self._baud
        self._tell("reset", cause=cause.name)
        boot = Boot(self._settings, self._flash, self.uart, self._tell, lambda cause: self._again(boot, cause))
        self._boot = boot
        self._task = asyncio.get_running_loop().create_task(boot.run(cause))
        self._task.add_done_callback(_raise_what_failed)

    def _again(self, boot: Boot, cause: Cause) -> None:
        """A boot asks for the next; one that is over has no say."""
        if boot is self._boot and self.mode is Mode.RUN:
            self._task = None  # it is the one that asks, and is about to end by itself
            if self._present:
                self._run(cause)
            else:
                self._off(cause)  # a boot loop that nobody watches would only cost

    def _download(self) -> None:
        self._stop()
        self.mode = Mode.DOWNLOAD
        self.uart.rate = None
        self._tell("download")
        settings, faults = self._settings, self._faults
        model = MODELS[faults.reports] if faults.reports else settings.model
        fuses = model.efuses(self._mac, settings.revision, faults.security)
        registers = Registers(model, self._flash.size, fuses)
        self._loader = Loader(model, self._flash, registers, faults)
        if self._has_lines:
            banner = boot_log.rom_banner(settings.model, boot_log.POWER_ON, download=True)
            self.uart.send("".join(f"{line}\r\n" for line in banner).encode())
        else:
            self.uart.discard()  # what an app printed would be in the way of the answer to SYNC

    def _off(self, cause: Cause) -> None:
        self._stop()
        self.mode, self._cause = Mode.OFF, cause

    def _stop(self) -> None:
        """Whatever has the chip loses it."""
        self._cancel_timer()
        self._loader, self._tail = None, b""
        if self._task:
            self._task.cancel()
            self._task = None
        if self._boot:
            program = self._boot.program
            self._boot.end()
            self._boot = None
            if program:
                self._ending = {other for other in self._ending if not other.gone.is_set()} | {program}

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, call)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    # what comes over the line

    def _receive(self, data: bytes) -> None:
        if self.mode is Mode.DOWNLOAD:
            self._load(data)
        elif self.mode is Mode.HELD:
            return
        elif not self._has_lines and self._synced(data):
            rest = self._tail[self._tail.rindex(SYNC_DATA) :]
            self._download()
            self._load(_SYNC_HEAD + rest)
        elif self._boot:
            self._boot.input(data)

    def _synced(self, data: bytes) -> bool:
        """Whether a SYNC has come, which may lie in several pieces."""
        self._tail = (self._tail + data)[-4 * len(SYNC_DATA) :]
        return SYNC_DATA in self._tail and not self._faults.no_boot_mode

    def _load(self, data: bytes) -> None:
        loader = self._loader
        if loader is None:
            return
        if self.uart.rate is None and self._baud is not None and self.uart.port:
            self.uart.rate = self.uart.port.baud()  # the ROM measures the rate of what comes first
        was_stub = loader.stub
        answer = loader.feed(data)
        if loader.stub and not was_stub:
            self._tell("stub")
        deeds, loader.deeds = loader.deeds, []
        if Deed.VANISH in deeds:
            self._tell("vanished", written=loader.written)
            self._vanish()
            return
        self.uart.send(answer)
        if loader.baud and self._baud is not None:
            self.uart.rate, loader.baud = loader.baud, None
        if Deed.RESTART in deeds:
            self._restart(boot_log.SOFTWARE)

    def _restart(self, cause: Cause) -> None:
        """A loader has reset the chip: its answer is still to be read."""
        self._loader = None
        self.mode, self._cause = Mode.OFF, cause
        self._later(0.0 if self._has_lines else RESTART_WAIT_S, lambda: self._run(cause))


# The beginning of a SYNC frame: its data alone is looked for, since a piece of the head may have been lost.
_SYNC_HEAD = bytes([0xC0, 0x00, 0x08, len(SYNC_DATA), 0x00, 0x00, 0x00, 0x00, 0x00])


def _raise_what_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        raise error
