"""How much of an ELF file is code, constants, data and zeroed memory: read from its section headers alone."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

from mcp_server.idf.installation import open_file

MAX_SECTIONS = 20_000  # -ffunction-sections leaves that many in an object; a linked program has 40

_NOBITS: Final = 8
_WRITE, _ALLOC, _EXEC = 1, 2, 4
_LAYOUTS: Final = {  # of a header: where the table is, entry size, count; of an entry: type, flags, size, all its bytes
    1: ("I", 32, 46, "II", 4, "I", 20, 40),
    2: ("Q", 40, 58, "IQ", 4, "Q", 32, 64),
}


def read_sections(path: Path) -> Mapping[str, int]:
    """Bytes of `text`, `rodata`, `data` and `bss` in the linked program, as far as they are loaded; {} for no ELF."""
    try:
        with open_file(path) as file:
            return _read(file)
    except (OSError, OverflowError, struct.error, ValueError):  # a place of 64 bits may be none that a file can have
        return {}


def _read(file: BinaryIO) -> Mapping[str, int]:
    head = file.read(64)
    layout = _LAYOUTS.get(head[4]) if head[:4] == b"\x7fELF" and len(head) > 51 else None
    if layout is None:
        return {}
    order = "<" if head[5] == 1 else ">"
    place, place_at, size_at, first, first_at, size, of_size, wanted_bytes = layout
    (start,) = struct.unpack_from(order + place, head, place_at)
    entry_bytes, count = struct.unpack_from(order + "HH", head, size_at)
    if entry_bytes != wanted_bytes:
        return {}
    file.seek(start)
    table = file.read(entry_bytes * min(count, MAX_SECTIONS))
    found: dict[str, int] = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for at in range(0, len(table), entry_bytes):
        kind, flags = struct.unpack_from(order + first, table, at + first_at)
        (length,) = struct.unpack_from(order + size, table, at + of_size)
        if flags & _ALLOC:
            found[_sort(kind, flags)] += length
    return found


def _sort(kind: int, flags: int) -> str:
    if kind == _NOBITS:
        return "bss"
    return "text" if flags & _EXEC else "data" if flags & _WRITE else "rodata"
