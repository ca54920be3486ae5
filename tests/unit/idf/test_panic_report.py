"""A panic in a few lines and as JSON; addresses by a stand-in with addr2line's command line."""

import asyncio
import hashlib
import json
import stat
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.panic import (
    Decoded,
    Decoders,
    Frame,
    Panic,
    PanicReader,
    decode,
    panic_details,
    panic_report,
)

SERIAL = Path(__file__).parents[2] / "fixtures" / "serial"
XTENSA, RISCV = 94, 243
JAL_RA = 0x000000EF


def make_elf(path: Path, machine: int, address: int, code: bytes) -> Path:
    """A 32-bit ELF file with one section of code and no debug information."""
    names = b"\0.text\0.shstrtab\0"
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    start = 52 + len(code) + len(names)
    header += struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, address, 0, start, 0, 52, 32, 0, 40, 3, 2)
    sections = [
        (0,) * 10,
        (1, 1, 6, address, 52, len(code), 0, 0, 2, 0),
        (7, 3, 0, 0, 52 + len(code), len(names), 0, 0, 1, 0),
    ]
    path.write_bytes(header + code + names + b"".join(struct.pack("<10I", *one) for one in sections))
    return path


def make_addr2line(folder: Path, answers: dict[int, list[tuple[str, str]]]) -> str:
    """Answers as GNU addr2line does with -a -f -i; whatever it does not know is `??`."""
    program = folder / "riscv32-esp-elf-addr2line"
    cases = "".join(
        f"    0x{address:x}) printf '0x{address:08x}\\n"
        + "".join(f"{function}\\n{place}\\n" for function, place in places)
        + "' ;;\n"
        for address, places in answers.items()
    )
    program.write_text(
        '#!/bin/sh\n[ "$1" = -e ] || exit 1\nwhile read -r at; do\n  case "$at" in\n'
        f"{cases}    *) printf '0x%08x\\n??\\n??:0\\n' \"$at\" ;;\n  esac\ndone\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def read(name: str) -> Panic:
    reader = PanicReader()
    for line in (SERIAL / name).read_text().splitlines():
        reader.feed(line)
    return reader.panics[0]


async def test_recorded_crash_is_decoded_as_esp_idfs_monitor_did(tmp_path: Path) -> None:
    """Issue. MEPC and RA read as in the recorded monitor session: inner at line 6, outer at 7."""
    main = "/home/dev/projects/crash_c3/main/hello_world_main.c"
    code = bytearray(0x10000)
    for back in (0x420057FC, 0x4200588E):  # RA, and the return address on the stack: each behind a call
        struct.pack_into("<I", code, back - 4 - 0x42000000, JAL_RA)
    elf = make_elf(tmp_path / "hello_world.elf", RISCV, 0x42000000, bytes(code))
    answers = {
        0x420057F0: [("inner", f"{main}:6")],
        0x420057FB: [("outer", f"{main}:7 (discriminator 3)")],
        0x4200588D: [("app_main", f"{main}:?")],
    }
    panic = read("serial-crash-c3-qemu.log").model_copy(update={"elf_sha256": None})
    async with asyncio.timeout(10):
        decoded = await decode(
            panic, elf, make_addr2line(tmp_path, answers), project=Path("/home/dev/projects/crash_c3")
        )

    assert [(one.function, one.place, one.certain) for one in decoded.frames] == [
        ("inner", "main/hello_world_main.c:6", True),
        ("outer", "main/hello_world_main.c:7", True),
        ("app_main", "main/hello_world_main.c", False),
    ]
    assert panic_report(decoded)[0] == "panic: wrote to address 0x00000000: a NULL pointer (Store access fault), core 0"
    assert "  inner main/hello_world_main.c:6" in panic_report(decoded)
    assert "  ? app_main main/hello_world_main.c" in panic_report(decoded)


async def test_recorded_crash_is_not_decoded_by_another_elf(tmp_path: Path) -> None:
    """Issue."""
    elf = make_elf(tmp_path / "hello_world.elf", RISCV, 0x42000000, bytes(64))
    async with asyncio.timeout(10):
        decoded = await decode(read("serial-crash-c3-qemu.log"), elf, make_addr2line(tmp_path, {}))

    sha256 = hashlib.sha256(elf.read_bytes()).hexdigest()
    assert decoded.matches is False
    assert f"has SHA-256 {sha256[:9]}, the firmware d8025d7e0" in decoded.notes[0]
    assert decoded.notes[0] in "\n".join(panic_report(decoded))


async def test_xtensa_backtrace_is_asked_as_printed_and_begins_with_the_users_frame(tmp_path: Path) -> None:
    """Issue. Xtensa's addresses lie inside their calls already; how the chip stops comes first and is no cause."""
    elf = make_elf(tmp_path / "lamp.elf", XTENSA, 0x400D0000, bytes(0x20000))
    idf = "/opt/esp-idf/components"
    answers = {
        0x400D7A19: [
            ("panic_abort", f"{idf}/esp_system/panic.c:491"),
            ("esp_system_abort", f"{idf}/esp_system/esp_system.c:1"),
        ],
        0x400D7A5C: [("abort", f"{idf}/esp_libc/src/abort.c:38")],
        0x400E1B0F: [("Lamp::on(int)", "./main/lamp.cpp:30"), ("app_main", "./main/lamp.cpp:12")],
        0x40086B95: [("vPortTaskWrapper", f"{idf}/freertos/port.c:139")],
    }
    panic = read("composed-abort.log").model_copy(update={"elf_sha256": None})
    async with asyncio.timeout(10):
        decoded = await decode(panic, elf, make_addr2line(tmp_path, answers))

    assert [(one.function, one.inlined, one.handler) for one in decoded.frames] == [
        ("panic_abort", True, True),
        ("esp_system_abort", False, True),
        ("abort", False, True),
        ("Lamp::on(int)", True, False),
        ("app_main", False, False),
        ("vPortTaskWrapper", False, True),
    ]
    assert panic_report(decoded) == [
        "panic: abort() was called, core 0",
        "  Lamp::on ./main/lamp.cpp:30",
        "  app_main ./main/lamp.cpp:12",
        "before it:",
        "  | # composed from the texts in ESP-IDF's sources; no chip printed it",
        "  | I (322) lamp: no card",
    ]


async def test_corrupt_heap_is_shown_from_who_freed_and_not_from_the_heap(tmp_path: Path) -> None:
    """Ours. The heap's own functions only notice it."""
    elf = make_elf(tmp_path / "lamp.elf", XTENSA, 0x400D0000, bytes(0x20000))
    answers = {
        0x400D7A19: [("multi_heap_free", "multi_heap_poisoning.c:279")],
        0x400D7A5C: [("free", "heap.c:40")],
        0x400E1B0F: [("let_go", "./main/lamp.c:9")],
    }
    panic = read("composed-heap-corruption.log").model_copy(update={"elf_sha256": None})
    async with asyncio.timeout(10):
        decoded = await decode(panic, elf, make_addr2line(tmp_path, answers))

    assert decoded.cause_frames[0].function == "let_go"


async def test_thousand_different_addresses_are_answered_by_one_process(tmp_path: Path) -> None:
    """Ours. They go in batches: neither side waits for the other with a full pipe."""
    elf = make_elf(tmp_path / "lamp.elf", XTENSA, 0x400D0000, bytes(0x20000))
    program = make_addr2line(tmp_path, {})
    started = time.monotonic()
    async with asyncio.timeout(20), Decoders() as decoders:
        for first in range(0, 1000, 100):
            panic = Panic(kind="abort", cause="x", backtrace=tuple(0x400D0000 + 4 * (first + n) for n in range(100)))
            decoded = await decoders.decode(panic, elf, program)
            assert len(decoded.frames) == 100

    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", sorted(path.name for path in SERIAL.glob("composed-*.log")))
def test_every_composed_panic_has_a_short_report_without_an_elf(name: str) -> None:
    """Issue. Cause first, at most 600 bytes; a place that the firmware printed itself is in it."""
    reader = PanicReader()
    for line in (SERIAL / name).read_text().splitlines():
        reader.feed(line)
    panic = (reader.panics + reader.warnings)[0]
    lines = panic_report(Decoded(panic=panic, frames=tuple(Frame(address=one) for one in panic.backtrace)))

    assert lines[0].startswith("panic: ")
    assert panic.cause[:60] in lines[0]
    assert sum(len(line.encode()) + 1 for line in lines) <= 600
    assert panic.file is None or f"{panic.file}:{panic.line}" in "\n".join(lines)


@given(
    st.text(max_size=500),
    st.lists(st.text(max_size=300), max_size=20),
    st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300), st.integers(0, 10**9)), max_size=40),
    st.text(max_size=400),
)
def test_no_text_makes_a_report_longer_than_its_limit(
    cause: str, before: list[str], frames: list[tuple[str, str, int]], note: str
) -> None:
    """Issue."""
    panic = Panic(kind="abort", cause=cause, before=tuple(before), file=note or None, line=1)
    shown = tuple(Frame(address=n, function=name, file=file, line=n) for name, file, n in frames)
    decoded = Decoded(panic=panic, frames=shown, notes=(note, note))
    lines = panic_report(decoded)

    assert sum(len(line.encode("utf-8", "replace")) + 1 for line in lines) <= 600
    assert not any(ord(letter) < 32 for letter in "".join(lines))


def test_details_for_a_program_are_json_without_stack_and_core_dump() -> None:
    """Ours."""
    panic = read("composed-core-dump.log")
    frames = tuple(Frame(address=n, function="f" * 1000, file="main/lamp.c", line=3) for n in range(100))
    text = json.dumps(panic_details(Decoded(panic=panic, frames=frames, notes=("a note",))))

    assert len(text) < 16_000
    details = json.loads(text)
    assert details["pc"] == "0x400d7a19"
    assert details["frames"][1]["address"] == "0x00000001"
    assert details["notes"] == ["a note"]
    assert not {"stack", "core_dump", "registers"} & set(details)


def test_hash_of_zeros_is_none() -> None:
    """Ours. An image that was never given its ELF's hash prints zeros."""
    reader = PanicReader()
    for line in ("abort() was called at PC 0x1 on core 0", "ELF file SHA256: 000000000", "Rebooting..."):
        reader.feed(line)

    assert reader.panics[0].elf_sha256 is None
