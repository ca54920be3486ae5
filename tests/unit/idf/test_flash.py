"""What is flashed, checked against what the build left; the words for esptool."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import BadInput, Conflict, NotFound, OrchestratorError
from mcp_server.idf.flash import check_sizes, plan_flash
from mcp_server.model import Artifact
from tests.support.flashable import lay_out, program, recorded


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "build", app=program(5000))


def change(build_dir: Path, **keys: Any) -> None:
    file = build_dir / "flasher_args.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


async def refusal(build_dir: Path, artifacts: Sequence[Artifact] | None = None, **how: Any) -> str:
    """Why nothing of this is flashed."""
    with pytest.raises(OrchestratorError) as error:
        plan_flash(build_dir, await recorded(build_dir) if artifacts is None else artifacts, **how)
    assert str(error.value).isprintable()
    return str(error.value)


async def test_the_command_has_every_image_at_its_address_and_the_settings_of_the_build(build_dir: Path) -> None:
    """Ours."""
    plan = plan_flash(build_dir, await recorded(build_dir), target="esp32c3")

    assert " ".join(plan.command("/dev/ttyUSB0")) == (
        "--chip esp32c3 --port /dev/ttyUSB0 --baud 460800 --before default-reset --after hard-reset write-flash "
        "--flash-mode dio --flash-size 2MB --flash-freq 80m "
        "0x0 bootloader/bootloader.bin 0x8000 partition_table/partition-table.bin 0x10000 door-lock.bin"
    )
    careful = plan.command("/dev/ttyUSB0", careful=True)
    assert careful[careful.index("--baud") + 1] == "115200"
    assert "--no-stub" in careful
    assert "--erase-all" not in careful
    assert "--erase-all" in plan.command("/dev/ttyUSB0", erase=True)


async def test_only_esptools_own_loader_can_erase_all_so_the_second_try_keeps_it_then(build_dir: Path) -> None:
    """Spec. `--no-stub --erase-all` is refused by most chips' loaders."""
    plan = plan_flash(build_dir, await recorded(build_dir))
    words = plan.command("/dev/ttyUSB0", erase=True, careful=True)
    assert "--no-stub" not in words
    assert words[words.index("--baud") + 1] == "115200"


async def test_esptool_4s_spelling_becomes_that_of_5(build_dir: Path) -> None:
    """Spec. Builds of ESP-IDF before 6 write underscores."""
    change(
        build_dir,
        write_flash_args=["--flash_mode", "dio", "--flash_size", "2MB", "--flash_freq", "80m"],
        extra_esptool_args={"after": "no_reset_stub", "before": "usb_reset", "stub": False, "chip": "esp32c3"},
    )
    artifacts = [one for one in await recorded(build_dir) if one.offset]
    words = plan_flash(build_dir, artifacts).command("/dev/ttyUSB0")
    settings = words[words.index("write-flash") + 1 :][:6]
    assert settings == ["--flash-mode", "dio", "--flash-size", "2MB", "--flash-freq", "80m"]
    assert not any("_" in word for word in words if word.startswith("--"))
    assert words[words.index("--after") + 1] == "no-reset-stub"
    assert words[words.index("--before") + 1] == "usb-reset"
    assert "--no-stub" in words


async def test_a_file_whose_name_looks_like_an_option_stays_a_file(tmp_path: Path) -> None:
    """Ours."""
    build_dir = lay_out(tmp_path / "build")
    (build_dir / "door-lock.bin").rename(build_dir / "--erase-all")
    change(build_dir, flash_files={"0x10000": "--erase-all"})
    words = plan_flash(build_dir, [one for one in await recorded(build_dir) if one.offset]).command("/dev/ttyUSB0")
    assert words[-2:] == ["0x10000", "./--erase-all"]


@pytest.mark.parametrize("path", ["door-lock.bin", "bootloader/bootloader.bin"])
@pytest.mark.parametrize("how", ["other bytes", "longer", "gone", "a folder"])
async def test_a_file_that_is_not_the_builds_any_more_is_never_flashed(build_dir: Path, path: str, how: str) -> None:
    """Issue. By hash: its time and size may be the same."""
    artifacts, file = await recorded(build_dir), build_dir / path
    data = file.read_bytes()
    file.unlink()
    if how == "other bytes":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "longer":
        file.write_bytes(data + b"?")
    elif how == "a folder":
        file.mkdir()
    assert await refusal(build_dir, artifacts, build=42) == f"build/{path} is not what build 42 made: build again"


