"""The virtual chip before the real esptool and the real pyserial: flashing, faults, resets, boots, and its end."""

import asyncio
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from serial import SerialException

from mcp_server.demo.chip import RunningChip, VirtualChip, image
from mcp_server.demo.chip.models import MODELS
from mcp_server.errors import BadInput
from tests.support.chip import esptool, flash_file, listening, write_images

ECHO = b"""#!/bin/sh
echo "app: started"
while read line; do echo "app: got $line"; done
"""
NO_RESET = ("--before", "no-reset", "--after", "no-reset")


# pyserial's own client starts a thread in a way that Python has deprecated.
pytestmark = [pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"), pytest.mark.timeout(30)]


def chip(tmp_path: Path, **more: object) -> VirtualChip:
    return VirtualChip(tmp_path / "flash.bin", **more)  # pyright: ignore[reportArgumentType]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def written(board: RunningChip, start: bytes) -> None:
    """Until the flash begins so."""
    async with asyncio.timeout(10):
        while board.flash[: len(start)] != start:  # noqa: ASYNC110  # a file tells nobody that it has grown
            await asyncio.sleep(0.01)


def wait_readable(file: int) -> None:
    """Until something lies there to be read."""
    assert select.select([file], [], [], 5)[0]


def read_line(file: int) -> bytes:
    """A line, from the first byte that lies there."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(file, 1)
    return line


async def cost_ms(pid: int) -> float:
    """Processor time that a process takes in a second, once it has come to rest."""
    account = Path(f"/proc/{pid}/schedstat")
    if not account.exists():
        pytest.skip("this system tells no processor time finer than its clock")
    await asyncio.sleep(0.2)
    before = int(account.read_text().split()[0])
    await asyncio.sleep(1)
    return (int(account.read_text().split()[0]) - before) / 1e6


# esptool


@pytest.mark.parametrize("name", list(MODELS))
async def test_esptool_detects_and_flashes_each_chip(tmp_path: Path, name: str) -> None:
    """Issue. Chip, MAC, flash size and three images through the stub, by detection alone."""
    async with chip(tmp_path, chip=name, mac="7c:df:a1:0a:0b:0c", flash_size="8MB").running() as board:
        run = await esptool(board.port, "write-flash", "--flash-size", "detect", *write_images(tmp_path, ECHO, name))

        assert run.code == 0, run.output
        assert f"Connected to {MODELS[name].title} on" in run.output
        assert "7c:df:a1:0a:0b:0c" in run.output
        assert "Auto-detected flash size: 8MB" in run.output
        assert "Stub flasher running." in run.output
        assert run.output.count("Hash of data verified.") == 3
        major, minor = MODELS[name].revision
        assert f"(revision v{major}.{minor})" in run.output
        assert image.unpack(board.flash[0x10000:], MODELS[name]) == ECHO


@pytest.mark.parametrize(
    "words",
    [("write-flash",), ("write-flash", "-u"), ("--no-stub", "write-flash"), ("--no-stub", "write-flash", "-z")],
    ids=" ".join,
)
async def test_what_is_written_is_read_back(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Issue. With and without stub, compressed and not; what lay around it is as it was."""
    data = noise(126_000)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "flash.bin").write_bytes(b"\0" * (4 << 20))
    async with chip(tmp_path).running() as board:
        run = await esptool(board.port, *words, "0x20000", str(tmp_path / "data"))

        assert run.code == 0, run.output
        assert "Hash of data verified." in run.output
        assert board.flash[0x20000 : 0x20000 + len(data)] == data
        assert not any(board.flash[:0x20000])
        assert not any(board.flash[0x3F000:])


async def test_reading_verifying_and_erasing(tmp_path: Path) -> None:
    """Issue. Read-back of odd bounds, a verification that fails, a region erased, all erased."""
    flash = noise(2 << 20)
    (tmp_path / "flash.bin").write_bytes(flash)
    (tmp_path / "other").write_bytes(noise(5000, seed=2))
    async with chip(tmp_path, flash_size="2MB").running() as board:
        read = await esptool(board.port, "read-flash", "0x1001", "70001", str(tmp_path / "read"))
        slow = await esptool(board.port, "--no-stub", "read-flash", "0x1ff000", "0x1000", str(tmp_path / "slow"))
        wrong = await esptool(board.port, "verify-flash", "0x3000", str(tmp_path / "other"))
        region = await esptool(board.port, "erase-region", "0x4000", "0x2000")
        after_region = board.flash
        everything = await esptool(board.port, "erase-flash")

        assert (read.code, slow.code, region.code, everything.code) == (0, 0, 0, 0)
        assert (tmp_path / "read").read_bytes() == flash[0x1001 : 0x1001 + 70001]
        assert (tmp_path / "slow").read_bytes() == flash[-0x1000:]
        assert wrong.code != 0
        assert after_region == flash[:0x4000] + b"\xff" * 0x2000 + flash[0x6000:]
        assert board.flash == b"\xff" * (2 << 20)


