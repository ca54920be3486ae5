"""The serial loader's protocol: that of the chip's ROM, and that of the stub which esptool uploads and starts.

A request is 00, u8 operation, u16 length, u32 checksum, data; an answer 01, u8 operation, u16 length, u32 value, data,
status. All numbers are little-endian. The stub is not executed: once esptool starts what it uploaded, the loader
answers as the stub would.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from mcp_server.demo.chip import slip
from mcp_server.demo.chip.faults import NEVER, Faults
from mcp_server.demo.chip.flash import FlashRange, NorFlash
from mcp_server.demo.chip.flash_download import BadStream, Download
from mcp_server.demo.chip.models import Model
from mcp_server.demo.chip.registers import Registers

SYNC_DATA = bytes.fromhex("07071220") + b"\x55" * 32
ROM_SYNC_VALUE = 0x20120707  # any but 0, which is the stub's
CHECKSUM_SEED = 0xEF
SLOW_READ_BYTES = 64  # a ROM answers READ_FLASH_SLOW with so many, whatever was asked
OHAI = slip.encode(b"OHAI")


class Op(IntEnum):
    """Operations; those from ERASE_FLASH on are the stub's alone."""

    FLASH_BEGIN = 0x02
    FLASH_DATA = 0x03
    FLASH_END = 0x04
    MEM_BEGIN = 0x05
    MEM_END = 0x06
    MEM_DATA = 0x07
    SYNC = 0x08
    WRITE_REG = 0x09
    READ_REG = 0x0A
    SPI_SET_PARAMS = 0x0B
    SPI_ATTACH = 0x0D
    READ_FLASH_SLOW = 0x0E
    CHANGE_BAUDRATE = 0x0F
    FLASH_DEFL_BEGIN = 0x10
    FLASH_DEFL_DATA = 0x11
    FLASH_DEFL_END = 0x12
    SPI_FLASH_MD5 = 0x13
    GET_SECURITY_INFO = 0x14
    ERASE_FLASH = 0xD0
    ERASE_REGION = 0xD1
    READ_FLASH = 0xD2


SECURE_DOWNLOAD_OPS = frozenset(
    {
        *(Op.SYNC, Op.GET_SECURITY_INFO, Op.SPI_ATTACH, Op.SPI_SET_PARAMS, Op.CHANGE_BAUDRATE),
        *(Op.FLASH_BEGIN, Op.FLASH_DATA, Op.FLASH_END, Op.FLASH_DEFL_BEGIN, Op.FLASH_DEFL_DATA, Op.FLASH_DEFL_END),
    }
)


class Trouble(Exception):
    """The operation failed: `rom` and `stub` are the two bytes of status that each answers with."""

    def __init__(self, rom: int, stub: int) -> None:
        self.rom, self.stub = rom, stub
        super().__init__(f"status {rom:#04x}/{stub:#04x}")


INVALID = (0x05, 0xC3)
FAILED = (0x06, 0xC4)
WRONG_CHECKSUM = (0x07, 0xC1)
NOT_BEGUN = (0x06, 0xC6)
WRONG_STREAM = (0x0B, 0xC7)


class Deed(Enum):
    """What a request does to the chip beyond its answer."""

    RESTART = "restart"
    VANISH = "vanish"


@dataclass
class _Reading:
    """A stub's READ_FLASH under way: `at` is the next byte to send, `window` the most bytes not yet acknowledged."""

    start: int
    end: int
    at: int
    block: int
    window: int