async def test_settings_changed_after_the_build_are_noticed(build_dir: Path) -> None:
    """Issue. Never from a stale build."""
    artifacts = await recorded(build_dir)
    change(build_dir, write_flash_args=["--flash-size", "4MB"])
    assert "flasher_args.json is not what build 7 made" in await refusal(build_dir, artifacts, build=7)


async def test_a_list_that_names_other_images_than_the_record_is_refused(build_dir: Path) -> None:
    """Ours."""
    images = [one for one in await recorded(build_dir) if one.offset]
    assert "door-lock.bin in build/flasher_args.json is not what the build made" in await refusal(
        build_dir, [one for one in images if one.path != "door-lock.bin"]
    )
    moved = [one.model_copy(update={"offset": "0x20000"}) if one.offset == "0x10000" else one for one in images]
    assert "door-lock.bin in build/flasher_args.json" in await refusal(build_dir, moved)


async def test_an_image_outside_the_build_directory_is_refused(build_dir: Path, tmp_path: Path) -> None:
    """Issue. Also where a link leads out."""
    (tmp_path / "secret.bin").write_bytes(b"x" * 100)
    change(build_dir, flash_files={"0x10000": "../secret.bin"})
    assert "outside the build directory" in await refusal(build_dir)
    (build_dir / "link.bin").symlink_to(tmp_path / "secret.bin")
    change(build_dir, flash_files={"0x10000": "link.bin"})
    assert "'link.bin' lies outside the build directory: it is not flashed" in await refusal(build_dir)


async def test_a_path_that_only_ends_in_the_build_directory_is_refused(build_dir: Path) -> None:
    """Ours. Images are copied by their paths, and the copies are written."""
    for path in (str(build_dir / "door-lock.bin"), "bootloader/../../build/door-lock.bin"):
        change(build_dir, flash_files={"0x10000": path})
        assert "should be a path below the build directory" in await refusal(build_dir)


async def test_images_that_overlap_or_do_not_fit_are_refused_before_the_board_is_asked(build_dir: Path) -> None:
    """Issue. A sector is erased whole, so two images cannot share one."""
    app, table = "door-lock.bin", "partition_table/partition-table.bin"
    change(build_dir, flash_files={"0x8000": table, "0x8400": app})
    assert "reaches into door-lock.bin at 0x8400" in await refusal(build_dir)
    change(build_dir, flash_files={"0x8000": table, "0x8c00": app})
    assert "share a sector of the flash" in await refusal(build_dir)
    change(build_dir, flash_files={"0x1ff000": app})
    assert "does not fit: the build is for 2048 kB of flash" in await refusal(build_dir)