async def test_other_questions_of_esptool(tmp_path: Path) -> None:
    """Issue. flash-id, security info, and a merged image at 0."""
    words = write_images(tmp_path, ECHO)
    merged = str(tmp_path / "merged.bin")
    merge = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "merge-bin", "-o", merged, "--pad-to-size", "2MB"]
    done = await asyncio.to_thread(subprocess.run, [*merge, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    async with chip(tmp_path, flash_size="2MB", revision="1.1").running() as board:
        identity = await esptool(board.port, "flash-id")
        security = await esptool(board.port, "get-security-info")
        written = await esptool(board.port, "--baud", "460800", "write-flash", "0x0", merged)

        assert "Detected flash size: 2MB" in identity.output
        assert "(revision v1.1)" in identity.output
        assert "Secure Boot: Disabled" in security.output
        assert "Flash Encryption: Disabled" in security.output
        assert "Chip ID: 5" in security.output
        assert "Changing baud rate to 460800" in written.output
        assert written.code == 0, written.output
        assert board.flash == Path(merged).read_bytes()


async def test_wrong_chip_and_small_flash_are_refused_by_esptool(tmp_path: Path) -> None:
    """Issue. Another chip than asked for, an image of another chip, and one that does not fit."""
    (tmp_path / "big").write_bytes(noise(1 << 20))
    words = write_images(tmp_path, ECHO, "esp32c3")
    async with chip(tmp_path, faults=["reports=esp32c6"], flash_size="1MB").running() as board:
        asked = await esptool(board.port, "--chip", "esp32c3", "flash-id")
        flashed = await esptool(board.port, "write-flash", *words)
        size = await esptool(board.port, "write-flash", "0x1000", str(tmp_path / "big"))

        assert "This chip is ESP32-C6, not ESP32-C3. Wrong chip argument?" in asked.output
        assert "is not an ESP32-C6 image" in flashed.output
        assert "will not fit in 1048576 bytes of flash" in size.output
        assert 0 not in (asked.code, flashed.code, size.code)
        assert board.flash == b"\xff" * (1 << 20)


# faults


async def test_stub_that_never_starts(tmp_path: Path) -> None:
    """Issue. esptool waits for it without end; without the stub it works."""
    (tmp_path / "data").write_bytes(noise(10_000))
    async with chip(tmp_path, faults=["stub-silent"]).running() as board:
        with pytest.raises(TimeoutError):
            await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"), timeout_s=2.5)
        without = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert without.code == 0, without.output


async def test_stub_that_is_broken(tmp_path: Path) -> None:
    """Issue. With the stub it fails at once, without it works."""
    (tmp_path / "data").write_bytes(noise(10_000))
    async with chip(tmp_path, faults=["stub-broken"]).running() as board:
        with_stub = await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"))
        without = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert "Failed to start stub flasher. Unexpected response: b'OH NO'" in with_stub.output
        assert with_stub.code != 0
        assert without.code == 0, without.output


async def test_stub_that_fails_in_mid_write(tmp_path: Path) -> None:
    """Issue. What was written before stays; without the stub it works."""
    data = noise(100_000)
    (tmp_path / "data").write_bytes(data)
    async with chip(tmp_path, faults=["stub-write-fails=50000"]).running() as board:
        with_stub = await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"))
        partly = board.flash
        without = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert with_stub.code != 0
        assert "Failed to write to target flash after seq 3" in with_stub.output
        assert partly[:40_000] == data[:40_000]
        assert partly[60_000:100_000] == b"\xff" * 40_000
        assert without.code == 0, without.output
        assert board.flash[: len(data)] == data


async def test_verification_of_one_image_fails(tmp_path: Path) -> None:
    """Issue. The second of three."""
    async with chip(tmp_path, faults=["md5-mismatch=1"]).running() as board:
        run = await esptool(board.port, "write-flash", *write_images(tmp_path, ECHO))

        assert run.code != 0
        assert "MD5 of file does not match data in flash!" in run.output
        assert run.output.count("Hash of data verified.") == 1


async def test_port_that_vanishes_comes_back_under_its_link(tmp_path: Path) -> None:
    """Issue. esptool finds itself without a port; the link is gone and then there again, for a whole flash."""
    data = noise(60_000)
    (tmp_path / "data").write_bytes(data)
    link = tmp_path / "port"
    async with chip(tmp_path, link=link, faults=["vanish=20000,0.3"]).running() as board:
        first = await esptool(str(link), "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))
        await board.wait_for("gone")
        await board.wait_for("port", 2)

        assert first.code != 0 or "Lost connection, retrying" in first.output
        assert link.exists()
        assert str(link.readlink()) == board.port
        assert board.flash[:20_000] == data[:20_000]
        second = await esptool(str(link), "read-flash", "0", "16", str(tmp_path / "read"))
        assert second.code == 0, second.output


async def test_silent_chip_and_garbled_line(tmp_path: Path) -> None:
    """Issue. esptool says of the one that nothing came, of the other that it was noise."""
    once = ("--connect-attempts", "1", "flash-id")
    async with chip(tmp_path, faults=["silent"]).running() as board:
        silent = await esptool(board.port, *once)
    async with chip(tmp_path, faults=["garbage"]).running() as board:
        garbled = await esptool(board.port, *once)

    assert "No serial data received" in silent.output
    assert "Possible serial noise or corruption" in garbled.output
    assert 0 not in (silent.code, garbled.code)


async def test_secured_chips_say_so(tmp_path: Path) -> None:
    """Issue. Secure boot and flash encryption, in the security info and in what esptool then refuses."""
    (tmp_path / "data").write_bytes(noise(1000))
    async with chip(tmp_path, faults=["secure-boot", "flash-encryption=release"]).running() as board:
        info = await esptool(board.port, "get-security-info")
        written = await esptool(board.port, "write-flash", "0x10000", str(tmp_path / "data"))
        erased = await esptool(board.port, "--no-stub", "erase-region", "0", "0x1000")

        assert "Secure Boot: Enabled" in info.output
        assert "Flash Encryption: Enabled" in info.output
        assert "Flashing plaintext data may brick your device!" in written.output
        assert "Active security features detected" in erased.output
        assert 0 not in (written.code, erased.code)


async def test_secure_download_mode(tmp_path: Path) -> None:
    """Ours. No stub, no registers; flashing goes on without verification."""
    data = noise(3000)
    (tmp_path / "data").write_bytes(data)
    async with chip(tmp_path, faults=["secure-download"]).running() as board:
        run = await esptool(board.port, "write-flash", "--flash-size", "4MB", "0x10000", str(tmp_path / "data"))

        assert run.code == 0, run.output
        assert "Secure Download Mode" in run.output
        assert board.flash[0x10000 : 0x10000 + len(data)] == data


async def test_slow_line_takes_its_time(tmp_path: Path) -> None:
    """Issue. 10 kB at 115200 bit/s are most of a second."""
    (tmp_path / "data").write_bytes(noise(10_000))
    async with chip(tmp_path, faults=["slow=115200"]).running() as board:
        loop = asyncio.get_running_loop()
        began = loop.time()
        run = await esptool(board.port, "--no-stub", "write-flash", "0x0", str(tmp_path / "data"))

        assert run.code == 0, run.output
        assert loop.time() - began > 10_000 * 10 / 115200


async def test_killed_in_mid_write_the_next_one_goes_on_with_the_flash(tmp_path: Path) -> None:
    """Issue. SIGKILL: what was written is in the file, the rest is not, and the same file serves the next chip."""
    data = noise(300_000)
    (tmp_path / "data").write_bytes(data)
    async with chip(tmp_path, faults=["slow=1500000"]).running() as board:
        flashing = asyncio.create_task(esptool(board.port, "write-flash", "0x0", str(tmp_path / "data")))
        await board.wait_for("stub")
        await written(board, data[:32_000])
        board.kill()
        flashing.cancel()  # it would look for the port for seven seconds
        await asyncio.wait([flashing])

        assert board.flash[:32_000] == data[:32_000]
        assert board.flash[:300_000] != data
    async with chip(tmp_path).running() as board:
        again = await esptool(board.port, "write-flash", "0x0", str(tmp_path / "data"))

        assert again.code == 0, again.output
        assert board.flash[:300_000] == data


# booting


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
            with pytest.raises(SerialException):
                await listener.until("never")
        await board.wait_for("port", 2)
        async with listening(str(link)) as listener:
            await listener.until("(?s)POWERON.*app: started")


# its own life


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, None], ids=["SIGTERM", "SIGKILL", "stdin"])
async def test_nothing_is_left_however_it_ends(tmp_path: Path, how: signal.Signals | None) -> None:
    """Issue. Neither the chip nor its program, which ignores hang-ups, nor its folder; the link only after SIGKILL."""
    script = (
        b"#!/usr/bin/env python3\nimport signal, time\nsignal.signal(1, signal.SIG_IGN)\nprint('up')\ntime.sleep(60)\n"
    )
    flash_file(tmp_path / "flash.bin", script)
    link = tmp_path / "port"
    async with chip(tmp_path, link=link).running() as board:
        async with listening(str(link)) as listener:
            await listener.until("up\r\n")
        [program] = psutil.Process(board.pid).children(recursive=True)
        folder = Path(program.cwd())
        if how:
            os.kill(board.pid, how)
        else:
            await board.stop()
        await asyncio.to_thread(psutil.wait_procs, [program], 5)
        assert not program.is_running()
        await board.stop()
        assert not psutil.pid_exists(board.pid)
        assert folder.exists() == (how is signal.SIGKILL)
        assert os.path.lexists(link) == (how is signal.SIGKILL)
    async with chip(tmp_path, link=link).running() as board:
        assert str(link.readlink()) == board.port


async def test_two_chips_do_not_share_a_flash(tmp_path: Path) -> None:
    """Ours. The second is refused in one sentence; so are a wrong size and a link that is a file."""
    (tmp_path / "file").write_text("mine")
    async with chip(tmp_path).running():
        with pytest.raises(BadInput, match="is the flash of another virtual chip that runs now"):
            async with chip(tmp_path).running():
                pass
    with pytest.raises(BadInput, match="has 4194304 bytes, the flash only 2097152"):
        async with chip(tmp_path, flash_size="2MB").running():
            pass
    with pytest.raises(BadInput, match="is there and no symbolic link"):
        async with chip(tmp_path, link=tmp_path / "file").running():
            pass
    assert (tmp_path / "file").read_text() == "mine"


async def test_idle_chip_costs_next_to_nothing(tmp_path: Path) -> None:
    """Issue. Under 0.5 ms of processor time a second, with the port closed and with it open."""
    flash_file(tmp_path / "flash.bin", ECHO)
    async with chip(tmp_path).running() as board:
        async with listening(board.port) as listener:
            await listener.until("app: started")
            opened = await cost_ms(board.pid)
        await board.wait_for("closed")
        closed = await cost_ms(board.pid)

    assert max(opened, closed) < 0.5


async def test_command_line_prints_the_port_first(tmp_path: Path) -> None:
    """Issue. The path alone on stdout, events on stderr; it ends with its stdin when told to."""
    argv = [sys.executable, "-m", "mcp_server.demo.chip", "--pty", "--flash", str(tmp_path / "f.bin"), "--while-stdin"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    port = (await process.stdout.readline()).decode().strip()
    assert Path(port).is_char_device()
    process.stdin.close()
    _, errors = await process.communicate()

    assert process.returncode == 0, errors
    assert (tmp_path / "f.bin").stat().st_size == 4 << 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--fault", "no-such"], "fault: no-such is no fault; these are: silent"),
        (["--fault", "vanish=x"], "vanish=x: a number of bytes is missing"),
        (["--chip", "esp8266"], "chip: esp8266 is not simulated; these are: esp32c3"),
        (["--flash-size", "3MB"], "flash-size: 3MB is no flash size"),
        (["--mac", "1:2"], "mac: 1:2 is no MAC address"),
        (["--revision", "9"], "revision: 9 is no revision of ESP32-C3"),
        (["--play", "/nowhere"], "play: /nowhere is no file"),
    ],
)
async def test_wrong_options_are_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    """Ours. Exit code 2, no traceback."""
    argv = [sys.executable, "-m", "mcp_server.demo.chip", "--pty", "--flash", str(tmp_path / "f.bin"), *words]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