class Loader:
    """One time in download mode, from reset to reset. `tell(name, **fields)` reports what a bystander may want."""

    def __init__(self, model: Model, flash: NorFlash, registers: Registers, faults: Faults) -> None:
        self.flash, self.registers, self.faults = flash, registers, faults
        self.model = model
        self.stub = False
        self.baud: int | None = None
        self.deeds: list[Deed] = []
        self.written = 0  # bytes that a loader was told to write since it came up
        self.verified = 0
        self._download: Download | None = None
        self._reading: _Reading | None = None
        self._frames = slip.Decoder()
        self._operations: dict[int, Callable[[bytes, int], bytes]] = {
            Op.READ_REG: self._read_register,
            Op.WRITE_REG: self._write_registers,
            Op.MEM_END: lambda _data, _sum: b"",
            Op.MEM_BEGIN: lambda _data, _sum: b"",
            Op.MEM_DATA: self._memory,
            Op.SPI_SET_PARAMS: lambda _data, _sum: b"",
            Op.SPI_ATTACH: lambda _data, _sum: b"",
            Op.CHANGE_BAUDRATE: lambda _data, _sum: b"",
            Op.FLASH_BEGIN: self._begin,
            Op.FLASH_DATA: self._data,
            Op.FLASH_END: self._end,
            Op.FLASH_DEFL_BEGIN: self._begin_deflated,
            Op.FLASH_DEFL_DATA: self._data,
            Op.FLASH_DEFL_END: self._end,
            Op.SPI_FLASH_MD5: self._md5,
            Op.GET_SECURITY_INFO: self._security,
            Op.READ_FLASH_SLOW: self._read_slow,
        }
        self._stub_operations: dict[int, Callable[[bytes, int], bytes]] = {
            Op.ERASE_FLASH: lambda _data, _sum: self._erase(0, flash.size),
            Op.ERASE_REGION: lambda data, _sum: self._erase(*struct.unpack_from("<II", data)),
            Op.READ_FLASH: self._read,
        }

    def feed(self, data: bytes) -> bytes:
        """What goes back over the line for these bytes, framed. `deeds` and `baud` may have changed after it."""
        return b"".join(self._frame(frame) for frame in self._frames.feed(data))

    def _frame(self, frame: bytes) -> bytes:
        if self._reading and len(frame) == 4:
            return self._acknowledged(int.from_bytes(frame, "little"))
        if len(frame) < 8 or frame[0]:
            return b""
        self._reading = None
        operation, length, checksum = struct.unpack_from("<xBHI", frame)
        data = frame[8:]
        if operation == Op.SYNC:
            return self._answer(Op.SYNC, value=0 if self.stub else ROM_SYNC_VALUE) * 8
        if self._stalled(operation, data):
            return b""
        try:
            if length != len(data):
                raise Trouble(*INVALID)
            answer = self._do(operation, data, checksum)
        except Trouble as trouble:
            return self._answer(operation, trouble=trouble)
        except FlashRange:
            return self._answer(operation, trouble=Trouble(*FAILED))
        except struct.error:  # fewer fields than the operation has
            return self._answer(operation, trouble=Trouble(*INVALID))
        return answer + self._after(operation, data)

    def _do(self, operation: int, data: bytes, checksum: int) -> bytes:
        closed = self.faults.secure_download and operation not in SECURE_DOWNLOAD_OPS
        there = self._operations | (self._stub_operations if self.stub else {})
        if closed or operation not in there:
            raise Trouble(*INVALID)
        value, extra = 0, there[operation](data, checksum)
        if operation == Op.READ_REG:
            value, extra = int.from_bytes(extra, "little"), b""
        return self._answer(operation, value=value, data=extra)

    def _answer(self, operation: int, value: int = 0, data: bytes = b"", trouble: Trouble | None = None) -> bytes:
        if self.stub:
            status = bytes([trouble.stub, 0]) if trouble else bytes(2)
        else:
            status = bytes([1, trouble.rom, 0, 0]) if trouble else bytes(4)
        body = data + status
        return slip.encode(struct.pack("<BBHI", 1, operation, len(body), value) + body)

    def _after(self, operation: int, data: bytes) -> bytes:
        """What follows an answer: the stub's greeting, the first blocks of a reading, another baud rate."""
        if operation == Op.MEM_END and len(data) >= 8 and int.from_bytes(data[4:8], "little") and not self.stub:
            # An entry point is given: what was uploaded runs now. It is taken for the stub.
            if self.faults.stub_silent:
                return b""
            if self.faults.stub_broken:
                return slip.encode(b"OH NO")
            self.stub = True
            return OHAI
        if operation == Op.READ_FLASH:
            return self._more(0)
        if operation == Op.CHANGE_BAUDRATE and len(data) >= 4:
            self.baud = int.from_bytes(data[:4], "little")
        return b""

    def _stalled(self, operation: int, data: bytes) -> bool:
        limit = self.faults.stub_write_stalls
        writes = operation in (Op.FLASH_DATA, Op.FLASH_DEFL_DATA)
        return writes and self.stub and limit != NEVER and self.written + len(data) > limit

    # registers and memory

    def _read_register(self, data: bytes, _checksum: int) -> bytes:
        (address,) = struct.unpack_from("<I", data)
        return self.registers.read(address).to_bytes(4, "little")

    def _write_registers(self, data: bytes, _checksum: int) -> bytes:
        for at in range(0, len(data) - 15, 16):
            address, value, mask, _delay_us = struct.unpack_from("<IIII", data, at)
            if self.registers.write(address, value, mask):
                self.deeds.append(Deed.RESTART)
        return b""

    def _memory(self, data: bytes, checksum: int) -> bytes:
        self._payload(data, checksum)  # nothing of it is kept: no code of a chip is ever executed
        return b""

    def _payload(self, data: bytes, checksum: int) -> bytes:
        (length,) = struct.unpack_from("<I", data)
        payload = data[16:]
        if length != len(payload):
            raise Trouble(*INVALID)
        # XOR of all bytes, by halving: a loop over 16 KiB would cost more than all the rest.
        number = int.from_bytes(payload, "little")
        bits = 8 << max(0, (len(payload) - 1).bit_length())
        while bits > 8:
            bits //= 2
            number = (number >> bits) ^ (number & ((1 << bits) - 1))
        if number ^ CHECKSUM_SEED != checksum & 0xFF:
            raise Trouble(*WRONG_CHECKSUM)
        return payload

    # flash

    def _begin(self, data: bytes, _checksum: int) -> bytes:
        size, _blocks, _block, offset = struct.unpack_from("<IIII", data)
        self._download = Download(self.flash, offset, size, at_once=not self.stub, deflated=False)
        return b""

    def _begin_deflated(self, data: bytes, _checksum: int) -> bytes:
        size, _blocks, _block, offset = struct.unpack_from("<IIII", data)
        self._download = Download(self.flash, offset, size, at_once=not self.stub, deflated=True)
        return b""

    def _data(self, data: bytes, checksum: int) -> bytes:
        payload = self._payload(data, checksum)
        if self._download is None:
            raise Trouble(*NOT_BEGUN)
        faults = self.faults
        for limit in (faults.write_fails, faults.stub_write_fails if self.stub else NEVER):
            if limit != NEVER and self.written + len(payload) > limit:
                raise Trouble(*FAILED)
        (sequence,) = struct.unpack_from("<I", data, 4)
        before = self._download.written
        try:
            self._download.block(sequence, payload)
        except BadStream:
            raise Trouble(*WRONG_STREAM) from None
        self.written += self._download.written - before
        if faults.vanish_after != NEVER and self.written >= faults.vanish_after:
            self.deeds.append(Deed.VANISH)
        return b""

    def _end(self, data: bytes, _checksum: int) -> bytes:
        (stay,) = struct.unpack_from("<I", data)
        self._download = None
        if not self.stub:
            self.deeds.append(Deed.RESTART)  # a ROM leaves its loader in either case
        elif not stay:
            self.stub = False  # the stub goes back to the ROM's loader
        return b""

    def _erase(self, address: int, size: int) -> bytes:
        self.flash.erase(address, size)
        return b""

    def _md5(self, data: bytes, _checksum: int) -> bytes:
        address, size = struct.unpack_from("<II", data)
        digest = hashlib.md5(self.flash.read(address, size), usedforsecurity=False)
        wrong = self.verified in self.faults.md5_mismatch
        self.verified += 1
        if wrong:
            digest.update(b"injected fault")
        return digest.digest() if self.stub else digest.hexdigest().encode()

    def _read_slow(self, data: bytes, _checksum: int) -> bytes:
        address, size = struct.unpack_from("<II", data)
        if self.stub or size > SLOW_READ_BYTES:
            raise Trouble(*INVALID)
        return self.flash.read(address, size).ljust(SLOW_READ_BYTES, b"\0")

    def _read(self, data: bytes, _checksum: int) -> bytes:
        start, size, block, blocks = struct.unpack_from("<IIII", data)
        if not 0 < block <= slip.MAX_FRAME // 2:
            raise Trouble(*INVALID)
        self.flash.read(start + size, 0)  # FlashRange before anything was sent
        self._reading = _Reading(start, start + size, start, block, block * max(1, min(blocks, 64)))
        return b""

    def _more(self, acknowledged: int) -> bytes:
        """Blocks as far as the window allows. `acknowledged`: bytes that the other side has."""
        reading, sent = self._reading, bytearray()
        if reading is None:
            return b""
        while reading.at < reading.end and reading.at - reading.start - acknowledged < reading.window:
            size = min(reading.block, reading.end - reading.at)
            sent += slip.encode(self.flash.read(reading.at, size))
            reading.at += size
        return bytes(sent)

    def _acknowledged(self, size: int) -> bytes:
        reading = self._reading
        if reading is None or reading.start + size < reading.end:
            return self._more(size)
        self._reading = None
        all_of_it = self.flash.read(reading.start, reading.end - reading.start)
        return slip.encode(hashlib.md5(all_of_it, usedforsecurity=False).digest())

    def _security(self, _data: bytes, _checksum: int) -> bytes:
        if not self.model.tells_security:
            raise Trouble(*INVALID)
        security = self.faults.security
        flags = int(security.boot) | int(security.download) << 2
        return struct.pack("<IB7xII", flags, security.crypt_count, self.model.chip_id, self.registers.api_version)
