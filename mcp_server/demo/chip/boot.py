"""What a chip does from a reset until the next: the ROM, the bootloader, then the app that lies in the flash.

The app is run where it is a host program in an envelope. Real code cannot be executed: a recording is played in its
place if there is one, panics and all; else the chip says so and is silent.
"""

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mcp_server.demo.chip import boot_log, image
from mcp_server.demo.chip.boot_log import Cause
from mcp_server.demo.chip.flash import NorFlash
from mcp_server.demo.chip.models import Model
from mcp_server.demo.chip.program import Program
from mcp_server.demo.chip.uart import Uart

LOOP_S = 0.4
"""Between two attempts of a chip that cannot boot; a real one takes about as long until its watchdog bites."""
MAX_PAUSE_S = 1.0  # between two lines of a recording, whatever their times say
_HEADERS = 8  # a ROM reads an empty flash so often before it gives up
_STAMP = re.compile(rb"[EWIDV] \((\d{1,9})\)")
_REBOOTS = b"Rebooting..."
_WHOLE_BOOT = re.compile(rb"rst:0x[0-9a-f]+ \(")


@dataclass(frozen=True)
class BootSettings:
    """`pace` multiplies the pauses of a recording, 0 for none. `table_offset` is where the partition table lies."""

    model: Model
    revision: tuple[int, int]
    play: Path | None = None
    pace: float = 1.0
    table_offset: int = 0x8000


