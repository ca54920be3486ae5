"""What lies in the flash: the envelope around a host program, real images as far as they can be read, and partitions.

The envelope, all numbers little-endian: "HOSTPROG", u16 version (1), u16 chip id, u32 length of the program,
32 bytes SHA-256 of the program, the program. A program is an ELF file of this machine or a script with `#!`.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mcp_server.demo.chip.models import Model
from mcp_server.errors import BadInput

MAGIC = b"HOSTPROG"
_HEAD = struct.Struct("<8sHHI32s")
ESP_MAGIC = 0xE9
_ESP_HEAD = struct.Struct("<BBBBI")
_TABLE_ENTRY = struct.Struct("<HBBII16sI")
_ENTRY_MAGIC, _MD5_MAGIC = 0x50AA, 0xEBEB
TABLE_BYTES = 0xC00
_MAX_SEGMENTS = 16

APP, DATA = 0, 1
FACTORY, OTA_0, TEST = 0x00, 0x10, 0x20
OTA_DATA, PHY, NVS = 0x00, 0x01, 0x02


class BadImage(Exception):
    """What lies there cannot be run; the text is what a bootloader would say."""


def pack(program: bytes, model: Model) -> bytes:
    """The envelope around an executable file's bytes. BadInput where this machine could not start it."""
    if not program.startswith((b"\x7fELF", b"#!")):
        raise BadInput("program", "it is neither an ELF file nor a script that begins with #!")
    head = _HEAD.pack(MAGIC, 1, model.chip_id, len(program), hashlib.sha256(program).digest())
    return head + program


def is_envelope(data: bytes) -> bool:
    """Whether an envelope begins here."""
    return data.startswith(MAGIC)


def unpack(data: bytes, model: Model) -> bytes:
    """The program of the envelope that begins here. BadImage: cut off, damaged, or made for another chip."""
    if len(data) < _HEAD.size or not is_envelope(data):
        raise BadImage("image has invalid magic byte (nothing flashed here?)")
    _, version, chip_id, length, digest = _HEAD.unpack_from(data)
    if version != 1:
        raise BadImage(f"the envelope has version {version}, this chip reads 1")
    if chip_id != model.chip_id:
        raise BadImage(f"mismatch chip ID, expected {model.chip_id}, found {chip_id}")
    program = data[_HEAD.size : _HEAD.size + length]
    if len(program) < length or hashlib.sha256(program).digest() != digest:
        raise BadImage("Image hash failed - image is corrupt")
    return program


@dataclass(frozen=True)
class Segment:
    """A part of a real image: where it lies in the flash, where it goes, and its bytes."""

    paddr: int
    vaddr: int
    size: int


@dataclass(frozen=True)
class EspImage:
    """A real image's head. `mode`, `speed`, `flash_size` are the header's fields."""

    mode: int
    speed: int
    flash_size: int
    entry: int
    chip_id: int
    segments: tuple[Segment, ...]


def read_esp_image(data: bytes, base: int) -> EspImage:
    """The image that begins here, at flash address `base`. BadImage: not one, or cut off."""
    if len(data) < 24 or data[0] != ESP_MAGIC:
        raise BadImage("image has invalid magic byte (nothing flashed here?)")
    _, count, mode, size_speed, entry = _ESP_HEAD.unpack_from(data)
    if not 0 < count <= _MAX_SEGMENTS:
        raise BadImage(f"image has invalid segment count {count}")
    segments: list[Segment] = []
    at = 24
    for _ in range(count):
        if at + 8 > len(data):
            raise BadImage("image is cut off")
        vaddr, size = struct.unpack_from("<II", data, at)
        segments.append(Segment(base + at + 8, vaddr, size))
        at += 8 + size
    if at > len(data):
        raise BadImage("image is cut off")
    return EspImage(
        mode, size_speed & 0xF, size_speed >> 4, entry, int.from_bytes(data[12:14], "little"), tuple(segments)
    )


def bootloader(model: Model, flash_size: int = 2) -> bytes:
    """A second stage bootloader that esptool takes for one: an image with the chip's id and no code in it.

    `flash_size` is the exponent of its header, 0 = 1 MB … 4 = 16 MB; esptool changes it when told to.
    """
    note = b"virtual chip: no code, simulated".ljust(64, b"\0")
    head = _ESP_HEAD.pack(ESP_MAGIC, 1, 2, flash_size << 4 | 0xF, 0x40380000)
    extended = struct.pack("<B3xHBHH4xB", 0xEE, model.chip_id, 0, 0, 0xFFFF, 1)
    body = head + extended + struct.pack("<II", 0x40380000, len(note)) + note
    body += bytes(15 - len(body) % 16)
    checksum = 0xEF
    for byte in note:
        checksum ^= byte
    body += bytes([checksum])
    return body + hashlib.sha256(body).digest()


