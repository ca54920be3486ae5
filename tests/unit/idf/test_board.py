"""What esptool says of a board, and what its failures mean: output of esptool 5.6, paths shortened.

What ESP32, locked chips and esptool 4 print is composed from esptool's own source, not recorded.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mcp_server.errors import EnvironmentMissing
from mcp_server.idf.board import Board, BoardError, parse_board, read_board, trouble_of

SECURITY = """esptool v5.6.0
Serial port /dev/ttyUSB0:
Connecting....
Detecting chip type... ESP32-C3
Connected to ESP32-C3 on /dev/ttyUSB0:
Chip type:          ESP32-C3 (QFN32) (revision v0.3)
Features:           Wi-Fi, BT 5 (LE), Single Core, 160MHz
Crystal frequency:  40MHz
MAC:                7c:df:a1:00:11:22


Security Information:
=====================
Flags: 0x00000000 (0b0)
Chip ID: 5
API Version: 3
Secure Boot: Disabled
Flash Encryption: Disabled
SPI Boot Crypt Count (SPI_BOOT_CRYPT_CNT): 0x0
"""
FLASH = """Connected to ESP32-C3 on /dev/ttyUSB0:
Flash Memory Information:
=========================
Manufacturer: c8
Device: 4016
Detected flash size: 4MB

Hard resetting via RTS pin...
"""
ESP32 = """Connected to ESP32 on /dev/ttyUSB0:
Chip type:          ESP32-D0WD-V3 (revision v3.1)
Features:           Wi-Fi, BT, Dual Core + LP Core, 240MHz, Vref calibration in eFuse
Crystal frequency:  40MHz
MAC:                24:6f:28:aa:bb:cc

ERROR: A fatal error occurred: This command (0x14) is not supported on this chip
"""
LOCKED = """Connecting....
Detecting chip type... ESP32-S3
Connected to ESP32-S3 on /dev/ttyUSB0:
Chip type:          ESP32-S3 in Secure Download Mode

