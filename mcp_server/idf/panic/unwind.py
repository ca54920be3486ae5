"""Walks up a RISC-V stack by the call frame information of an ELF file (DWARF 3 to 5, section .debug_frame).

It does what the chip's gdb does for `bt`, on the few hundred words that a panic prints, without a gdb: no process, and
some ten microseconds a panic.
"""

import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mcp_server.idf.panic.elf import Elf

RA, SP = 1, 2
MAX_FRAMES = 64
MAX_ENTRIES = 200_000  # functions of one firmware; a large one has 40,000
MAX_STEPS = 10_000  # instructions for one function
MAX_PROGRAM_BYTES = 1 << 16  # of them; a function that saves all its registers needs some hundred
MAX_NUMBER_BYTES = 10  # of one number of variable length: 64 bits
MAX_REMEMBERED = 64  # rows put aside within one function
MAX_REGISTER = 64  # of RISC-V: 32 for whole numbers, 32 for others

_TEMPORARY = {f"T{index}": 5 + index if index < 3 else 25 + index for index in range(7)}
_SAVED = {"S0/FP": 8, "S1": 9} | {f"S{index}": 16 + index for index in range(2, 12)}
REGISTERS: Mapping[str, int] = (
    {"RA": RA, "SP": SP, "GP": 3, "TP": 4} | _TEMPORARY | _SAVED | {f"A{index}": 10 + index for index in range(8)}
)
"""The names that a panic prints, with their numbers."""


@dataclass(frozen=True, slots=True)
class _Common:
    """What many functions share."""

    code_factor: int
    data_factor: int
    return_register: int
    program: bytes


@dataclass(slots=True)
class _Row:
    """How to get the caller's registers at one address: the frame is `register` + `offset`; the others lie from there.

    `unknown` is set by what only gdb understands: an expression, a made-up register.
    """

    register: int = SP
    offset: int = 0
    saved: dict[int, int] = field(default_factory=dict[int, int])
    unknown: bool = False
    is_root: bool = False  # said to have no caller

    def save(self, number: int, offset: int) -> None:
        """A register lies at an offset. One that no chip has is of no use to a caller."""
        if number < MAX_REGISTER:
            self.saved[number] = offset

    def copy(self) -> "_Row":
        return _Row(self.register, self.offset, dict(self.saved), self.unknown, self.is_root)


@dataclass(frozen=True, slots=True)
class Walk:
    """The frames found; `lost_at`: the stack's address from which no table led on, None where the walk is whole."""

    frames: tuple[int, ...]
    lost_at: int | None = None


