"""The partition table as it is flashed: 32 bytes an entry, an MD5 row, then 0xFF to the end."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from mcp_server.errors import BadInput
from mcp_server.model import Model

ENTRY: Final = struct.Struct("<2sBBII16sI")
"""Magic, type, subtype, offset, size, label, flags."""

TABLE_BYTES: Final = 0xC00  # 95 entries and the MD5 row; what follows is a signature or nothing
MAGIC: Final = b"\xaa\x50"
MD5_MAGIC: Final = b"\xeb\xeb" + b"\xff" * 14

_TYPES: Final = {0: "app", 1: "data", 2: "bootloader", 3: "partition_table"}
_SUBTYPES: Final[Mapping[int, Mapping[int, str]]] = {
    0: {0: "factory", 0x20: "test", 0x30: "tee_0", 0x31: "tee_1", **{0x10 + n: f"ota_{n}" for n in range(16)}},
    1: {
        **dict[int, str](enumerate(("ota", "phy", "nvs", "coredump", "nvs_keys", "efuse", "undefined"))),
        **{0x80: "esphttpd", 0x81: "fat", 0x82: "spiffs", 0x83: "littlefs", 0x90: "tee_ota"},
    },
}


class Partition(Model):
    """One entry. `offset` and `size` in bytes of flash; a type or subtype without a name is written 0x40."""

    name: str
    type: str
    subtype: str
    offset: int
    size: int
    encrypted: bool = False
    readonly: bool = False


def parse_table(data: bytes) -> tuple[Partition, ...]:
    """The partitions in the order of the table. BadInput: it is none, is cut short, or its MD5 does not fit."""
    found: list[Partition] = []
    for start in range(0, min(len(data), TABLE_BYTES), ENTRY.size):
        row = data[start : start + ENTRY.size]
        if row == b"\xff" * ENTRY.size:
            return tuple(found)
        if len(row) < ENTRY.size:
            break
        if row.startswith(MD5_MAGIC):
            if hashlib.md5(data[:start], usedforsecurity=False).digest() != row[16:]:
                raise BadInput("partition table", "its MD5 row does not fit its entries: build it again")
        elif row.startswith(MAGIC):
            found.append(_entry(row))
        else:
            raise BadInput(
                "partition table", f"entry {start // ENTRY.size} begins with 0x{row[:2].hex()}, not with 0xaa50"
            )
    if len(data) < TABLE_BYTES:
        raise BadInput("partition table", f"it ends after {len(data)} bytes, before its end mark")
    return tuple(found)


def smallest_app(table: Sequence[Partition]) -> Partition | None:
    """The app partition that the firmware must fit in to fit in all of them; None where the table has none."""
    apps = [one for one in table if one.type == "app" and not one.subtype.startswith("tee")]
    return min(apps, key=lambda one: one.size, default=None)


def _entry(row: bytes) -> Partition:
    _, kind, subtype, offset, size, label, flags = ENTRY.unpack(row)
    return Partition(
        name=label.split(b"\0")[0].decode("utf-8", "replace"),
        type=_TYPES.get(kind, f"0x{kind:02x}"),
        subtype=_SUBTYPES.get(kind, {}).get(subtype, f"0x{subtype:02x}"),
        offset=offset,
        size=size,
        encrypted=bool(flags & 1),
        readonly=bool(flags & 2),
    )
