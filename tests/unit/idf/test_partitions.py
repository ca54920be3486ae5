"""The binary partition table: each entry, its MD5, and what is no table."""

import hashlib
import os
import struct
import subprocess
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.idf.partitions import Partition, parse_table, smallest_app

OURS = dict(os.environ)  # as it was before the tests were closed off
TABLES = "components/partition_table"
SINGLE = [
    ("nvs", 1, 2, 0x9000, 0x6000, 0),
    ("phy_init", 1, 1, 0xF000, 0x1000, 2),
    ("factory", 0, 0, 0x10000, 0x100000, 1),
]


def table(*entries: tuple[str, int, int, int, int, int], md5: bool = True, pad: bool = True) -> bytes:
    """A table as ESP-IDF's gen_esp32part.py writes it."""
    rows = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, offset, size, name.encode(), flags)
        for name, kind, subtype, offset, size, flags in entries
    )
    rows += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(rows).digest() if md5 else b""
    return rows.ljust(0xC00, b"\xff") if pad else rows


def test_every_entry_is_read_with_its_names_and_flags() -> None:
    """ESP-IDF: 32 bytes an entry."""
    assert parse_table(table(*SINGLE)) == (
        Partition(name="nvs", type="data", subtype="nvs", offset=0x9000, size=0x6000),
        Partition(name="phy_init", type="data", subtype="phy", offset=0xF000, size=0x1000, readonly=True),
        Partition(name="factory", type="app", subtype="factory", offset=0x10000, size=0x100000, encrypted=True),
    )


def test_what_has_no_name_keeps_its_number() -> None:
    """ESP-IDF lets a project define types and subtypes of its own."""
    own, label = parse_table(table(("own", 0x40, 7, 0x1000, 1, 0), ("sixteen letters!", 1, 0x99, 0x2000, 1, 0)))

    assert (own.type, own.subtype, label.name, label.subtype) == ("0x40", "0x07", "sixteen letters!", "0x99")


def test_a_full_table_needs_no_end_mark() -> None:
    """ESP-IDF: at most 95 entries, and the MD5 row ends what is read; a signature may follow."""
    full = table(*[(f"p{n}", 1, 6, n * 4096, 4096, 0) for n in range(95)], pad=False)

    assert len(full) == 0xC00
    assert len(parse_table(full + b"signature")) == 95


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends after 0 bytes"),
        (table(*SINGLE, pad=False), "ends after 128 bytes, before its end mark"),
        (table(*SINGLE)[:40], "ends after 40 bytes"),
        (table(*SINGLE).replace(b"factory", b"fictory"), "its MD5 row does not fit"),
        (b"\xe9\x05" + b"\0" * 4096, "entry 0 begins with 0xe905, not with 0xaa50"),
    ],
)
def test_what_is_no_table_says_why(data: bytes, says: str) -> None:
    """Ours. An image at the table's address, a file cut short, a flipped bit."""
    with pytest.raises(BadInput, match=r"^partition table: ") as error:
        parse_table(data)

    assert says in str(error.value)


def test_the_smallest_app_partition_is_what_firmware_must_fit() -> None:
    """ESP-IDF's check_sizes.py; the TEE's own partitions hold another program."""
    found = parse_table(table(("tee", 0, 0x30, 0x1000, 10, 0), ("a", 0, 0x10, 0x2000, 30, 0), ("b", 0, 0x11, 0, 20, 0)))

    assert getattr(smallest_app(found), "name", None) == "b"
    assert smallest_app(parse_table(table(SINGLE[0]))) is None


@pytest.mark.skipif(
    not {"IDF_PATH", "IDF_PYTHON_ENV_PATH"} <= set(OURS), reason="no ESP-IDF: IDF_PATH, IDF_PYTHON_ENV_PATH not set"
)
def test_every_table_of_esp_idf_reads_as_its_own_tool_reads_it(tmp_path: Path) -> None:
    """Issue. The real gen_esp32part.py writes it, and writes it back as CSV."""
    folder, python = Path(OURS["IDF_PATH"]) / TABLES, f"{OURS['IDF_PYTHON_ENV_PATH']}/bin/python"
    for csv in sorted(folder.glob("partitions_*.csv")):
        binary = tmp_path / f"{csv.stem}.bin"
        tool = [python, str(folder / "gen_esp32part.py"), "-q"]
        subprocess.run([*tool, str(csv), str(binary)], check=True, capture_output=True)
        lines = subprocess.run(
            [*tool, str(binary), "-"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        theirs = [line.split(",")[:4] for line in lines if not line.startswith("#")]

        ours = [[one.name, one.type, one.subtype, hex(one.offset)] for one in parse_table(binary.read_bytes())]

        assert ours == theirs, csv.name
