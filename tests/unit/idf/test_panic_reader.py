"""Panics are found in what a chip prints, whatever comes with them, and read as a person wants them."""

from pathlib import Path
from typing import Any

import pytest

from mcp_server.idf.panic import Panic, PanicReader
from mcp_server.idf.panic.reader import KEPT

SERIAL = Path(__file__).parents[2] / "fixtures" / "serial"
LINE_BYTES = 4096  # as callers cut


def read(data: bytes | str, *, close: bool = True) -> PanicReader:
    reader = PanicReader()
    for line in lines_of(data if isinstance(data, bytes) else data.encode()):
        reader.feed(line)
    if close:
        reader.close()
    return reader


def lines_of(data: bytes) -> list[str]:
    """Lines with their ends, long ones cut, as a caller makes them."""
    pieces = [line[at : at + LINE_BYTES] for line in data.split(b"\n") for at in range(0, len(line) or 1, LINE_BYTES)]
    return [piece.decode("utf-8", "replace") for piece in pieces]


def only(name: str) -> Panic:
    reader = read((SERIAL / f"composed-{name}.log").read_bytes())
    (panic,) = reader.panics + reader.warnings
    return panic


BACKTRACE = (0x400D7A19, 0x400D7A5C, 0x400E1B0F, 0x40086B95)

EXPECTED: dict[str, dict[str, Any]] = {
    "load-prohibited": {
        "kind": "load_fault",
        "cause": "read from address 0x00000010: a NULL pointer (or a member of one) (LoadProhibited)",
        "core": 1,
        "pc": 0x400D7A1C,
        "backtrace": BACKTRACE,
        "elf_sha256": "4f2c9ab17",
    },
    "abort": {"kind": "abort", "cause": "abort() was called", "core": 0, "pc": 0x400D7A19, "backtrace": BACKTRACE},
    "assert": {
        "kind": "assert",
        "cause": "assert failed at queue.c:937: "
        "!( ( pvItemToQueue == 0 ) && ( pxQueue->uxItemSize != ( UBaseType_t ) 0U ) )",
        "file": "queue.c",
        "line": 937,
        "function": "xQueueGenericSend",
    },
    "error-check": {
        "kind": "error_check",
        "cause": 'ESP_ERROR_CHECK got ESP_ERR_NVS_NOT_FOUND (0x1102) from nvs_get_i32(handle, "hue", &hue)',
        "file": "./main/lamp.c",
        "line": 57,
        "function": "app_main",
        "pc": 0x400D7A19,
        "core": 0,
    },
    "stack-smashing": {"kind": "stack_smashing", "backtrace": BACKTRACE},
    "stack-overflow": {
        "kind": "stack_overflow",
        "cause": "a stack overflow in task blinker",
        "task": "blinker",
        "backtrace_corrupted": True,
    },
    "stack-canary": {"kind": "stack_overflow", "cause": "a stack overflow in task main", "task": "main"},
    "stack-guard": {
        "kind": "stack_overflow",
        "cause": "a stack overflow in task blinker",
        "task": "blinker",
        "pc": 0x42007C58,
        "stack_at": 0x3FC93B10,
    },
    "task-watchdog-warning": {
        "kind": "task_watchdog",
        "fatal": False,
        "tasks": ("IDLE0", "lamp worker"),
        "task": "lamp worker",
        "backtrace": BACKTRACE,
    },
    "task-watchdog-panic": {
        "kind": "task_watchdog",
        "fatal": True,
        "tasks": ("IDLE0",),
        "task": "main",
        "cause": "a task did not let others run in time: IDLE0 did not reset the task watchdog while main ran",
        "pc": 0x42007C58,
    },
    "interrupt-watchdog": {"kind": "interrupt_watchdog", "core": 1, "pc": 0x400D7A1C, "backtrace": BACKTRACE},
    "brownout": {"kind": "brownout", "fatal": True},
    "heap-corruption": {
        "kind": "heap_corruption",
        "fatal": True,
        "cause": "the heap is corrupt: Bad tail at 0x3ffb8b24. Expected 0xbaad5678 got 0xbaad5600",
        "function": "multi_heap_free",
    },
    "heap-check": {"kind": "heap_corruption", "fatal": False},
    "double-exception": {"kind": "double_exception", "core": 0},
    "cache-error": {"kind": "cache_error"},
    "illegal-instruction": {"kind": "illegal_instruction", "pc": 0x400D7A1C},
    "cpp-terminate": {
        "kind": "cpp_terminate",
        "core": 1,
        "cause": "a C++ exception was not caught: std::out_of_range: "
        "vector::_M_range_check: __n (which is 7) >= this->size() (which is 3)",
    },
    "core-dump": {"kind": "abort", "core_dump_bytes": 54},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_composed_panic_is_read_once_with_its_facts(name: str) -> None:
    """Issue. Composed from the texts in ESP-IDF's sources."""
    panic = only(name)

    assert {field: getattr(panic, field) for field in EXPECTED[name]} == EXPECTED[name]


def test_every_composed_log_has_an_expectation() -> None:
    """Ours."""
    names = {path.stem.removeprefix("composed-") for path in SERIAL.glob("composed-*.log")}

    assert names - set(EXPECTED) == {"failing-boot", "failing-bootloader"}


def test_recorded_crash_is_counted_and_read_exactly() -> None:
    """Issue. The chip wrote to NULL seven times, rebooting in between, and was cut off in the eighth."""
    reader = read((SERIAL / "serial-crash-c3-qemu.log").read_bytes())
    panic = reader.panics[0]

    assert (reader.count, len(reader.panics), reader.open) == (7, KEPT, False)
    assert panic.kind == "store_fault"
    assert panic.cause == "wrote to address 0x00000000: a NULL pointer (Store access fault)"
    assert (panic.core, panic.pc, panic.registers["RA"], panic.registers["S0/FP"]) == (
        0,
        0x420057F0,
        0x420057FC,
        0x3C014000,
    )
    assert (panic.stack_at, len(panic.stack), panic.stack[3], panic.stack[-1]) == (
        0x3FC8D510,
        256,
        0x4200588E,
        0xA5A5A5A5,
    )
    assert panic.elf_sha256 == "d8025d7e0"
    assert panic.before[-3:] == (
        "I (80) crashapp: started",
        "W (80) crashapp: about to crash",
        "E (80) crashapp: error line",
    )
    assert panic.lines[0].startswith("Guru Meditation Error")
    assert panic.lines[-1] == "Rebooting..."
    assert [one.reboots for one in reader.panics] == [0, 1, 2]
    assert reader.boot_loop == "boot loop: the same panic 7 times in a row"


def test_recorded_boot_without_a_crash_has_no_panic() -> None:
    """Issue."""
    reader = read((SERIAL / "serial-ok-c3-qemu.log").read_bytes())
    assert (reader.count, reader.warning_count, reader.boot_loop) == (0, 0, None)
    assert reader.elf_sha256 == "4137b4c44"


def test_crash_in_a_monitor_that_decodes_is_read_the_same() -> None:
    """Issue. The monitor's own lines begin with `---`; its Traceback is not the firmware's."""
    reader = read((SERIAL / "idf-monitor-crash-decoded-socket.log").read_bytes())
    (panic,) = reader.panics

    assert (panic.kind, panic.pc, panic.registers["MTVAL"]) == ("store_fault", 0x420057F0, 0)
    assert "Traceback (most recent call last):" not in panic.lines


@pytest.mark.parametrize(
    "line",
    [
        "\x1b[0;31mGuru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.\x1b[0m\r\n",
        "2026-11-20 21:33:13.123 Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.\r",
        "[12:00:01.5] I (80) lamGuru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.",
        "\x00\x00Guru Meditation\x00 Error: Core  0 panic'ed (LoadProhibited). \x1b",
    ],
)
def test_colours_prefixes_and_line_ends_do_not_hide_a_panic(line: str) -> None:
    """Issue."""
    reader = read(line)

    assert (reader.count, reader.panics[0].kind, reader.panics[0].core) == (1, "load_fault", 0)


@pytest.mark.parametrize("prefix", ["2026-11-20 21:33:13.123 ", "\x1b[0;31m", "[   0.123] "])
def test_whole_dump_behind_time_stamps_reads_the_same(prefix: str) -> None:
    """Issue."""
    lines = (SERIAL / "composed-load-prohibited.log").read_text().splitlines()
    plain, stamped = read("\n".join(lines)), read("\r\n".join(prefix + line for line in lines))

    for field in ("kind", "cause", "core", "pc", "backtrace", "registers", "elf_sha256"):
        assert getattr(stamped.panics[0], field) == getattr(plain.panics[0], field)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (
            "assert failed: void Lamp::set(int, const Hue&) lamp.cpp:31 (hue.ok())",
            ("lamp.cpp", 31, "void Lamp::set(int, const Hue&)", "hue.ok()"),
        ),
        ("assert failed: \b /IDF/components/heap/heap_caps.c:40", ("/IDF/components/heap/heap_caps.c", 40, None, None)),
        ("assert failed at main/lamp.c:9 (set): how > 0", ("main/lamp.c", 9, "set", "how > 0")),
        ('assertion "how > 0" failed: file "main/lamp.c", line 9, function: set', ("main/lamp.c", 9, "set", "how > 0")),
        ("lamp.elf: main/lamp.c:9: set: Assertion `how > 0' failed.", ("main/lamp.c", 9, "set", "how > 0")),
    ],
)
def test_every_form_of_assert_gives_its_place(line: str, place: tuple[str, int, str | None, str | None]) -> None:
    """Issue. ESP-IDF in C and C++, ESP-IDF for linux, newlib, glibc."""
    (panic,) = read(line).panics

    assert (panic.file, panic.line, panic.function, panic.expression) == place
    assert panic.kind == "assert"


