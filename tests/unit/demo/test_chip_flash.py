"""The virtual chip's flash and what lies in it: NOR rules, the envelope, partition tables, real images' heads."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.demo.chip import image
from mcp_server.demo.chip.faults import parse_faults
from mcp_server.demo.chip.flash import SECTOR, FlashRange, NorFlash
from mcp_server.demo.chip.image import BadImage, Partition
from mcp_server.demo.chip.models import MIB, MODELS, find_model, flash_bytes, parse_revision
from mcp_server.errors import BadInput, Conflict

C3 = MODELS["esp32c3"]
PROGRAM = b"#!/bin/sh\necho hello\n"
OTA = (
    Partition("otadata", image.DATA, image.OTA_DATA, 0xD000, 0x2000),
    Partition("factory", image.APP, image.FACTORY, 0x10000, 0x10000),
    Partition("ota_0", image.APP, image.OTA_0, 0x20000, 0x10000),
    Partition("ota_1", image.APP, image.OTA_0 + 1, 0x30000, 0x10000),
)

Step = tuple[str, int, bytes]
steps = st.lists(st.tuples(st.sampled_from(["write", "erase"]), st.integers(0, 16000), st.binary(max_size=300)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_writing_clears_and_only_erasing_sets(tmp_path: Path, todo: list[Step]) -> None:
    """Spec (NOR). Against a model of it, byte by byte."""
    size = 16384 + SECTOR
    expected = bytearray(b"\xff" * size)
    (tmp_path / "flash").unlink(missing_ok=True)
    with NorFlash(tmp_path / "flash", size) as flash:
        for what, at, data in todo:
            if what == "write":
                flash.write(at, data)
                for index, byte in enumerate(data, start=at):
                    expected[index] &= byte
            else:
                flash.erase(at, len(data))
                for sector in range(at // SECTOR, -(-(at + len(data)) // SECTOR)) if data else ():
                    expected[sector * SECTOR : (sector + 1) * SECTOR] = b"\xff" * SECTOR
        assert flash.contents() == bytes(expected)
    assert (tmp_path / "flash").read_bytes() == bytes(expected)


def test_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    """Ours. Nothing is changed, and the file does not grow."""
    with NorFlash(tmp_path / "flash", SECTOR) as flash:
        for act in (lambda: flash.read(4000, 97), lambda: flash.write(4096, b"x"), lambda: flash.erase(0, 4097)):
            with pytest.raises(FlashRange):
                act()
    assert (tmp_path / "flash").read_bytes() == b"\xff" * SECTOR


def test_short_file_is_filled_up_and_a_long_one_refused(tmp_path: Path) -> None:
    """Ours. A cut-off flash file is that of a chip killed while it made it."""
    path = tmp_path / "flash"
    path.write_bytes(b"abc")
    with NorFlash(path, 2 * SECTOR) as flash:
        assert flash.contents() == b"abc".ljust(2 * SECTOR, b"\xff")
        with pytest.raises(Conflict, match="another virtual chip"):
            NorFlash(path, 2 * SECTOR)
    with pytest.raises(BadInput, match="choose a larger flash"):
        NorFlash(path, SECTOR)
    with pytest.raises(BadInput, match="is no file"):
        NorFlash(tmp_path, SECTOR)


def test_envelope_gives_the_program_back() -> None:
    """Issue. Whatever lies behind it in the partition."""
    assert image.unpack(image.pack(PROGRAM, C3) + b"\xff" * 5000, C3) == PROGRAM


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff" * 100, "invalid magic byte"),
        (b"", "invalid magic byte"),
        (image.pack(PROGRAM, C3)[:-1], "corrupt"),
        (image.pack(PROGRAM, C3)[:-1] + b"!", "corrupt"),
        (image.pack(PROGRAM, MODELS["esp32"]), "mismatch chip ID, expected 5, found 0"),
        (image.MAGIC + b"\x02" + image.pack(PROGRAM, C3)[9:], "version 2"),
    ],
)
def test_damaged_envelope_is_not_run(data: bytes, words: str) -> None:
    """Issue. Cut off, changed, of another chip."""
    with pytest.raises(BadImage, match=words):
        image.unpack(data, C3)


def test_only_what_this_machine_can_start_is_packed() -> None:
    """Ours."""
    with pytest.raises(BadInput, match="neither an ELF file nor a script"):
        image.pack(b"\xe9\x01", C3)


def test_partition_table_is_that_of_esp_idf() -> None:
    """Spec. The first line of the default table, byte for byte; its MD5 line; what is read is what was written."""
    table = image.partition_table()

    assert table[:32] == bytes.fromhex("aa5001020090000000600000") + b"nvs".ljust(16, b"\0") + bytes(4)
    assert table[96:112] == b"\xeb\xeb" + b"\xff" * 14
    assert len(table) == 0xC00
    assert image.read_partition_table(table) == image.SINGLE_APP
    with pytest.raises(BadImage, match="MD5"):
        image.read_partition_table(table[:12] + b"N" + table[13:])
    with pytest.raises(BadImage, match="0xffff"):
        image.read_partition_table(b"\xff" * 0xC00)


@pytest.mark.parametrize(
    ("sequence", "order"),
    [
        (None, ["factory", "ota_0", "ota_1"]),
        (1, ["ota_0", "ota_1", "factory"]),
        (2, ["ota_1", "ota_0", "factory"]),
        (3, ["ota_0", "ota_1", "factory"]),
    ],
)
def test_ota_data_chooses_the_app(sequence: int | None, order: list[str]) -> None:
    """Spec. Sequence number minus one, modulo the number of slots; the newer of the two copies."""
    data = b"\xff" * 0x2000 if sequence is None else sequence.to_bytes(4, "little").ljust(0x1000, b"\xff") + bytes(32)

    assert [part.label for part in image.boot_order(OTA, data)] == order


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Ours. A flash may hold anything; what reads it says BadImage or reads it."""
    for read in (
        lambda: image.read_esp_image(b"\xe9" + data, 0),
        lambda: image.read_partition_table(b"\xaa\x50" + data),
        lambda: image.unpack(image.MAGIC + data, C3),
    ):
        with contextlib.suppress(BadImage):
            read()
    image.app_description(data)
    image.bootloader_description(data)


