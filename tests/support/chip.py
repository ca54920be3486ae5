"""A virtual chip's peers: the real esptool as a program, and pyserial as somebody who has the port open."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import serial

from mcp_server.demo.chip import VirtualChip, image
from mcp_server.demo.chip.models import MODELS

ESPTOOL = (sys.executable, "-m", "esptool")
PRINTED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ECHO = b"""#!/bin/sh
echo "app: started"
while read line; do echo "app: got $line"; done
"""


def chip(tmp_path: Path, **more: object) -> VirtualChip:
    """One whose flash is `flash.bin` there, a file that it makes or finds."""
    return VirtualChip(tmp_path / "flash.bin", **more)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Run:
    """How a tool ended, and all that it printed."""

    code: int
    output: str


async def esptool(port: str, *words: str, timeout_s: float = 20) -> Run:
    """Run esptool on the port. One that does not end in time is killed: TimeoutError."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *ESPTOOL,
        "--port",
        port,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Run(process.returncode, PRINTED.sub("", output.decode("utf-8", "replace")))


class Listener:
    """Somebody who has the port open. `text` is all that came so far."""

    def __init__(self, port: serial.Serial) -> None:
        self.port = port
        self.data = b""

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    async def until(self, pattern: str, timeout_s: float = 5) -> str:
        """All that came, once it matches. TimeoutError with what came instead."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not re.search(pattern, self.text):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"no {pattern!r} in {self.text[-2000:]!r}")
            await self.more()
        return self.text

    async def more(self) -> bytes:
        """What comes within the port's time-out."""
        piece = await asyncio.to_thread(lambda: self.port.read(max(1, self.port.in_waiting)))
        self.data += piece
        return piece

    async def send(self, data: bytes) -> None:
        await asyncio.to_thread(self.port.write, data)

    async def lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Set the reset lines, in this order."""
        if dtr is not None:
            await asyncio.to_thread(setattr, self.port, "dtr", dtr)
        if rts is not None:
            await asyncio.to_thread(setattr, self.port, "rts", rts)


@asynccontextmanager
async def listening(port: str, baud: int = 115200) -> AsyncGenerator[Listener]:
    """Open the port, a path or an URL."""
    opened = await asyncio.to_thread(serial.serial_for_url, port, baudrate=baud, timeout=0.2)
    try:
        yield Listener(opened)
    finally:
        await asyncio.to_thread(opened.close)


def write_images(folder: Path, program: bytes, chip: str = "esp32c3") -> list[str]:
    """Bootloader, partition table and app around `program` as files; esptool's words to flash them."""
    model = MODELS[chip]
    parts = {
        model.bootloader_offset: ("bootloader.bin", image.bootloader(model)),
        0x8000: ("partition-table.bin", image.partition_table()),
        0x10000: ("app.bin", image.pack(program, model)),
    }
    words: list[str] = []
    for offset, (name, data) in parts.items():
        (folder / name).write_bytes(data)
        words += [hex(offset), str(folder / name)]
    return words


def flash_file(path: Path, program: bytes, chip: str = "esp32c3", size: int = 4 << 20) -> Path:
    """A flash as it is after the program was flashed."""
    model = MODELS[chip]
    flash = bytearray(b"\xff" * size)
    for offset, data in (
        (model.bootloader_offset, image.bootloader(model)),
        (0x8000, image.partition_table()),
        (0x10000, image.pack(program, model)),
    ):
        flash[offset : offset + len(data)] = data
    path.write_bytes(flash)
    return path
