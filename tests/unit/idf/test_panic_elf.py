"""What a decoder takes from an ELF file is bounded, whatever the file says of itself: small files, made by hand."""

import asyncio
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcp_server.idf.elf_sections import read_sections
from mcp_server.idf.panic import Decoders, Panic
from mcp_server.idf.panic.elf import RISCV, BadElf, Code, Elf, read_elf
from mcp_server.idf.panic.unwind import Unwinder

CODE_AT, STACK_AT = 0x4200_0000, 0x3FC8_0000
MB = 1 << 20

Section = tuple[int, int, int, int, int]
"""Type, flags, address, offset, size."""


def elf(path: Path, sections: Sequence[Section], *, entry_bytes: int = 40, count: int | None = None) -> Path:
    """A file of 100 MB that takes 4 kB of the disk."""
    shape = (2, RISCV, 1, 0, 0, 52, 0, 52, 0, 0, entry_bytes, len(sections) if count is None else count, 0)
    table = b"".join(struct.pack("<10I", 0, *section, 0, 0, 4, 0) for section in sections)
    with path.open("wb") as file:
        file.write(b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", *shape) + table)
        file.truncate(100 * MB)
    return path


def grown_mb(before: int) -> float:
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def record(content: bytes) -> bytes:
    content += bytes(-len(content) % 4)
    return struct.pack("<I", len(content)) + content


COMMON = record(struct.pack("<I", 0xFFFFFFFF) + b"\x03\0\x01\x7c\x01\x0c\x02\x00")


def function(program: bytes) -> bytes:
    return record(struct.pack("<III", 0, CODE_AT, 0x10000) + program)


def walked(debug_frame: bytes) -> int:
    """Frames found from an address in the one function."""
    code = (Code(CODE_AT, bytes(0x10000)),)
    unwinder = Unwinder(Elf(Path("x"), "0" * 64, RISCV, code, debug_frame))
    registers = {"MEPC": CODE_AT + 0x100, "RA": CODE_AT + 0x200, "SP": STACK_AT}
    return len(unwinder.walk(registers, STACK_AT, [CODE_AT + 0x100] * 256).frames)


def test_sections_that_overlap_in_a_file_with_holes_are_not_all_read(tmp_path: Path) -> None:
    """Ours. 12 of them of 100 MB each took 1.3 GB of memory, from 4 kB on the disk."""
    sections = [(1, 6, CODE_AT + index * 100 * MB, 0, 100 * MB) for index in range(12)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(BadElf, match="more than 64 MB of code, which no chip holds"):
        read_elf(elf(tmp_path / "a.elf", sections))

    assert grown_mb(before) < 80


def test_a_table_with_entries_of_another_size_is_none(tmp_path: Path) -> None:
    """Ours. 20,000 entries of 65,535 bytes took 2.5 GB where sizes are measured."""
    path = elf(tmp_path / "a.elf", [(1, 6, CODE_AT, 0, 100)], entry_bytes=65_535, count=20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert not read_sections(path)
    with pytest.raises(BadElf, match="no table of sections"):
        read_elf(path)
    assert grown_mb(before) < 40


@pytest.mark.parametrize("place", [1 << 62, (1 << 64) - 64])
def test_a_table_where_no_file_reaches_is_none(tmp_path: Path, place: int) -> None:
    """Ours. A program of 64 bits names places that the system refuses to seek to: no OverflowError for anybody."""
    path = tmp_path / "a.elf"
    header = struct.pack("<HHIQQQIHHHHHH", 2, RISCV, 1, 0, 0, place, 0, 64, 0, 0, 64, 4, 0)
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + header)

    assert not any(read_sections(path).values())
    with pytest.raises(BadElf, match="its table of sections lies beyond its end"):
        read_elf(path)


def test_code_of_a_firmware_is_read(tmp_path: Path) -> None:
    """Ours. The bounds are for what no chip holds."""
    found = read_elf(elf(tmp_path / "a.elf", [(0, 0, 0, 0, 0), (1, 6, CODE_AT, 52, 4 * MB)]))

    assert [(code.address, len(code.data)) for code in found.code] == [(CODE_AT, 4 * MB)]
    assert read_sections(tmp_path / "a.elf")["text"] == 4 * MB


@pytest.mark.timeout(2)
@pytest.mark.parametrize(
    "debug_frame",
    [
        COMMON + function(b"\x0c" + b"\xff" * 300_000 + b"\x01"),
        COMMON + function(b"\x0c" + b"\xff" * 300 + b"\x01"),
        COMMON + function(b"\x41" * 4_000_000),
        COMMON + function(b"\x05\xff\x01\x04\x0a" * 4000),
        COMMON.replace(b"\x7c", b"\xff" * 40) + function(b""),
        bytes(16 * MB),
        b"\x04\0\0\0" * (4 * MB),
    ],
    ids=[
        "huge number",
        "long number",
        "long program",
        "rows put aside",
        "garbled common part",
        "zeros",
        "short records",
    ],
)
def test_tables_that_no_compiler_writes_cost_little(debug_frame: bytes) -> None:
    """Ours. One number of 300 kB took 15 s, 16 MB of zeros 7 s."""
    assert walked(debug_frame) == 1


async def test_decoding_that_takes_too_long_is_given_up_and_said(tmp_path: Path) -> None:
    """Ours. The verdict does not wait for a program that reads an ELF file for ever."""
    path = elf(tmp_path / "a.elf", [(0, 0, 0, 0, 0), (1, 6, CODE_AT, 52, MB)])
    slow = tmp_path / "addr2line"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)

    async with asyncio.timeout(10), Decoders(limit_s=0.5) as decoders:
        decoded = await decoders.decode(Panic(kind="abort", cause="x", pc=CODE_AT + 2), path, str(slow))

    assert decoded.notes == ("not decoded: a.elf was not read within 0.5 s",)
    assert [frame.address for frame in decoded.frames] == [CODE_AT + 2]
