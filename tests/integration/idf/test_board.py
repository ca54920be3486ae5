"""The real esptool and a virtual chip: what a board says of itself, and why one cannot be read."""

import asyncio
import fcntl
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mcp_server.demo.chip import VirtualChip
from mcp_server.idf.board import Board, BoardError, read_board

ESPTOOL = [sys.executable, "-m", "esptool"]
pytestmark = pytest.mark.skipif(
    find_spec("esptool") is None, reason="esptool is not installed: pip install -e '.[demo]'"
)


async def read(chip: VirtualChip, timeout_s: float = 20) -> Board:
    async with asyncio.timeout(25), chip.running() as running:
        return await read_board(ESPTOOL, running.port, dict(os.environ), timeout_s=timeout_s)


@pytest.mark.parametrize("way", ["pty", "socket"])  # over RFC 2217 pyserial takes 12 s a run
async def test_a_board_tells_what_it_is(tmp_path: Path, way: str) -> None:
    """Issue: chip, revision, MAC, flash size, security state, crystal; also of a board behind a network port."""
    chip = VirtualChip(tmp_path / "flash.bin", mac="7c:df:a1:00:11:22", flash_size="8MB", way=way)
    board = await read(chip)
    assert (board.chip, board.target, board.mac, board.flash_size) == (
        *("ESP32-C3", "esp32c3", "7c:df:a1:00:11:22", "8MB"),
    )
    assert board.revision and board.revision.startswith("v")
    assert (board.crystal, board.secure_boot, board.flash_encryption, board.guarded) == ("40MHz", False, False, None)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("secure-boot", "secure boot is on"),
        ("flash-encryption", "flash encryption is on"),
        ("secure-download", "in secure download mode"),
    ],
)
async def test_a_guarded_chip_says_so(tmp_path: Path, fault: str, word: str) -> None:
    """Issue: the security state, and what it means for a flash."""
    board = await read(VirtualChip(tmp_path / "flash.bin", faults=[fault]))
    assert str(board.guarded).startswith(word)


@pytest.mark.parametrize(("fault", "reason"), [("silent", "no_answer"), ("garbage", "garbage")])
async def test_why_a_board_cannot_be_read(tmp_path: Path, fault: str, reason: str) -> None:
    """Issue."""
    with pytest.raises(BoardError) as error:
        await read(VirtualChip(tmp_path / "flash.bin", faults=[fault]))
    assert error.value.reason == reason


async def test_a_port_that_is_gone_or_locked(tmp_path: Path) -> None:
    """Issue."""
    with pytest.raises(BoardError) as error:
        await read_board(ESPTOOL, str(tmp_path / "ttyUSB0"), dict(os.environ))
    assert error.value.reason == "no_port"
    master, slave = os.openpty()
    fcntl.flock(slave, fcntl.LOCK_EX)
    with pytest.raises(BoardError) as error:
        await read_board(ESPTOOL, os.ttyname(slave), dict(os.environ))
    os.close(slave)
    os.close(master)
    assert error.value.reason == "port_busy"