Security Information:
Secure Boot: Enabled
Flash Encryption: Enabled
"""
FOUR = """esptool.py v4.8.1
Serial port /dev/ttyUSB0
Connecting....
Detecting chip type... ESP32-C6
Chip is ESP32-C6 (QFN40) (revision v0.1)
Features: WiFi 6, BT 5, IEEE802.15.4
Crystal is 40MHz
USB mode: USB-Serial/JTAG
MAC: 60:55:f9:ff:fe:f7:2c:a2
BASE MAC: 60:55:f9:f7:2c:a2
MAC_EXT: ff:fe
Detected flash size: 8MB
"""
FATAL = "\nERROR: A fatal error occurred: "


def test_a_boards_facts_are_read() -> None:
    """Issue."""
    board = parse_board(SECURITY + FLASH)
    assert board == Board(
        chip="ESP32-C3",
        model="ESP32-C3 (QFN32)",
        revision="v0.3",
        features="Wi-Fi, BT 5 (LE), Single Core, 160MHz",
        crystal="40MHz",
        mac="7c:df:a1:00:11:22",
        flash_size="4MB",
        secure_boot=False,
        flash_encryption=False,
    )
    assert (board.target, board.guarded) == ("esp32c3", None)
    assert board.text == (
        "ESP32-C3 (QFN32) v0.3, MAC 7c:df:a1:00:11:22, 4MB flash, 40MHz crystal, secure boot off, flash encryption off"
    )


def test_what_an_older_chip_does_not_say_is_unknown() -> None:
    """Ours. The ROM of an ESP32 has no security info."""
    board = parse_board(ESP32 + "Detected flash size: Unknown\n")
    assert (board.chip, board.model, board.revision, board.target) == ("ESP32", "ESP32-D0WD-V3", "v3.1", "esp32")
    assert board.text.endswith("flash size unknown, 40MHz crystal, secure boot unknown, flash encryption unknown")


def test_a_locked_chip_is_known_by_its_security_state() -> None:
    """Issue."""
    board = parse_board(LOCKED)
    assert (board.chip, board.model, board.secure_boot, board.flash_encryption) == ("ESP32-S3", "ESP32-S3", True, True)
    assert board.secure_download
    assert str(board.guarded).startswith("in secure download mode only signed images")


@pytest.mark.parametrize(
    ("line", "word"),
    [("Secure Boot: Enabled", "secure boot is on"), ("Flash Encryption: Enabled", "flash encryption is on")],
)
def test_what_makes_flashing_another_matter_is_said(line: str, word: str) -> None:
    """Issue."""
    board = parse_board(SECURITY.replace(line.replace("Enabled", "Disabled"), line) + FLASH)
    assert str(board.guarded).startswith(word)


def test_esptool_4_is_understood() -> None:
    """Ours. It comes with ESP-IDF up to 5.5."""
    board = parse_board(FOUR)
    assert (board.chip, board.model, board.revision) == ("ESP32-C6", "ESP32-C6 (QFN40)", "v0.1")
    assert (board.mac, board.crystal, board.flash_size) == ("60:55:f9:ff:fe:f7:2c:a2", "40MHz", "8MB")
    assert board.usb_mode == "USB-Serial/JTAG"


@pytest.mark.parametrize(
    ("output", "reason", "sentence"),
    [
        (
            f"{FATAL}Failed to connect to ESP32: Wrong boot mode detected (0x13)! The chip needs to "
            "be in download mode.",
            "no_boot_mode",
            "the chip started its firmware, not its loader (boot mode 0x13)",
        ),
        (
            f"{FATAL}Failed to connect to Espressif device: Invalid head of packet (0x45): Possible serial noise or "
            "corruption.",
            "no_boot_mode",
            "the chip runs its firmware and did not enter its loader",
        ),
        (
            f"{FATAL}Failed to connect to Espressif device: Invalid head of packet (0xF8): Possible serial noise or "
            "corruption.",
            "garbage",
            "what the chip answers on /dev/ttyUSB0 cannot be read",
        ),
        (
            f"{FATAL}Failed to connect to Espressif device: No serial data received.",
            "no_answer",
            "no chip answers on /dev/ttyUSB0",
        ),
        (
            f"{FATAL}Failed to connect to ESP32-C3: Download mode successfully detected, but getting no sync reply: "
            "The serial TX path seems to be down.",
            "no_answer",
            "the chip is in download mode, but does not hear /dev/ttyUSB0",
        ),
        (
            f"{FATAL}Could not open /dev/ttyUSB0, the port is busy or doesn't exist.\n([Errno 2] could not open port "
            "/dev/ttyUSB0: [Errno 2] No such file or directory: '/dev/ttyUSB0')",
            "no_port",
            "/dev/ttyUSB0 is not there",
        ),
        (
            f"{FATAL}Could not open /dev/ttyUSB0, the port is busy or doesn't exist.\n([Errno 13] could not open port "
            "/dev/ttyUSB0: [Errno 13] Permission denied: '/dev/ttyUSB0')",
            "permission",
            "/dev/ttyUSB0 may not be opened by this user",
        ),
        (
            f"{FATAL}Could not open /dev/ttyUSB0, the port is busy or doesn't exist.\n([Errno 11] Could not "
            "exclusively lock port /dev/ttyUSB0: [Errno 11] Resource temporarily unavailable)",
            "port_busy",
            "/dev/ttyUSB0 is open in another program",
        ),
        (
            "ERROR: A serial exception error occurred: device reports readiness to read but returned no data (device "
            "disconnected or multiple access on port?)",
            "port_gone",
            "/dev/ttyUSB0 vanished while it was used",
        ),
        (
            f"{FATAL}Could not open socket://127.0.0.1:9, the port is busy or doesn't exist.\n(Could not open port "
            "socket://127.0.0.1:9: [Errno 111] Connection refused)",
            "unreachable",
            "nothing answers at /dev/ttyUSB0",
        ),
        (
            "\nA fatal error occurred: The chip stopped responding.",
            "garbage",
            "what the chip answers on /dev/ttyUSB0 cannot be read",
        ),
        (
            f"{FATAL}This chip is ESP32-C3, not ESP32. Wrong chip argument?",
            "wrong_chip",
            "the board has an ESP32-C3, the build is for ESP32",
        ),
        ("Traceback …\nValueError: strange", "unknown", "esptool says: ValueError: strange"),
        ("", "unknown", "esptool says: nothing"),
    ],
)
def test_each_failure_has_its_reason(output: str, reason: str, sentence: str) -> None:
    """Issue: no boot mode, busy, not there, garbage; each with what to do."""
    trouble = trouble_of(output, "/dev/ttyUSB0")
    assert (trouble.name, trouble.sentence) == (reason, sentence)
    assert trouble.mend


class Stand:
    """Runs no esptool: answers for it."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.answers, self.asked = answers, list[str]()

    async def __call__(self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        self.asked.append(argv[-1])
        return self.answers[argv[-1].replace("-", "_")]


async def test_a_board_that_cannot_be_reached_is_asked_once() -> None:
    """Ours. Each try takes seconds and resets the board."""
    runner = Stand(get_security_info=(2, "", f"{FATAL}Failed to connect to Espressif device: No serial data received."))
    with pytest.raises(BoardError, match=r"^no chip answers on /dev/ttyUSB0: hold BOOT, press RESET") as error:
        await read_board(["esptool"], "/dev/ttyUSB0", {}, runner=runner)
    assert (error.value.reason, runner.asked) == ("no_answer", ["get-security-info"])


async def test_a_chip_without_security_info_is_read_all_the_same() -> None:
    """Ours."""
    runner = Stand(get_security_info=(2, ESP32, ""), flash_id=(0, ESP32 + "Detected flash size: 4MB\n", ""))
    board = await read_board(["esptool"], "/dev/ttyUSB0", {}, runner=runner)
    assert (board.chip, board.flash_size, board.secure_boot) == ("ESP32", "4MB", None)


async def test_a_locked_chip_is_not_asked_for_its_flash() -> None:
    """Ours. It could only refuse."""
    runner = Stand(get_security_info=(0, LOCKED, ""))
    assert (await read_board(["esptool"], "/dev/ttyUSB0", {}, runner=runner)).secure_download
    assert runner.asked == ["get-security-info"]


async def test_esptool_4_is_asked_in_its_own_words() -> None:
    """Ours."""
    asked: list[str] = []

    async def four(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        asked.append(argv[-1])
        if "-" in argv[-1]:
            return 2, "", f"esptool: error: argument operation: invalid choice: '{argv[-1]}' (choose from …)"
        return 0, FOUR, ""

    assert (await read_board(["esptool.py"], "/dev/ttyUSB0", {}, runner=four)).chip == "ESP32-C6"
    assert asked == ["get-security-info", "get_security_info", "flash-id", "flash_id"]


async def test_an_esptool_that_hangs_is_ended(tmp_path: Path) -> None:
    """Ours: bounded."""
    program = tmp_path / "esptool"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    async with asyncio.timeout(5):
        with pytest.raises(BoardError, match=r"esptool did not end within 0\.2 s"):
            await read_board([str(program)], "/dev/ttyUSB0", {"PATH": "/usr/bin:/bin"}, timeout_s=0.2)


async def test_a_missing_esptool_is_said_with_what_brings_it(tmp_path: Path) -> None:
    """Ours: a program that is absent, a Python that has no such module."""
    without = Stand(get_security_info=(1, "", "/usr/bin/python3: No module named esptool"))
    with pytest.raises(EnvironmentMissing, match="pip install 'esptool>=5'"):
        await read_board([str(tmp_path / "absent")], "/dev/ttyUSB0", {})
    with pytest.raises(EnvironmentMissing, match="pip install 'esptool>=5'"):
        await read_board(["python3", "-m", "esptool"], "/dev/ttyUSB0", {}, runner=without)