def test_made_bootloader_is_an_image_of_its_chip() -> None:
    """Ours. Its head is the one that the ROM and esptool read."""
    for model in MODELS.values():
        made = image.read_esp_image(image.bootloader(model, flash_size=2), model.bootloader_offset)
        assert (made.chip_id, made.flash_size, len(made.segments)) == (model.chip_id, 2, 1)


def test_faults_are_read() -> None:
    """Issue. Several, with and without a value."""
    faults = parse_faults(["vanish=65536,1.5", "md5-mismatch=0", "md5-mismatch=2", "flash-encryption=release"])

    assert (faults.vanish_after, faults.back_after_s, set(faults.md5_mismatch)) == (65536, 1.5, {0, 2})
    assert faults.security.release
    assert faults.security.crypt_count == 1


@pytest.mark.parametrize(
    "text", ["", "x", "silent=1", "slow=0", "slow", "vanish", "vanish=1,x", "reports=z", "noise=-1"]
)
def test_wrong_fault_is_named(text: str) -> None:
    """Ours."""
    with pytest.raises(BadInput):
        parse_faults([text])


def test_chips_and_sizes_by_name() -> None:
    """Ours. As people write them."""
    assert find_model("ESP32-C3") is C3
    assert flash_bytes("16MB") == 16 * MIB
    assert parse_revision("v3.1", MODELS["esp32"]) == (3, 1)
    with pytest.raises(BadInput):
        parse_revision("0.8", MODELS["esp32h2"])
