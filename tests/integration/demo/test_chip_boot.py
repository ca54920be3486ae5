"""The virtual chip boots: before the real pyserial, by reset lines and button, with whatever lies in its flash."""

import asyncio
import os
import select
import shutil
from pathlib import Path

import psutil
import pytest

from mcp_server.demo.chip import image
from mcp_server.demo.chip.models import MODELS
from tests.support.chip import ECHO, chip, esptool, flash_file, listening, write_images

# pyserial's own client starts a thread in a way that Python has deprecated.
pytestmark = [pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"), pytest.mark.timeout(30)]


def wait_readable(file: int) -> None:
    """Until something lies there to be read."""
    assert select.select([file], [], [], 5)[0]


def read_line(file: int) -> bytes:
    """A line, from the first byte that lies there."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(file, 1)
    return line


async def test_flashed_program_runs_after_flashing_and_talks(tmp_path: Path) -> None:
    """Issue. From an empty flash to the app's echo; the boot log has the table that was flashed."""
    async with chip(tmp_path).running() as board:
        assert (await esptool(board.port, "write-flash", *write_images(tmp_path, ECHO))).code == 0
        async with listening(board.port) as listener:
            text = await listener.until("app: started\r\n")
            await listener.send(b"hello\n")
            await listener.until("app: got hello\r\n")

    assert text.startswith("virtual chip: a simulated ESP32-C3, no hardware\r\nESP-ROM:esp32c3-api1-20210207\r\n")
    assert "rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)" in text
    assert "boot:  2 factory          factory app      00 00 00010000 00100000" in text
    assert "boot: Loaded app from partition at offset 0x10000" in text


async def test_reset_lines_of_rfc2217_lead_to_boot_and_to_download_mode(tmp_path: Path) -> None:
    """Issue. RTS alone resets, DTR is the strap; esptool resets by them and what was flashed is seen to boot."""
    flash_file(tmp_path / "flash.bin", ECHO)
    async with chip(tmp_path, way="rfc2217").running() as board:
        # pyserial's client takes 0.2 s for each request of esptool, so this asks little.
        run = await esptool(board.port, "--chip", "esp32c3", "--no-stub", "read-mac")
        assert run.code == 0, run.output
        assert "WARNING: Chip was NOT reset" not in run.output
        async with listening(board.port) as listener:
            await listener.lines(dtr=False, rts=True)
            await listener.lines(rts=False)
            await listener.until("app: started\r\n")
            await listener.lines(dtr=False, rts=True)
            await listener.lines(dtr=True, rts=False)
            await listener.until(r"boot:0x4 \(DOWNLOAD\(USB/UART0/1\)\)\r\nwaiting for download\r\n")
            await listener.lines(dtr=False)
            await listener.lines(rts=True)
            await listener.lines(rts=False)
            await listener.until("(?s)waiting for download.*app: started\r\n")


async def test_chip_without_boot_mode_is_recognised_by_esptool(tmp_path: Path) -> None:
    """Issue. The strap does nothing: esptool sees the boot log of a normal boot."""
    flash_file(tmp_path / "flash.bin", ECHO)
    async with chip(tmp_path, way="rfc2217", faults=["no-boot-mode"]).running() as board:
        run = await esptool(board.port, "--connect-attempts", "1", "flash-id")

    assert run.code != 0
    assert "Wrong boot mode detected (0xc)! The chip needs to be in download mode." in run.output


async def test_plain_tcp_flashes_and_boots(tmp_path: Path) -> None:
    """Issue. socket:// has no lines either; a second client is hung up on. An ELF file is run as well as a script."""
    async with chip(tmp_path, way="socket").running() as board:
        program = Path(shutil.which("cat") or "").read_bytes()
        run = await esptool(board.port, "write-flash", *write_images(tmp_path, program))
        assert run.code == 0, run.output
        async with listening(board.port) as listener:
            host, _, number = board.port.removeprefix("socket://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(number))
            assert await reader.read() == b""
            writer.close()
            await listener.until(f"runs the host program of {len(program)} bytes")
            await board.wait_for("started")
            await listener.send(b"to cat\n")
            await listener.until("to cat\r\n")


async def test_empty_flash_loops_like_a_rom(tmp_path: Path) -> None:
    """Issue. Paced, with the ROM's words, and each time with the watchdog's cause."""
    async with chip(tmp_path).running() as board, listening(board.port) as listener:
        text = await listener.until(r"(?s)(invalid header: 0xffffffff\r\n){8}.*\1{8}")

    assert "rst:0x7 (TG0WDT_SYS_RST)" in text


async def test_real_image_cannot_be_executed(tmp_path: Path) -> None:
    """Issue. It says so and is silent, or plays the recording, panic and reboot included."""
    flash = bytearray(flash_file(tmp_path / "flash.bin", ECHO).read_bytes())
    app = image.bootloader(MODELS["esp32c3"])
    flash[0x10000 : 0x10000 + len(app)] = app
    (tmp_path / "flash.bin").write_bytes(flash)
    recording = tmp_path / "recorded.log"
    recording.write_text("I (10) app: up\nI (60) app: soon\nGuru Meditation Error: Core  0 panic'ed\n\nRebooting...\n")

    async with chip(tmp_path).running() as board, listening(board.port) as listener:
        text = await listener.until("virtual chip: cannot execute esp32c3 code\r\n")
        assert "esp_image: segment 0: paddr=00010020 vaddr=40380000" in text
    async with chip(tmp_path, play=recording).running() as board, listening(board.port) as listener:
        text = await listener.until(r"(?s)(Guru Meditation Error.*\r\nRebooting\.\.\.\r\n.*){2}")
        assert text.index("boot: Loaded app") < text.index("I (10) app: up\r\n") < text.index("I (60) app: soon\r\n")
        assert "rst:0xc (RTC_SW_CPU_RST)" in text


async def test_program_that_crashes_reboots(tmp_path: Path) -> None:
    """Ours. What killed it is said; the chip restarts it, as a chip does after a panic."""
    flash_file(tmp_path / "flash.bin", b"#!/bin/sh\necho up\nkill -SEGV $$\n")
    async with chip(tmp_path).running() as board, listening(board.port) as listener:
        await listener.until(r"(?s)(up\r\n\r\nvirtual chip: the program was killed by SIGSEGV\r\nRebooting.*){2}")


async def test_damaged_app_is_not_run(tmp_path: Path) -> None:
    """Ours. A flipped bit: the hash does not fit and the chip loops."""
    flash = bytearray(flash_file(tmp_path / "flash.bin", ECHO).read_bytes())
    flash[0x10000 + 60] ^= 1
    (tmp_path / "flash.bin").write_bytes(flash)
    async with chip(tmp_path).running() as board, listening(board.port) as listener:
        text = await listener.until("No bootable app partitions in the partition table")
        await board.wait_for("unbootable")

    assert "Image hash failed - image is corrupt" in text
    assert "app: started" not in text


async def test_wrong_baud_is_garbage_both_ways(tmp_path: Path) -> None:
    """Issue. At the app's rate it is text; at another one it is not, nor is what is sent to it."""
    flash_file(tmp_path / "flash.bin", ECHO)
    for way in ("pty", "rfc2217"):
        async with chip(tmp_path, way=way, baud=115200).running() as board:
            async with listening(board.port, 9600) as listener:
                await listener.until("(?s).{300}")
                await listener.send(b"lost\n")
                assert "ESP-ROM" not in listener.text
                assert "boot" not in listener.text
            await board.wait_for("closed")
            async with listening(board.port, 115200) as listener:
                await listener.send(b"\nheard\n")
                text = await listener.until("app: got heard\r\n")
                assert "lost" not in text
            if way == "pty":
                run = await esptool(board.port, "--baud", "921600", "flash-id")
                assert run.code == 0, run.output


async def test_reset_button_starts_the_program_anew(tmp_path: Path) -> None:
    """Issue. While somebody listens at once; else when somebody opens the port. No copy of the program is left."""
    flash_file(tmp_path / "flash.bin", b"#!/bin/sh\necho pid $$\nexec sleep 60\n")
    async with chip(tmp_path).running() as board:
        async with listening(board.port) as listener:
            await listener.until(r"pid \d+\r\n")
            await board.reset()
            await listener.until(r"(?s)pid \d+.*pid \d+\r\n")
        await board.wait_for("closed")
        await board.reset()
        async with listening(board.port) as listener:
            text = await listener.until(r"pid \d+\r\n")
            assert text.startswith("virtual chip:")
        children = psutil.Process(board.pid).children(recursive=True)
        assert len(children) == 1
    assert not any(child.is_running() for child in children)


async def test_much_output_arrives_whole(tmp_path: Path) -> None:
    """Ours. 6 MB at full speed: the program is made to wait for its reader, who loses nothing."""
    script = b"#!/usr/bin/env python3\nfor n in range(120000): print(f'line {n:06} ' + 'x' * 38)\nprint('the end')\n"
    flash_file(tmp_path / "flash.bin", script)
    async with chip(tmp_path).running() as board, listening(board.port) as listener:
        await board.wait_for("started")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await board.wait_for("ended")
        async with asyncio.timeout(20):
            while b"the end\r\n" not in listener.data[-200:]:
                await listener.more()

    numbers = [int(line[5:11]) for line in listener.data.split(b"\r\n") if line.startswith(b"line ")]
    assert numbers == list(range(120000))


async def test_what_one_left_unread_is_not_for_the_next(tmp_path: Path) -> None:
    """Ours. As with a cable: what came while nobody listened, or was not read, is lost; the program runs on."""
    flash_file(tmp_path / "flash.bin", ECHO)
    async with chip(tmp_path).running() as board:
        async with listening(board.port) as listener:
            await listener.until("app: started")
            await listener.send(b"one\n")
            await asyncio.to_thread(wait_readable, listener.port.fileno())
        await board.wait_for("closed")
        client = os.open(board.port, os.O_RDWR | os.O_NOCTTY)  # pyserial would forget by itself what lies there
        os.write(client, b"two\n")
        assert await asyncio.to_thread(read_line, client) == b"app: got two\r\n"
        os.close(client)


async def test_pulled_cable_takes_the_power(tmp_path: Path) -> None:
    """Issue. Whoever has the port open gets an error; under the link the chip boots afresh."""
    flash_file(tmp_path / "flash.bin", ECHO)
    link = tmp_path / "port"
    async with chip(tmp_path, link=link).running() as board:
        async with listening(str(link)) as listener:
            await listener.until("app: started")
            await board.vanish(back_after_s=0.05)
            with pytest.raises(OSError):  # SerialException is one; whoever asks for the count first has a bare one
                await listener.until("never")
        await board.wait_for("port", 2)
        async with listening(str(link)) as listener:
            await listener.until("(?s)POWERON.*app: started")
