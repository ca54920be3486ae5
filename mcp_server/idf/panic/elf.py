"""What a decoder needs of a firmware's ELF file: its hash, where its code is, how its functions are unwound."""

import hashlib
import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mcp_server.idf.installation import open_file

MAX_ELF_BYTES = 512 << 20  # one with all its DWARF has 5 to 60 MB
MAX_CODE_BYTES = 64 << 20  # all sections with instructions; the largest flash of a chip has 32 MB
MAX_FRAME_BYTES = 32 << 20  # .debug_frame; 40,000 functions have 2 MB
MAX_NAME_BYTES = 4 << 20
MAX_SECTIONS = 4096
ENTRY_BYTES, WIDE_ENTRY_BYTES = 40, 64  # of the table of sections
CHUNK_BYTES = 1 << 20

RISCV = 243  # e_machine
_EXECUTABLE, _COMPRESSED = 0x4, 0x800  # section flags
_NOBITS = 8


class BadElf(Exception):
    """The file is no little-endian ELF file, or it is cut short. The text says which."""


@dataclass(frozen=True, slots=True)
class Code:
    """A section with instructions: they start at `address`."""

    address: int
    data: bytes

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.address + len(self.data)


@dataclass(frozen=True, slots=True)
class Elf:
    """One firmware. `code` is sorted by address; `debug_frame` is the section's content, b"" where there is none."""

    path: Path
    sha256: str
    machine: int
    code: tuple[Code, ...]
    debug_frame: bytes

    @property
    def is_riscv(self) -> bool:
        return self.machine == RISCV

    def code_at(self, address: int) -> Code | None:
        """The section that holds the instruction at `address`."""
        place = bisect_right(self.code, address, key=lambda code: code.address) - 1
        return self.code[place] if place >= 0 and address in self.code[place] else None

    def follows_call(self, address: int) -> bool:
        """Whether a RISC-V call ends just before `address`, as it does before every return address."""
        code = self.code_at(address - 2)
        if code is None or address & 1:
            return False
        end = address - code.address
        if end >= 4:
            (word,) = struct.unpack_from("<I", code.data, end - 4)
            opcode, link = word & 0x7F, (word >> 7) & 0x1F
            if opcode in (0x6F, 0x67) and link in (1, 5):  # jal, jalr to ra or t0
                return True
        (half,) = struct.unpack_from("<H", code.data, end - 2)
        # c.jal, and c.jalr with a register that is not x0: c.ebreak is the same code with none
        return half & 0xE003 == 0x2001 or (half & 0xF07F == 0x9002 and bool(half & 0xF80))


def read_elf(path: Path) -> Elf:
    """Read the file. Blocks: 20 ms for 10 MB. BadElf; OSError, also for what is no regular file."""
    with open_file(path) as file:
        sha256 = _hash(file, path)
        machine, sections, names_index = _sections(file, path)

        def content(section: tuple[int, ...], most: int) -> bytes:
            if section[1] == _NOBITS or section[5] > most or section[4] > MAX_ELF_BYTES:
                return b""
            file.seek(section[4])
            return file.read(section[5])

        names = content(sections[names_index], MAX_NAME_BYTES)
        programs = [one for one in sections if one[2] & _EXECUTABLE and one[1] != _NOBITS]
        if sum(one[5] for one in programs) > MAX_CODE_BYTES:  # they may overlap in the file, and the file have holes
            raise BadElf(f"{path} names more than {MAX_CODE_BYTES >> 20} MB of code, which no chip holds")
        code = [Code(one[3], data) for one in programs if (data := content(one, MAX_CODE_BYTES))]
        frames = next((one for one in sections if _name(names, one[0]) == b".debug_frame"), None)
        debug_frame = content(frames, MAX_FRAME_BYTES) if frames and not frames[2] & _COMPRESSED else b""
    code.sort(key=lambda one: one.address)
    return Elf(path, sha256, machine, tuple(code), debug_frame)


def _sections(file: BinaryIO, path: Path) -> tuple[int, list[tuple[int, ...]], int]:
    """The machine, every section's (name, type, flags, address, offset, size), and which of them has the names."""
    file.seek(0)
    header = file.read(64)
    wide = header[:6] == b"\x7fELF\x02\x01"  # a program of this machine, as the virtual chip runs it
    if len(header) < 64 or not (wide or header[:6] == b"\x7fELF\x01\x01"):
        raise BadElf(f"{path} is no ELF file of a 32-bit chip")
    machine = struct.unpack_from("<H", header, 18)[0]
    (at,) = struct.unpack_from("<Q", header, 40) if wide else struct.unpack_from("<I", header, 32)
    entry_size, count, names_index = struct.unpack_from("<3H", header, 58 if wide else 46)
    if entry_size != (WIDE_ENTRY_BYTES if wide else ENTRY_BYTES) or not names_index < count <= MAX_SECTIONS:
        raise BadElf(f"{path} has no table of sections: it was stripped or cut short")
    table = b""
    if at < MAX_ELF_BYTES:  # a place of 64 bits may be none that a file can have
        file.seek(at)
        table = file.read(entry_size * count)
    if len(table) < entry_size * count:
        raise BadElf(f"{path} is cut short: its table of sections lies beyond its end")
    layout = "<2I4Q" if wide else "<6I"
    return machine, [struct.unpack_from(layout, table, index * entry_size) for index in range(count)], names_index


def _hash(file: BinaryIO, path: Path) -> str:
    """SHA-256 of a file that may grow meanwhile. BadElf: it is larger than any firmware."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_ELF_BYTES:
            raise BadElf(f"{path} has more than {MAX_ELF_BYTES >> 20} MB, which no firmware has")
        digest.update(chunk)
    return digest.hexdigest()


def _name(names: bytes, start: int) -> bytes:
    return names[start : max(names.find(b"\0", start), start)]
