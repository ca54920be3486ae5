"""The log of an emulation, taken apart: preparation, emulator, firmware."""

import pytest

from mcp_server.idf.qemu_log import MAX_LINE_BYTES, EmulatorLog

PREPARED = (
    b"build-orchestrator: merging the flash image\n"
    b"esptool v5.6.0\n"
    b"QEMU emulator version 9.2.2 (esp_develop_9.2.2_20250817)\n"
    b"Copyright (c) 2003-2024 Fabrice Bellard and the QEMU Project developers\n"
    b"build-orchestrator: gdb: target remote 127.0.0.1:4711\n"
    b"build-orchestrator: the emulator starts\n"
)
RAN = (
    b"Adding SPI flash device\n"
    b"ESP-ROM:esp32c3-api1-20210207\r\n"
    b"I (80) main_task: Calqemu-system-riscv32: warning: slirp is slow\n"
    b"ling app_main()\r\n"
    b"lamp> "
    b"qemu-system-riscv32: terminating on signal 15 from pid 8980 (timeout)\n"
)
FIRMWARE = b"ESP-ROM:esp32c3-api1-20210207\r\nI (80) main_task: Calling app_main()\r\nlamp> "


def read(data: bytes, piece: int) -> tuple[EmulatorLog, bytes]:
    log = EmulatorLog()
    said = b"".join(log.feed(data[start : start + piece]) for start in range(0, len(data), piece))
    return log, said + log.close()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 10_000])
def test_the_firmwares_bytes_come_out_whole_whatever_the_pieces(piece: int) -> None:
    """Ours. A line of QEMU may break into one of the UART; its words must not reach the rules for the firmware."""
    log, said = read(PREPARED + RAN, piece)

    assert said == FIRMWARE
    assert log.said == ["warning: slirp is slow"]
    assert log.complaint == ""
    assert log.version == "QEMU emulator version 9.2.2 (esp_develop_9.2.2_20250817)"
    assert log.gdb == "127.0.0.1:4711"
    assert log.told == ["merging the flash image"]
    assert (log.started, log.spoke) == (True, True)


def test_what_only_looks_like_qemu_is_the_firmwares_at_once() -> None:
    """Ours. A prompt or a letter q must not wait for a line's end that never comes, unless it may be QEMU's name."""
    log = EmulatorLog()
    log.feed(PREPARED)

    assert log.feed(b"boot\n> ") == b"boot\n> "
    assert log.feed(b"qem") == b""
    assert log.feed(b"ele\n") == b"qemele\n"
    assert log.feed(b"the qemu-system-") == b"the "
    assert log.feed(b"!\n") == b"qemu-system-!\n"
    assert log.close() == b""


def test_the_first_error_of_qemu_is_its_complaint() -> None:
    """Ours. Warnings come before it, and the word of its own end after it."""
    said = (
        b"qemu-system-xtensa: warning: this\n"
        b"qemu-system-xtensa: Drive size error: only 2, 4, 8, and 16MB images are supported\n"
        b"qemu-system-xtensa: something else\n"
    )
    log, firmware = read(PREPARED + said, 10_000)

    assert firmware == b""
    assert log.complaint == "Drive size error: only 2, 4, 8, and 16MB images are supported"
    assert not log.spoke


def test_endless_output_is_held_in_bounds() -> None:
    """Ours. No newline for 1 MB, before the start and after it, from the firmware and from QEMU."""
    log = EmulatorLog()
    for _ in range(20):
        assert log.feed(b"x" * 65_536) == b""
    log.feed(b"\n" + PREPARED)

    assert log.feed(b"y" * 1_000_000) == b"y" * 1_000_000
    assert log.feed(b"\nqemu-system-riscv32: " + b"z" * 1_000_000) == b"\n"
    assert log.feed(b"z\nqemu-system-riscv32: a\n" * 100).count(b"qemu") == 0
    assert sum(map(len, (*log.said, *log.printed))) <= 25 * MAX_LINE_BYTES


def test_a_job_that_ends_before_the_emulator_keeps_its_last_words() -> None:
    """Ours. The last line has no end where a program was killed."""
    log, firmware = read(b"build-orchestrator: merging the flash image\nTraceback\nValueError: no", 5)

    assert firmware == b""
    assert not log.started
    assert (log.told, log.printed) == (["merging the flash image"], ["Traceback", "ValueError: no"])