@dataclass(frozen=True)
class Partition:
    """A line of the partition table; offset and size in bytes."""

    label: str
    kind: int
    subtype: int
    offset: int
    size: int

    @property
    def is_app(self) -> bool:
        return self.kind == APP


USAGES = {(DATA, NVS): "WiFi data", (DATA, PHY): "RF data", (DATA, OTA_DATA): "OTA data", (APP, FACTORY): "factory app"}

SINGLE_APP = (
    Partition("nvs", DATA, NVS, 0x9000, 0x6000),
    Partition("phy_init", DATA, PHY, 0xF000, 0x1000),
    Partition("factory", APP, FACTORY, 0x10000, 0x100000),
)
"""The table that a project has which names none."""


def usage(partition: Partition) -> str:
    """What a bootloader prints for it."""
    if partition.is_app and OTA_0 <= partition.subtype < TEST:
        return "OTA app"
    return USAGES.get((partition.kind, partition.subtype), "Unknown data" if partition.kind == DATA else "Unknown app")


def partition_table(partitions: Sequence[Partition] = SINGLE_APP) -> bytes:
    """The table as it lies in the flash, with its MD5."""
    entries = b"".join(
        _TABLE_ENTRY.pack(_ENTRY_MAGIC, part.kind, part.subtype, part.offset, part.size, part.label.encode(), 0)
        for part in partitions
    )
    digest = struct.pack("<H14s", _MD5_MAGIC, b"\xff" * 14) + hashlib.md5(entries, usedforsecurity=False).digest()
    return (entries + digest).ljust(TABLE_BYTES, b"\xff")


def read_partition_table(data: bytes) -> tuple[Partition, ...]:
    """BadImage where there is none, or where its MD5 is not that of its lines."""
    partitions: list[Partition] = []
    for at in range(0, min(len(data), TABLE_BYTES) - _TABLE_ENTRY.size + 1, _TABLE_ENTRY.size):
        magic, kind, subtype, offset, size, label, _ = _TABLE_ENTRY.unpack_from(data, at)
        if magic == _MD5_MAGIC:
            if data[at + 16 : at + 32] != hashlib.md5(data[:at], usedforsecurity=False).digest():
                raise BadImage("partition table MD5 mismatch")
            break
        if magic != _ENTRY_MAGIC:
            break
        partitions.append(Partition(_text(label), kind, subtype, offset, size))
    if not partitions:
        raise BadImage("partition 0 invalid magic number 0x" + data[:2][::-1].hex())
    return tuple(partitions)


def boot_order(partitions: Iterable[Partition], ota_data: bytes) -> Iterator[Partition]:
    """The app partitions in the order in which a bootloader tries them: the one chosen by OTA data first."""
    apps = [part for part in partitions if part.is_app]
    slots = sorted((part for part in apps if OTA_0 <= part.subtype < TEST), key=lambda part: part.subtype)
    factory = [part for part in apps if part.subtype == FACTORY]
    if slots and (sequence := _ota_sequence(ota_data)):
        chosen = (sequence - 1) % len(slots)
        yield from [*slots[chosen:], *slots[:chosen], *factory]
    else:
        yield from [*factory, *slots]


def _ota_sequence(data: bytes) -> int:
    """The higher of the two sequence numbers in the OTA data; 0 where there is none."""
    numbers = [int.from_bytes(data[at : at + 4], "little") for at in (0, 0x1000) if len(data) >= at + 4]
    return max((number for number in numbers if number != 0xFFFFFFFF), default=0)


def app_description(data: bytes) -> tuple[str, str, str] | None:
    """(project, version, ESP-IDF) of a real app image; None where it tells none."""
    if len(data) < 0x20 + 256 or data[0x20:0x24] != b"\x32\x54\xcd\xab":
        return None
    return _text(data[0x50:0x70]), _text(data[0x30:0x50]), _text(data[0x90:0xB0])


def bootloader_description(data: bytes) -> tuple[str, str] | None:
    """(ESP-IDF, when it was compiled) of a real bootloader; None where it tells none."""
    if len(data) < 0x60 or data[0x20] != 80:
        return None
    return _text(data[0x28:0x48]), _text(data[0x48:0x60])


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("ascii", "replace")