@pytest.mark.parametrize("settings", [["--flash-size", "2MB"], ["--flash-size", "keep"]])
async def test_a_file_that_is_far_too_large_is_refused_before_it_is_read(
    build_dir: Path, settings: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. To hash 6 GB takes half a minute; its size is known at once."""
    images = [one for one in await recorded(build_dir) if one.offset]
    images[-1] = images[-1].model_copy(update={"size": 6 << 30})
    os.truncate(build_dir / "door-lock.bin", 6 << 30)
    change(build_dir, write_flash_args=settings)

    def read_it(_dir: Path, _artifact: Artifact) -> str:
        pytest.fail("it was read")

    monkeypatch.setattr("mcp_server.idf.flash.unchanged", read_it)
    assert "door-lock.bin (6442450944 bytes at 0x10000) does not fit" in await refusal(build_dir, images)
    with pytest.raises(Conflict, match="does not fit"):
        check_sizes(build_dir)


async def test_encrypted_builds_are_flashed_only_when_asked(build_dir: Path) -> None:
    """Issue. Fuses that this burns cannot be mended."""
    entry = {"offset": "0x10000", "file": "door-lock.bin", "encrypted": "true"}
    change(build_dir, app=entry)
    artifacts = await recorded(build_dir)
    assert (await refusal(build_dir, artifacts)).startswith("encrypt: door-lock.bin is to be encrypted")
    words = plan_flash(build_dir, artifacts, encrypt=True).command("/dev/ttyUSB0")
    assert words[-3:] == ["--encrypt-files", "0x10000", "door-lock.bin"]

    change(build_dir, write_flash_args=["--force"])
    assert "can make a board useless" in await refusal(build_dir)
    change(build_dir, write_flash_args=["--encrypt"], app=entry)
    words = plan_flash(build_dir, await recorded(build_dir), encrypt=True).command("/dev/ttyUSB0")
    assert words[words.index("write-flash") + 1 :][:2] == ["--encrypt", "0x0"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"write_flash_args": ["--diff-with", "/etc/passwd"]}, "wants '--diff-with' of esptool"),
        ({"write_flash_args": ["--flash-mode", "dio; reboot"]}, "is no value for it"),
        ({"flash_files": {}}, "lists nothing to be flashed"),
        ({"flash_files": {"here": "door-lock.bin"}}, "is garbled near 'here'"),
        ({"flash_files": {"010": "door-lock.bin"}}, "is garbled near '010'"),
        ({"flash_files": {"0x20000": "\x1b[31m.bin"}}, "has a backslash or control character: rename it"),
        ({"flash_files": {"0x20000": "\x9b31m.bin"}}, "has a backslash or control character: rename it"),
        ({"flash_files": {"0x20000": "\u202egnp.bin"}}, "has a backslash or control character: rename it"),
        ({"extra_esptool_args": {"chip": "esp32c3", "before": "--trace"}}, "before '--trace' in flasher_args.json is"),
        ({"extra_esptool_args": {"chip": "esp32c3", "after": "-h"}}, "is no way of resetting"),
        ({"extra_esptool_args": {"chip": "linux"}}, "is not flashed"),
        ({"extra_esptool_args": {"chip": "--port"}}, "names no chip"),
        ({"extra_esptool_args": {"chip": "esp32c3", "before": "rm -rf"}}, "is no way of resetting"),
    ],
)
async def test_a_list_with_anything_unusual_in_it_is_refused_in_a_sentence(
    build_dir: Path, keys: dict[str, Any], sentence: str
) -> None:
    """Ours. The file is data of a project, and its words end on a command line."""
    artifacts = [one for one in await recorded(build_dir) if one.offset]
    change(build_dir, **keys)
    assert sentence in await refusal(build_dir, artifacts)


async def test_firmware_for_another_chip_than_asked_is_refused(build_dir: Path) -> None:
    """Ours."""
    assert await refusal(build_dir, target="esp32s3") == (
        "the build directory holds firmware for esp32c3, not for esp32s3: build again"
    )


@pytest.mark.parametrize("content", [None, "", "[]", "{", "[" * 100_000])
async def test_a_build_directory_without_a_usable_list_says_to_build(build_dir: Path, content: str | None) -> None:
    """Ours."""
    artifacts = [one for one in await recorded(build_dir) if one.offset]
    file = build_dir / "flasher_args.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises((NotFound, Conflict), match="build"):
        plan_flash(build_dir, artifacts)


async def test_no_images_and_odd_names_are_refused(build_dir: Path) -> None:
    """Ours. A newline would add lines to the list of hashes that the job checks."""
    with pytest.raises(NotFound, match="left nothing to be flashed"):
        plan_flash(build_dir, [])
    for name in ("a\nb.bin", "a\x1b[31m.bin", "a\x9bK.bin", "a\u202eb.bin", "a\u2028b.bin", "\udcff.bin", "a\\b.bin"):
        odd = Artifact(path=name, size=1, sha256="0" * 64, offset="0x0")
        with pytest.raises(BadInput, match="backslash or control character") as refused:
            plan_flash(build_dir, [odd])
        assert str(refused.value).isprintable()
    empty = Artifact(path="door-lock.bin", size=0, sha256="0" * 64, offset="0x10000")
    with pytest.raises(Conflict, match="is empty: build again"):
        plan_flash(build_dir, [empty])
