"""The virtual chip before the real esptool: detected, flashed, read, and refused as a chip refuses."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.demo.chip import image
from mcp_server.demo.chip.models import MODELS
from tests.support.chip import ECHO, chip, esptool, write_images

# pyserial's own client starts a thread in a way that Python has deprecated.
pytestmark = [pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"), pytest.mark.timeout(30)]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


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
