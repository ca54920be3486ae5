"""The loader's protocol by itself: framing, golden frames, and what damaged requests are answered with."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.demo.chip import slip
from mcp_server.demo.chip.faults import parse_faults
from mcp_server.demo.chip.flash import NorFlash
from mcp_server.demo.chip.models import MIB, MODELS
from mcp_server.demo.chip.registers import Registers
from mcp_server.demo.chip.rom import SYNC_DATA, Deed, Loader, Op

SIZE = MIB


@pytest.fixture
def flash(tmp_path: Path) -> Iterator[NorFlash]:
    with NorFlash(tmp_path / "flash", SIZE) as flash:
        yield flash


def loader(flash: NorFlash, *faults: str, chip: str = "esp32c3", stub: bool = False) -> Loader:
    model, wrong = MODELS[chip], parse_faults(faults)
    fuses = model.efuses("7c:df:a1:00:00:01", (0, 4), wrong.security) if chip != "esp32" else {}
    made = Loader(model, flash, Registers(model, SIZE, fuses), wrong)
    if stub:
        assert request(made, Op.MEM_END, struct.pack("<II", 0, 0x4038_0000)) == (0, b"\0\0\0\0", b"OHAI")
    return made


def checksum(data: bytes) -> int:
    value = 0xEF
    for byte in data:
        value ^= byte
    return value


def frame(operation: int, data: bytes = b"", check: int = 0) -> bytes:
    return slip.encode(struct.pack("<BBHI", 0, operation, len(data), check) + data)


def request(to: Loader, operation: int, data: bytes = b"", check: int = 0) -> tuple[int, bytes, bytes]:
    """Value, data with status, and what came after the answer."""
    first, *more = slip.Decoder().feed(to.feed(frame(operation, data, check)))
    kind, answered, length, value = struct.unpack_from("<BBHI", first)
    assert (kind, answered, length) == (1, operation, len(first) - 8)
    return value, first[8:], b"".join(more)


def block(to: Loader, operation: int, payload: bytes, sequence: int) -> bytes:
    return request(to, operation, struct.pack("<IIII", len(payload), sequence, 0, 0) + payload, checksum(payload))[1]


@given(frames=st.lists(st.binary(min_size=1, max_size=60)), cut=st.integers(1, 9), junk=st.binary(max_size=9))
def test_frames_survive_any_cutting(frames: list[bytes], cut: int, junk: bytes) -> None:
    """Ours. Whatever lies in them, in whatever pieces they come, with noise before them."""
    decoder = slip.Decoder()
    stream = junk.replace(b"\xc0", b"") + b"".join(slip.encode(frame) for frame in frames)

    got = [frame for at in range(0, len(stream), cut) for frame in decoder.feed(stream[at : at + cut])]

    assert got == frames


@given(st.binary(max_size=300))
def test_noise_is_no_error(data: bytes) -> None:
    """Ours. Any bytes give frames or none; a frame after them is read."""
    decoder = slip.Decoder()
    decoder.feed(data + b"\xc0")

    assert decoder.feed(slip.encode(b"hello"))[-1] == b"hello"


def test_escapes_are_those_of_slip() -> None:
    """Spec (RFC 1055)."""
    assert slip.encode(b"\x01\xc0\xdb\x02") == bytes.fromhex("c001dbdcdbdd02c0")
    assert slip.Decoder().feed(bytes.fromhex("c001db0102c0")) == []


def test_endless_frame_is_forgotten() -> None:
    """Ours. Memory stays bounded, and the next frame is read."""
    decoder = slip.Decoder()
    decoder.feed(b"\xc0" + b"x" * (slip.MAX_FRAME + 10))

    assert decoder.feed(slip.encode(b"next")) == [b"next"]


def test_golden_sync(flash: NorFlash) -> None:
    """Spec. Eight answers; the ROM's value is not 0, the stub's is, by which esptool tells them apart."""
    rom = loader(flash).feed(frame(Op.SYNC, SYNC_DATA))
    assert rom == bytes.fromhex("c001080400" + "07071220" + "00000000" + "c0") * 8
    stub = loader(flash, stub=True).feed(frame(Op.SYNC, SYNC_DATA))
    assert stub == bytes.fromhex("c001080200" + "00000000" + "0000" + "c0") * 8


def test_golden_register_read(flash: NorFlash) -> None:
    """Spec. The value in the header, a status of four bytes from the ROM."""
    asked = bytes.fromhex("c0000a0400000000000010004" + "0c0")

    assert loader(flash).feed(asked) == bytes.fromhex("c0010a04006f50311b00000000c0")


def test_security_info_has_the_chip_id(flash: NorFlash) -> None:
    """Spec. u32 flags, u8 count, 7 purposes, u32 chip id, u32 version; the ESP32 does not know the request."""
    _, data, _ = request(loader(flash, "secure-boot", "flash-encryption"), Op.GET_SECURITY_INFO)
    assert data == struct.pack("<IB7xII", 1, 1, 5, 3) + b"\0\0\0\0"
    assert request(loader(flash, chip="esp32"), Op.GET_SECURITY_INFO)[1] == b"\x01\x05\0\0"


def test_flash_id_comes_through_the_spi_registers(flash: NorFlash) -> None:
    """Spec. Command 9F: GigaDevice, and 2^20 bytes."""
    rom, base = loader(flash), 0x6000_2000
    for address, value in ((base + 0x20, 7 << 28 | 0x9F), (base, 1 << 18)):
        request(rom, Op.WRITE_REG, struct.pack("<IIII", address, value, 0xFFFFFFFF, 0))

    assert request(rom, Op.READ_REG, struct.pack("<I", base))[0] == 0
    assert request(rom, Op.READ_REG, struct.pack("<I", base + 0x58))[0] == 0x1440C8


def test_watchdog_register_resets(flash: NorFlash) -> None:
    """Ours. `--after watchdog-reset` of esptool."""
    rom = loader(flash)
    request(rom, Op.WRITE_REG, struct.pack("<IIII", 0x6000_8090, 1 << 31, 0xFFFFFFFF, 0))

    assert rom.deeds == [Deed.RESTART]


@pytest.mark.parametrize("stub", [False, True], ids=["rom", "stub"])
def test_wrong_requests_are_refused(flash: NorFlash, stub: bool) -> None:
    """Spec. Checksum, length, order, range, stream, unknown operation: an error of its own, and nothing is written."""
    to = loader(flash, stub=stub)
    begin = struct.pack("<IIIII", 4096, 1, 4096, 0, 0)
    wrong_sum = (b"\x01\x07\0\0", b"\xc1\0")[stub]
    failed = (b"\x01\x06\0\0", b"\xc4\0")[stub]
    invalid = (b"\x01\x05\0\0", b"\xc3\0")[stub]

    assert block(to, Op.FLASH_DATA, b"early", 0) == (b"\x01\x06\0\0", b"\xc6\0")[stub]
    assert not any(request(to, Op.FLASH_BEGIN, begin)[1])
    assert request(to, Op.FLASH_DATA, struct.pack("<IIII", 4, 0, 0, 0) + b"data", 0)[1] == wrong_sum
    assert request(to, Op.FLASH_DATA, struct.pack("<IIII", 5, 0, 0, 0) + b"data", checksum(b"data"))[1] == invalid
    assert block(to, Op.FLASH_DATA, b"late", 3) == (b"\x01\x0b\0\0", b"\xc7\0")[stub]
    assert request(to, Op.FLASH_BEGIN, struct.pack("<IIII", 4096, 1, 4096, SIZE))[1] == failed
    assert request(to, Op.FLASH_BEGIN, b"\0\0")[1] == invalid
    assert request(to, 0x77)[1] == invalid
    assert not any(request(to, Op.FLASH_DEFL_BEGIN, begin)[1])
    assert block(to, Op.FLASH_DEFL_DATA, b"no stream", 0) == (b"\x01\x0b\0\0", b"\xc7\0")[stub]
    assert flash.contents() == b"\xff" * SIZE


def test_stub_operations_are_unknown_to_the_rom(flash: NorFlash) -> None:
    """Spec. Erasing as a whole and fast reading."""
    for operation in (Op.ERASE_FLASH, Op.ERASE_REGION, Op.READ_FLASH):
        assert request(loader(flash), operation, bytes(16))[1] == b"\x01\x05\0\0"


def test_block_that_comes_twice_is_written_once(flash: NorFlash) -> None:
    """Ours. esptool repeats a block whose answer it missed."""
    to = loader(flash, stub=True)
    data = bytes(range(256)) * 32
    packed = zlib.compress(data)
    request(to, Op.FLASH_DEFL_BEGIN, struct.pack("<IIIII", len(data), 1, 0x4000, 0x1000, 0))

    assert not any(block(to, Op.FLASH_DEFL_DATA, packed, 0))
    assert not any(block(to, Op.FLASH_DEFL_DATA, packed, 0))
    assert flash.read(0x1000, len(data)) == data


def test_stream_longer_than_announced_is_refused(flash: NorFlash) -> None:
    """Ours. A small block may inflate to gigabytes."""
    to = loader(flash, stub=True)
    request(to, Op.FLASH_DEFL_BEGIN, struct.pack("<IIIII", 4096, 1, 0x4000, 0, 0))

    assert block(to, Op.FLASH_DEFL_DATA, zlib.compress(b"\0" * (8 * MIB)), 0) == b"\xc7\0"
    assert flash.contents() == b"\xff" * SIZE


def test_reading_waits_for_acknowledgement(flash: NorFlash) -> None:
    """Spec. Not more than the window is under way; at the end comes the MD5."""
    data = bytes(range(256)) * 64
    flash.write(0, data)
    to = loader(flash, stub=True)

    _, status, first = request(to, Op.READ_FLASH, struct.pack("<IIII", 0, len(data), 4096, 2))
    assert status == b"\0\0"
    assert first == data[:8192]
    got = first
    for acknowledged in (4096, 8192):
        got += b"".join(slip.Decoder().feed(to.feed(slip.encode(struct.pack("<I", acknowledged)))))
    assert got == data
    assert to.feed(slip.encode(struct.pack("<I", 12288))) == b""
    assert slip.Decoder().feed(to.feed(slip.encode(struct.pack("<I", 16384)))) == [hashlib.md5(data).digest()]


def test_leaving_the_loader(flash: NorFlash) -> None:
    """Spec. A ROM leaves it in either case; the stub stays, or goes back to the ROM."""
    rom, stub = loader(flash), loader(flash, stub=True)
    request(rom, Op.FLASH_END, struct.pack("<I", 1))
    request(stub, Op.FLASH_END, struct.pack("<I", 1))
    assert rom.deeds == [Deed.RESTART]
    assert (stub.deeds, stub.stub) == ([], True)

    request(stub, Op.FLASH_END, struct.pack("<I", 0))
    assert (stub.deeds, stub.stub) == ([], False)


def test_injected_md5_is_of_one_verification(flash: NorFlash) -> None:
    """Issue. The second one lies, the first and the third do not."""
    to = loader(flash, "md5-mismatch=1")
    asked = struct.pack("<IIII", 0, 4096, 0, 0)
    right = hashlib.md5(b"\xff" * 4096).hexdigest().encode()

    assert [request(to, Op.SPI_FLASH_MD5, asked)[1][:32] == right for _ in range(3)] == [True, False, True]