class Unwinder:
    """The functions of one ELF. Making it reads only their headers: 0.1 s for 50,000 of them."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._data = elf.debug_frame
        self._commons: dict[int, _Common | None] = {}
        entries = _entries(self._data)
        self._starts = [entry[0] for entry in entries]
        self._entries = entries
        self._rows: dict[int, _Row | None] = {}

    def walk(self, registers: Mapping[str, int], stack_at: int, stack: Sequence[int]) -> Walk:
        """From where it stopped (MEPC) up: the first address is that one, the others are return addresses.

        A first address that is no code is a jump to nowhere: its caller is in RA.
        """
        known = {REGISTERS[name]: value for name, value in registers.items() if name in REGISTERS}
        pc = registers.get("MEPC", 0)
        frames = [pc]
        while len(frames) < MAX_FRAMES and SP in known:
            innermost = len(frames) == 1
            row = self._row(pc if innermost else pc - 1)
            if row is not None and row.is_root:
                break
            if row is None and innermost:
                row = _Row()  # no code, or a ROM's: most of these keep the return address where it was
            if row is None or row.unknown or row.register not in known:
                return Walk(tuple(frames), known[SP])
            caller = _caller(row, known, stack_at, stack, innermost=innermost)
            back = caller.get(RA)
            if not back or (back == pc and caller[SP] == known[SP]):
                break  # the dump ends here, or a task's first function, which FreeRTOS starts with no one to return to
            if not self._elf.follows_call(back):
                return Walk(tuple(frames), caller[SP])
            frames.append(back)
            pc, known = back, caller
        return Walk(tuple(frames))

    def _row(self, address: int) -> _Row | None:
        if address not in self._rows:
            if len(self._rows) > 4096:
                self._rows.clear()
            try:
                self._rows[address] = self._find(address)
            except (IndexError, struct.error):
                self._rows[address] = None  # a garbled function costs its own frame, no other's
        return self._rows[address]

    def _find(self, address: int) -> _Row | None:
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        start, size, common_at, program_at, end = self._entries[place]
        if address >= start + size:
            return None
        common = self._common(common_at)
        if common is None or common.return_register != RA:
            return None
        if end - program_at > MAX_PROGRAM_BYTES:
            return None
        first = _Row()
        _run(common.program, common, first, first, None)
        row = first.copy()
        _run(self._data[program_at:end], common, row, first, address - start)
        return row

    def _common(self, at: int) -> _Common | None:
        if at not in self._commons:
            self._commons[at] = _read_common(self._data, at)
        return self._commons[at]


def _caller(
    row: _Row, known: Mapping[int, int], stack_at: int, stack: Sequence[int], *, innermost: bool
) -> dict[int, int]:
    """The registers of the caller as far as the dump has them."""
    frame_at = (known[row.register] + row.offset) & 0xFFFFFFFF
    # Whoever called something else has its return address on the stack, or nobody knows it.
    caller = {number: value for number, value in known.items() if innermost or number != RA}
    for number, offset in row.saved.items():
        word = (frame_at + offset - stack_at) & 0xFFFFFFFF
        if word & 3 or word >> 2 >= len(stack):
            caller.pop(number, None)
        else:
            caller[number] = stack[word >> 2]
    caller[SP] = frame_at
    return caller


def _entries(data: bytes) -> list[tuple[int, int, int, int, int]]:
    """Of every function: address, size, where what it shares is, where its program starts and ends; by address."""
    entries: list[tuple[int, int, int, int, int]] = []
    at = 0
    for _ in range(MAX_ENTRIES):
        if at + 16 > len(data):
            break
        length, common_at = struct.unpack_from("<II", data, at)
        end = at + 4 + length
        if length >= 0xFFFFFFF0 or end > len(data):
            break  # 64-bit DWARF, or the rest is garbled
        if length >= 12 and common_at != 0xFFFFFFFF:
            start, size = struct.unpack_from("<II", data, at + 8)
            if size and start:  # the linker leaves functions that it dropped at 0
                entries.append((start, size, common_at, at + 16, end))
        at = end
    entries.sort()
    return entries


def _read_common(data: bytes, at: int) -> _Common | None:
    try:
        length, mark, version = struct.unpack_from("<IIB", data, at)
        if mark != 0xFFFFFFFF or version not in (1, 3, 4) or data[at + 9] or length > MAX_PROGRAM_BYTES:
            return None  # a text there is an augmentation
        cursor = _Cursor(data, at + 10 + (2 if version == 4 else 0))
        code_factor, data_factor = cursor.unsigned(), cursor.signed()
        register = cursor.byte() if version == 1 else cursor.unsigned()
        return _Common(code_factor, data_factor, register, data[cursor.at : at + 4 + length])
    except (IndexError, ValueError, struct.error):
        return None


class _Cursor:
    """Reads numbers of variable length. IndexError at the end, and for a number that no compiler writes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def number(self, size: int) -> int:
        if self.at + size > len(self.data):
            raise IndexError
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "little")

    def unsigned(self) -> int:
        value = 0
        for shift in range(0, 7 * MAX_NUMBER_BYTES, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError

    def signed(self) -> int:
        start = self.at
        value = self.unsigned()
        last = self.data[self.at - 1]
        return value - (1 << 7 * (self.at - start)) if last & 0x40 else value


def _run(program: bytes, common: _Common, row: _Row, first: _Row, until: int | None) -> None:
    """Change `row` by the instructions up to the code offset `until`; `first` is what a function starts with."""
    cursor, here = _Cursor(program), 0
    remembered: list[_Row] = []
    for _ in range(MAX_STEPS):
        if cursor.at >= len(program):
            return
        operation = cursor.byte()
        advance = _advance(operation, cursor)
        if advance is not None:
            here += advance * common.code_factor
            if until is not None and here > until:
                return
        elif operation == 0x0A:
            if len(remembered) == MAX_REMEMBERED:
                raise IndexError
            remembered.append(row.copy())
        elif operation == 0x0B and remembered:
            back = remembered.pop()
            row.register, row.offset, row.saved = back.register, back.offset, back.saved
        else:
            _change(operation, cursor, common, row, first)


def _advance(operation: int, cursor: _Cursor) -> int | None:
    """How far an instruction moves on in the code; None where it does something else."""
    if operation & 0xC0 == 0x40:
        return operation & 0x3F
    sizes = {0x02: 1, 0x03: 2, 0x04: 4}
    return cursor.number(sizes[operation]) if operation in sizes else None


def _change(operation: int, cursor: _Cursor, common: _Common, row: _Row, first: _Row) -> None:
    high, low = operation & 0xC0, operation & 0x3F
    if high == 0x80:  # offset
        row.saved[low] = cursor.unsigned() * common.data_factor
    elif high == 0xC0:  # restore
        _restore(low, row, first)
    elif operation == 0x0C:  # def_cfa
        row.register, row.offset = cursor.unsigned(), cursor.unsigned()
    elif operation == 0x0D:  # def_cfa_register
        row.register = cursor.unsigned()
    elif operation == 0x0E:  # def_cfa_offset
        row.offset = cursor.unsigned()
    elif operation == 0x12:  # def_cfa_sf
        row.register, row.offset = cursor.unsigned(), cursor.signed() * common.data_factor
    elif operation == 0x13:  # def_cfa_offset_sf
        row.offset = cursor.signed() * common.data_factor
    elif operation == 0x05:  # offset_extended
        number = cursor.unsigned()
        row.save(number, cursor.unsigned() * common.data_factor)
    elif operation == 0x11:  # offset_extended_sf
        number = cursor.unsigned()
        row.save(number, cursor.signed() * common.data_factor)
    elif operation == 0x06:  # restore_extended
        _restore(cursor.unsigned(), row, first)
    elif operation in (0x07, 0x08):  # undefined, same_value
        number = cursor.unsigned()
        row.saved.pop(number, None)
        row.is_root = row.is_root or (number == RA and operation == 0x07)
    elif operation != 0x00:  # an expression, or a register in another: not what compilers write for RISC-V
        row.unknown = True
        cursor.at = len(cursor.data)


def _restore(number: int, row: _Row, first: _Row) -> None:
    row.saved.pop(number, None)
    if number in first.saved:
        row.saved[number] = first.saved[number]
