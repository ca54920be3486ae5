"""Dumps that break off, come several at a time, or have no end: what is kept of them, and how much."""

import pytest

from mcp_server.idf.panic import PanicReader
from mcp_server.idf.panic.dump import FOREIGN_AFTER_FATAL, MAX_CORE_DUMP_CHARS, MAX_LINES
from mcp_server.idf.panic.reader import BEFORE_LINES
from tests.unit.idf.test_panic_reader import SERIAL, only, read


@pytest.mark.parametrize(
    ("filler", "most"), [("I (9) lamp: on\n", FOREIGN_AFTER_FATAL + 1), ("A1: 0x3ffb4f80\n", MAX_LINES + 1)]
)
def test_dump_without_an_end_is_closed_after_bounded_lines(filler: str, most: int) -> None:
    """Issue. Other lines end it soon, its own kind of lines later."""
    reader = PanicReader()
    reader.feed("abort() was called at PC 0x400d7a19 on core 0")
    fed = 0
    while reader.open:
        reader.feed(filler)
        fed += 1
        assert fed <= most

    assert reader.count == 1
    assert len(reader.panics[0].lines) <= 120


def test_lines_of_the_firmware_behind_a_warning_are_ahead_of_the_next_panic() -> None:
    """Ours."""
    log = (SERIAL / "composed-task-watchdog-warning.log").read_text()
    reader = read(log + "abort() was called at PC 0x400d7a19 on core 0\n")

    assert reader.panics[0].before == ("I (5400) lamp: still here", "I (5500) lamp: and here")
    assert (reader.count, reader.warning_count) == (1, 1)


def test_watchdog_that_only_warned_is_over_with_the_firmwares_next_line() -> None:
    """Ours. A watcher of firmware that goes on must not wait."""
    reader = read((SERIAL / "composed-task-watchdog-warning.log").read_text().split("I (5500)")[0], close=False)

    assert (reader.open, reader.warning_count) == (False, 1)


def test_corrupt_heap_ahead_of_a_reset_is_a_panic() -> None:
    """Ours. Nothing else was printed, and the chip did not go on."""
    reader = read(
        "CORRUPT HEAP: Bad head at 0x3ffb8b24. Expected 0xabba1234 got 0x0\nrst:0xc (SW_CPU_RESET),boot:0x13\n"
    )

    assert (reader.count, reader.warning_count, reader.panics[0].kind) == (1, 0, "heap_corruption")


def test_comments_of_a_decoding_monitor_do_not_end_a_dump() -> None:
    """Ours."""
    reader = read("abort() was called at PC 0x1 on core 0\n" + "--- 0x1: f at g.c:1\n" * 40, close=False)

    assert reader.open


def test_at_most_twenty_lines_ahead_of_a_panic_are_kept() -> None:
    """Issue."""
    reader = read("".join(f"line {n} {'x' * 500}\n" for n in range(50)) + "abort() was called at PC 0x1\n")

    before = reader.panics[0].before
    assert len(before) == BEFORE_LINES
    assert before[0].startswith("line 30 ")
    assert max(map(len, before)) <= 240


def test_panics_of_two_kinds_in_a_row_stay_two() -> None:
    """Ours. The second one comes while the first is still printed."""
    first = (SERIAL / "composed-load-prohibited.log").read_text().split("ELF file")[0]
    reader = read(first + "abort() was called at PC 0x400d7a19 on core 0\n")

    assert [panic.kind for panic in reader.panics] == ["load_fault", "abort"]


def test_only_the_first_cores_registers_are_kept() -> None:
    """Issue. The core at fault prints first."""
    panic = only("interrupt-watchdog")

    assert panic.registers["PC"] == 0x400D7A1C
    assert 0x400FFFFF not in panic.backtrace


def test_garbled_stack_line_ends_the_stack() -> None:
    """Ours. Words behind a gap would lie at wrong addresses."""
    log = (SERIAL / "serial-crash-c3-qemu.log").read_text()
    whole = read(log).panics[0]
    cut = read(log.replace("3fc8d550: 0x", "3fc8d55 0x", 1)).panics[0]

    assert cut.stack == whole.stack[:16]


def test_core_dump_is_kept_up_to_a_bound_and_noted() -> None:
    """Issue."""
    line = "A" * 64
    reader = read(
        "abort() was called at PC 0x400d7a19 on core 0\n"
        "================= CORE DUMP START =================\n"
        + f"{line}\n" * 8000
        + "================= CORE DUMP END =================\nRebooting...\n"
    )
    (panic,) = reader.panics

    assert panic.core_dump_bytes == 8000 * 48
    assert len(panic.core_dump) <= MAX_CORE_DUMP_CHARS * 1.02
    assert any("core dump" in note for note in panic.notes)
    assert not panic.core_dump_whole
    assert only("core-dump").core_dump_whole
    assert only("core-dump").core_dump.splitlines()[0] == "kCwAAAUAAAAIAAAAdAEAAAAAAAAAAAAA"


def test_core_dump_that_breaks_off_is_noted() -> None:
    """Ours."""
    reader = read("abort() was called at PC 0x1 on core 0\n= CORE DUMP START =\nAAAA\n")

    assert reader.panics[0].notes == ("the core dump is not complete",)


def test_flash_without_firmware_is_a_boot_loop_that_names_the_error() -> None:
    """Issue."""
    reader = read((SERIAL / "composed-failing-boot.log").read_bytes())
    assert reader.panics[0].kind == "unexplained_reset"
    assert reader.panics[0].cause == (
        "the chip was reset (0x7 TG0WDT_SYS_RST) without a panic: the last error was: invalid header: 0xffffffff"
    )
    assert reader.boot_loop == "boot loop: 3 boots in a row failed: invalid header: 0xffffffff"


def test_bootloader_that_gives_up_again_and_again_is_a_boot_loop() -> None:
    """Issue."""
    reader = read((SERIAL / "composed-failing-bootloader.log").read_bytes())

    (panic,) = reader.panics
    assert (panic.kind, reader.count) == ("boot_loop", 1)
    assert panic.cause == "boot loop: 3 boots in a row failed: boot: OTA app partition slot 0 is not bootable"


def test_firmware_that_restarts_itself_has_no_panic() -> None:
    """Ours. hello_world does so by intent; that it is a loop is said all the same."""
    boot = (SERIAL / "serial-ok-c3-qemu.log").read_text()
    again = boot.replace("rst:0x1 (POWERON)", "rst:0xc (RTC_SW_CPU_RST)")
    reader = read(boot + again * 3)

    assert reader.count == 0
    assert reader.boot_loop == "boot loop: reset 3 times (0xc RTC_SW_CPU_RST)"


def test_panic_without_a_hash_has_that_of_the_boot() -> None:
    """Ours. The firmware prints it when it starts."""
    log = "I (70) app_init: ELF file SHA256:  d8025d7e0...\nabort() was called at PC 0x1 on core 0\n"

    assert read(log).panics[0].elf_sha256 == "d8025d7e0"