class Boot:
    """One boot; `run` goes on until it is cancelled. `restart(cause)` asks for another one."""

    def __init__(
        self,
        settings: BootSettings,
        flash: NorFlash,
        uart: Uart,
        tell: Callable[..., None],
        restart: Callable[[Cause], None],
    ) -> None:
        self._settings, self._flash, self._uart = settings, flash, uart
        self._tell, self._restart = tell, restart
        self._began = time.monotonic()
        self.program: Program | None = None

    async def run(self, cause: Cause) -> None:
        """Print the boot log, then run the app."""
        model = self._settings.model
        recording = self._recording()
        self._say(f"virtual chip: a simulated {model.title}, no hardware")
        if recording and _WHOLE_BOOT.search(recording[:2000]) and self._first_app() is not None:
            await self._play(recording)
            return
        self._say(*boot_log.rom_banner(model, cause, download=False))
        try:
            app, where = self._load()
        except image.BadImage as trouble:
            self._tell("unbootable", why=str(trouble))
            await asyncio.sleep(LOOP_S)
            self._restart(boot_log.WATCHDOG)
            return
        await self._start(app, where, recording)

    def input(self, data: bytes) -> None:
        """What came over the line while the app runs."""
        if self.program:
            self.program.write(data)

    def end(self) -> None:
        """The chip is reset: what runs is killed."""
        if self.program:
            self.program.kill()

    # finding the app

    def _load(self) -> tuple[bytes, str]:
        """The app's bytes and its partition's name, with all that is printed on the way. BadImage after the error."""
        model, flash = self._settings.model, self._flash
        start = model.bootloader_offset
        data = flash.read(start, min(0x10000, flash.size - start))
        try:
            loader = image.read_esp_image(data, start)
        except image.BadImage as trouble:
            self._say(*[f"invalid header: 0x{data[3::-1].hex()}"] * _HEADERS)
            raise image.BadImage("no bootloader") from trouble
        self._say(*boot_log.rom_load(loader))
        self._log("I", boot_log.second_stage(model, loader, data, self._settings.revision))
        partitions = self._partitions()
        for part in image.boot_order(partitions, self._ota_data(partitions)):
            app = self._app_of(part)
            if app is not None:
                self._log("I", [f"boot: Loaded app from partition at offset {part.offset:#x}"])
                return app, part.label
        self._log("E", ["boot: No bootable app partitions in the partition table"])
        raise image.BadImage("no bootable app")

    def _partitions(self) -> tuple[image.Partition, ...]:
        try:
            found = image.read_partition_table(self._flash.read(self._settings.table_offset, image.TABLE_BYTES))
        except image.BadImage as trouble:
            self._log("E", [f"flash_parts: {trouble}", "boot: Failed to verify partition table"])
            raise
        self._log("I", boot_log.table(found))
        return found

    def _ota_data(self, partitions: Iterable[image.Partition]) -> bytes:
        for part in partitions:
            if (part.kind, part.subtype) == (image.DATA, image.OTA_DATA) and part.offset + 0x2000 <= self._flash.size:
                return self._flash.read(part.offset, 0x2000)
        return b""

    def _app_of(self, part: image.Partition) -> bytes | None:
        """The image in a partition if it can be booted; else the errors are printed."""
        size = min(part.size, self._flash.size - part.offset)
        try:
            if size <= 0:
                raise image.BadImage(f"image offset {part.offset:#x} is beyond the flash")
            data = self._flash.read(part.offset, size)
            if image.is_envelope(data):
                image.unpack(data, self._settings.model)
                return data
            found = image.read_esp_image(data, part.offset)
            self._log("I", boot_log.segments(found))
            if found.chip_id != self._settings.model.chip_id:
                raise image.BadImage(
                    f"mismatch chip ID, expected {self._settings.model.chip_id}, found {found.chip_id}"
                )
        except image.BadImage as trouble:
            self._log("E", [f"esp_image: image at {part.offset:#x}: {trouble}"])
            self._log("E", [f"boot: {image.usage(part).capitalize()} partition is not bootable"])
            return None
        return data

    def _first_app(self) -> bytes | None:
        """A real app image in the flash, found without a word; None where there is none or an envelope."""
        try:
            found = image.read_partition_table(self._flash.read(self._settings.table_offset, image.TABLE_BYTES))
        except image.BadImage:
            return None
        for part in image.boot_order(found, self._ota_data(found)):
            if part.offset < self._flash.size and (head := self._flash.read(part.offset, 1))[0] == image.ESP_MAGIC:
                return head
        return None

    # running it

    async def _start(self, app: bytes, where: str, recording: bytes) -> None:
        if image.is_envelope(app):
            self._run_program(image.unpack(app, self._settings.model), where)
        elif recording:
            await self._play(recording)
        else:
            described = image.app_description(app)
            name = f" ({described[0]} {described[1]}, ESP-IDF {described[2]})" if described else ""
            self._say(f"virtual chip: cannot execute {self._settings.model.name} code{name}")
            self._tell("not-executed", partition=where)

    def _run_program(self, program: bytes, where: str) -> None:
        self._log("I", [f"virtual chip: runs the host program of {len(program)} bytes in partition {where}"])
        self.program = Program(self._uart.send, self._ended, self._congested)
        self._tell("started", partition=where, bytes=len(program))
        try:
            self.program.start(program)
        except OSError as error:
            self.program = None
            self._say(f"virtual chip: this machine cannot start the program: {error.strerror}")
            self._tell("not-executed", partition=where)

    def _congested(self, resume: Callable[[], None]) -> bool:
        if not self._uart.congested:
            return False
        self._uart.when_drained(resume)
        return True

    def _ended(self, code: int) -> None:
        self.program = None
        self._tell("ended", code=code)
        if code == 0:
            self._say("", "virtual chip: the program has ended with exit code 0")
            return
        what = f"was killed by {_signal_name(-code)}" if code < 0 else f"has ended with exit code {code}"
        self._say("", f"virtual chip: the program {what}", _REBOOTS.decode())
        asyncio.get_running_loop().call_later(LOOP_S, self._restart, boot_log.SOFTWARE)

    def _recording(self) -> bytes:
        try:
            return self._settings.play.read_bytes() if self._settings.play else b""
        except OSError:  # it was there when the chip was switched on
            return b""

    async def _play(self, recording: bytes) -> None:
        """Line by line, with the pauses that the lines' own times tell; over again where it ends by rebooting."""
        self._tell("playing", bytes=len(recording))
        crlf = b"\r\n" in recording
        last: int | None = None
        for line in recording.splitlines(keepends=True):
            if found := _STAMP.match(line):
                stamp = int(found[1])
                pause_s = 0.0 if last is None or stamp < last else (stamp - last) / 1000
                last = stamp
                if pause_s and self._settings.pace:
                    await asyncio.sleep(min(pause_s, MAX_PAUSE_S) * self._settings.pace)
            while self._uart.congested:
                drained = asyncio.Event()
                self._uart.when_drained(drained.set)
                await drained.wait()
            self._uart.send(line if crlf else line.replace(b"\n", b"\r\n"))
        self._tell("played")
        if recording.rstrip().endswith(_REBOOTS):
            await asyncio.sleep(LOOP_S)
            self._restart(boot_log.SOFTWARE)

    # printing

    def _say(self, *lines: str) -> None:
        self._uart.send("".join(f"{line}\r\n" for line in lines).encode())

    def _log(self, level: str, lines: Iterable[str]) -> None:
        stamp = int((time.monotonic() - self._began) * 1000)
        self._say(*(f"{level} ({stamp}) {line}" for line in lines))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
