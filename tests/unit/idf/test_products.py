"""What a build left, from its own files; and what happens where they are missing or lie."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mcp_server.idf.products import collect

FILES = Path(__file__).parents[2] / "fixtures" / "files"


@pytest.fixture
def chip_build(tmp_path: Path) -> Path:
    """The recorded description of an esp32c3 build, with images of a few bytes."""
    build = tmp_path / "build"
    for folder in ("bootloader", "partition_table"):
        (build / folder).mkdir(parents=True)
    shutil.copyfile(FILES / "project_description-c3.json", build / "project_description.json")
    shutil.copyfile(FILES / "flasher_args-c3.json", build / "flasher_args.json")
    shutil.copyfile(FILES / "flash_args-c3", build / "flash_args")
    names = [
        "door-lock.bin",
        "door-lock.elf",
        "door-lock.map",
        "bootloader/bootloader.bin",
        "bootloader/bootloader.elf",
    ]
    for name in [*names, "partition_table/partition-table.bin"]:
        (build / name).write_bytes(name.encode())
    return build


def edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


async def test_chip_build_has_its_images_by_address(chip_build: Path) -> None:
    """ESP-IDF's flasher_args.json: address, kind, path; hashed."""
    products = await collect(chip_build)
    assert [(image.offset, image.kind, image.path) for image in products.images] == [
        ("0x0", "bootloader", "bootloader/bootloader.bin"),
        ("0x8000", "partition-table", "partition_table/partition-table.bin"),
        ("0x10000", "app", "door-lock.bin"),
    ]
    app = products.images[2]
    assert (app.size, app.sha256) == (13, hashlib.sha256(b"door-lock.bin").hexdigest())
    assert (products.target, products.project_name, products.project_version) == ("esp32c3", "door-lock", "v1.2.0")
    assert (products.app_bin, products.app_elf, products.notes) == ("door-lock.bin", "door-lock.elf", ())
    kinds = {artifact.kind for artifact in products.artifacts}
    assert kinds >= {"app", "bootloader", "partition-table", "elf", "map", "bootloader-elf", "flasher-args"}


async def test_linux_build_has_its_program(tmp_path: Path) -> None:
    """The linux target has no image, though its description names one."""
    shutil.copyfile(FILES / "project_description-linux.json", tmp_path / "project_description.json")
    (tmp_path / "greenhouse.elf").write_bytes(b"\x7fELF")
    products = await collect(tmp_path)
    assert (products.target, products.app_elf, products.app_bin) == ("linux", "greenhouse.elf", None)
    assert [artifact.kind for artifact in products.artifacts] == ["elf", "description"]
    assert products.notes == ()


async def test_empty_directory_has_notes_only(tmp_path: Path) -> None:
    """Ours: a sentence each, no error."""
    products = await collect(tmp_path)
    assert products.artifacts == ()
    assert products.notes == (
        "project_description.json is missing or not readable in the build directory",
        "flasher_args.json is missing or not readable in the build directory",
    )


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, '"x"'])
async def test_garbled_description_costs_only_its_part(chip_build: Path, text: str) -> None:
    """Ours. A build that was killed leaves half a file."""
    (chip_build / "project_description.json").write_text(text)
    products = await collect(chip_build)
    assert len(products.images) == 3
    assert products.notes[0] == "project_description.json is garbled: it is no JSON object"


@pytest.mark.parametrize(
    "fields",
    [
        {"flash_files": 7},
        {"flash_files": {"0x0": 7, "later": "door-lock.bin"}, "app": 3},
        {"flash_files": ["x"], "bootloader": {"file": 3, "offset": None}},
    ],
)
async def test_odd_fields_are_tolerated(chip_build: Path, fields: dict[str, Any]) -> None:
    """Ours. Another version may write other things."""
    edit(chip_build / "flasher_args.json", **fields)
    products = await collect(chip_build)
    assert products.app_elf == "door-lock.elf"


async def test_missing_image_is_noted(chip_build: Path) -> None:
    """Ours."""
    (chip_build / "door-lock.bin").unlink()
    (chip_build / "door-lock.elf").unlink()
    products = await collect(chip_build)
    assert [image.kind for image in products.images] == ["bootloader", "partition-table"]
    assert products.notes == (
        "door-lock.bin cannot be read (No such file or directory)",
        "door-lock.elf is missing, though the project names it as its program",
    )


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "a\0b"])
async def test_files_outside_the_build_directory_are_left_out(chip_build: Path, path: str) -> None:
    """Ours. A project's JSON may name anything; artifacts are handed out over HTTP."""
    (chip_build.parent / "secret").write_text("hunter2")
    (chip_build / "link").symlink_to(chip_build.parent / "secret")
    edit(chip_build / "flasher_args.json", flash_files={"0x0": path})
    products = await collect(chip_build)
    assert products.images == ()
    assert any("is outside the build directory" in note for note in products.notes)


async def test_impossible_names_are_tolerated(chip_build: Path) -> None:
    """Ours. They come from a project's own file."""
    edit(chip_build / "project_description.json", app_elf="x" * 5000 + ".elf", app_bin="\0")
    products = await collect(chip_build)
    assert len(products.images) == 3


async def test_fifo_is_no_image(chip_build: Path) -> None:
    """Ours. Never waits for a writer."""
    (chip_build / "door-lock.bin").unlink()
    os.mkfifo(chip_build / "door-lock.bin")
    assert "door-lock.bin cannot be read (it is no file)" in (await collect(chip_build)).notes