@pytest.mark.parametrize(
    "line",
    [
        "ESP_ERROR_CHECK_WITHOUT_ABORT failed: esp_err_t 0x105 (ESP_ERR_NOT_FOUND) at 0x400d7a19",
        "I (1) test: no Guru Meditation Error here",
        "I (1) docs: abort() was called at noon",
        "I (1) wifi: Brownout is a word",
        "Rebooting...",
        "Backtrace: 0x400d7a19:0x3ffb4f80",
    ],
)
def test_text_that_only_resembles_a_panic_is_none(line: str) -> None:
    """Ours."""
    assert read(line).count == 0


def test_reader_is_open_from_the_first_to_the_last_line_of_a_dump() -> None:
    """Issue. A watcher waits for the end; what there is so far is to be had at once."""
    lines = (SERIAL / "composed-load-prohibited.log").read_text().splitlines()
    reader, opens = PanicReader(), list[bool]()
    for line in lines:
        reader.feed(line)
        opens.append(reader.open)
        if reader.open:
            assert (reader.count, reader.panics[0].kind) == (1, "load_fault")

    assert opens.index(True) == next(i for i, line in enumerate(lines) if line.startswith("Guru"))
    assert opens[lines.index("Rebooting...") - 1]
    assert not opens[lines.index("Rebooting...")]
