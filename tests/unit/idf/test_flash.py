"""What is flashed, checked against what the build left; the words for esptool; what its output means."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcp_server.engine.stages.base import StageContext
from mcp_server.engine.stages.idf_flash import IdfFlash
from mcp_server.errors import BadInput, Conflict, NotFound, OrchestratorError
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.flash import Image, check_sizes, plan_flash
from mcp_server.idf.flash_log import Board, FlashLog, cause_of
from mcp_server.model import Artifact, Stage, StageStatus
from tests.support.flashable import lay_out, program, recorded

RECORDED = Path(__file__).parents[2] / "fixtures" / "flash"
IMAGES = (
    Image("bootloader/bootloader.bin", 0, 144),
    Image("partition_table/partition-table.bin", 0x8000, 3072),
    Image("door-lock.bin", 0x10000, 60048),
)
"""Those of the recorded runs."""

RESOLVED = {"port": "/dev/ttyUSB0", "described": "/dev/ttyUSB0 (CP2102)", "target": "esp32c3"}
"""What a worker of the first version left of a flash."""


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "build", app=program(5000))


def read(name: str, images: Sequence[Image] = IMAGES) -> FlashLog:
    log = FlashLog(images)
    log.feed((RECORDED / f"{name}.txt").read_bytes())
    log.close()
    return log


def change(build_dir: Path, **keys: Any) -> None:
    file = build_dir / "flasher_args.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


async def refusal(build_dir: Path, artifacts: Sequence[Artifact] | None = None, **how: Any) -> str:
    """Why nothing of this is flashed."""
    with pytest.raises(OrchestratorError) as error:
        plan_flash(build_dir, await recorded(build_dir) if artifacts is None else artifacts, **how)
    assert str(error.value).isprintable()
    return str(error.value)


# -- what is flashed ---------------------------------------------------------------------------------------------------


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


# -- what esptool says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ok", "no-stub", "erase-all", "secure-boot"])
def test_every_verified_hash_counts_for_its_image(name: str) -> None:
    """Issue. Recorded output of esptool 5.6."""
    log = read(name)
    details = log.details()
    assert log.verified
    assert log.board is Board.WRITTEN
    assert details["chip"].startswith("ESP32-C3")
    assert details["mac"] == "7c:df:a1:00:00:01"
    assert details["esptool"].startswith("5.")
    assert [image["written"] for image in details["images"]] == [144, 3072, 60048]
    assert log.erased is (name == "erase-all")
    assert log.secured is (name == "secure-boot")


@pytest.mark.parametrize(
    ("name", "cause", "board", "again"),
    [
        ("busy", "port_busy", Board.UNTOUCHED, False),
        ("encrypt-refused", "flash_encryption", Board.UNTOUCHED, False),
        ("encrypted-release", "flash_encryption", Board.UNTOUCHED, False),
        ("garbage", "garbage", Board.UNTOUCHED, False),
        ("md5", "md5", Board.UNVERIFIED, True),
        ("no-answer", "no_answer", Board.UNTOUCHED, False),
        ("no-boot-mode", "no_boot_mode", Board.UNTOUCHED, False),
        ("no-port", "no_port", Board.UNTOUCHED, False),
        ("permission", "permission", Board.UNTOUCHED, False),
        ("secure-download-encrypted", "flash_encryption", Board.UNTOUCHED, False),
        ("stub-write-fails", "write", Board.PARTLY, True),
        ("stub-write-stalls", "write", Board.PARTLY, True),
        ("too-small", "flash_too_small", Board.UNTOUCHED, False),
        ("vanished", "port_gone", Board.PARTLY, False),
        ("write-fails", "write", Board.PARTLY, True),
        ("wrong-chip", "wrong_chip", Board.UNTOUCHED, False),
    ],
)
def test_a_failure_has_its_cause_and_what_became_of_the_board(name: str, cause: str, board: Board, again: bool) -> None:
    """Issue. Recorded output of esptool 5.6; only what another way of writing could mend is tried again."""
    log = read(name)
    found = cause_of(log, "/dev/ttyUSB0")
    assert (found.name, log.board, found.again) == (cause, board, again), found.sentence
    assert not log.verified
    assert "http" not in found.sentence
    assert len(found.sentence) < 300


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        ("Failed to connect to ESP32: Wrong boot mode detected (0x13)! …", "no_boot_mode", "hold BOOT, press RESET"),
        ("Failed to start stub flasher. There was no response.", "stub", "loader did not start"),
        ("Secure Boot V1 detected, writing to flash regions < 0x8000 is disabled.", "secure_boot", "secure boot"),
        ("Failed to enter flash mode (result was C500: Failed SPI unlock)", "write_protected", "write protected"),
        ("Write failed, the written flash region is empty.", "md5", "empty there"),
    ],
)
def test_errors_that_no_recording_has_are_known_too(error: str, cause: str, words: str) -> None:
    """Spec. Sentences of esptool 5.6 as its manual and source have them."""
    log = FlashLog(IMAGES)
    log.feed(f"esptool v5.6.0\n\nERROR: A fatal error occurred: {error}\n".encode())
    found = cause_of(log, "/dev/ttyUSB0")
    assert found.name == cause
    assert words in found.sentence


@pytest.mark.parametrize("why", ["[Errno 111] Connection refused", "timed out", "[Errno -2] Name or service not known"])
@pytest.mark.parametrize("port", ["socket://127.0.0.1:9", "rfc2217://lab:9"])
def test_a_serial_server_that_does_not_answer_is_not_called_busy(port: str, why: str) -> None:
    """Issue. esptool says of every port that it is busy or does not exist."""
    log = FlashLog(IMAGES)
    busy = f"Could not open {port}, the port is busy or doesn't exist.\n(Could not open port {port}: {why})\n\n"
    log.feed(f"esptool v5.6.0\n\nERROR: A fatal error occurred: {busy}".encode())
    found = cause_of(log, port)
    assert (found.name, found.sentence) == (
        "unreachable",
        f"nothing answers at {port}: start the program that serves the port there (ser2net, esp_rfc2217_server),"
        " or check the address",
    )


@pytest.mark.parametrize(
    "said",
    [
        "Could not configure port: (5, 'Input/output error')",
        "[Errno 5] Input/output error",
        "socket disconnected",
        "device reports readiness to read but returned no data (device disconnected or multiple access on port?)",
    ],
)
def test_a_port_that_was_lost_in_mid_write_is_gone_however_it_is_said(said: str) -> None:
    """Ours. A port that came back may be gone again while it is opened."""
    log = FlashLog(IMAGES)
    text = (RECORDED / "vanished.txt").read_text()
    log.feed(f"{text[: text.index('Hard resetting')]}ERROR: A serial exception error occurred: {said}\n".encode())
    assert cause_of(log, "/dev/ttyUSB0").name == "port_gone"


def test_a_first_block_that_cannot_be_written_is_no_failed_erase() -> None:
    """Ours. esptool prints nothing between the two."""
    log = FlashLog(IMAGES)
    text = (RECORDED / "write-fails.txt").read_text()
    log.feed((text[: text.index("Writing at 0x00014000")] + text[text.index("ERROR:") :]).encode())
    assert cause_of(log, "/dev/ttyUSB0").sentence.startswith("writing door-lock.bin failed: Failed to write")


@pytest.mark.parametrize("name", ["write-fails", "no-stub", "erase-all"])
def test_a_write_is_not_called_an_erase(name: str) -> None:
    """Ours. The loader erases as it writes, the chip's own at once before it; of an erased flash nothing is said."""
    log, doing = FlashLog(IMAGES), dict[str, str]()
    for line in (RECORDED / f"{name}.txt").read_text().splitlines():
        log.feed(f"{line}\n".encode())
        doing[line.partition(" 0x")[0]] = log.doing
    during = {line: did for line, did in doing.items() if line.startswith(("Flash will", "Erasing flash.", "Took"))}
    writing = "writing door-lock.bin"
    assert (
        during
        == {
            "write-fails": {"Flash will be erased from": writing},
            "no-stub": {
                "Flash will be erased from": writing,
                "Erasing flash...": "erasing room for door-lock.bin",
                "Took 0.00s to erase flash block.": writing,
            },
            "erase-all": {},
        }[name]
    )
    assert name != "erase-all" or doing["Writing 'door-lock.bin' at"] == writing


def test_a_loader_that_does_not_fit_in_the_chips_memory_is_no_write_to_the_flash() -> None:
    """Ours. It is done without the next time."""
    log = FlashLog(IMAGES)
    text = (RECORDED / "ok.txt").read_text()
    error = "ERROR: A fatal error occurred: Failed to write to target RAM (result was 0105: Operation timed out)\n"
    log.feed((text[: text.index("Running stub")] + error).encode())
    found = cause_of(log, "/dev/ttyUSB0")
    assert log.board is Board.UNTOUCHED
    assert found.sentence.startswith("starting esptool's loader on the chip failed: Failed to write to target RAM")
    assert found.again


def test_an_image_that_was_only_announced_is_not_said_to_be_written() -> None:
    """Ours. esptool says `Writing` while it still looks at the file."""
    log = FlashLog(IMAGES)
    text = (RECORDED / "ok.txt").read_text()
    log.feed(text[: text.index("Flash parameters set")].encode())
    assert (log.doing, log.board) == ("reading bootloader.bin", Board.UNTOUCHED)


def test_what_was_written_in_secure_download_mode_is_not_called_verified() -> None:
    """Issue."""
    log = read("secure-download")
    assert log.unverifiable
    assert log.board is Board.UNVERIFIED


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_output_in_pieces_means_the_same(size: int) -> None:
    """Ours. A piece ends anywhere, also within a letter of the bar."""
    data, whole, log = (RECORDED / "ok.txt").read_bytes(), read("ok"), FlashLog(IMAGES)
    done: list[int] = []
    for at in range(0, len(data), size):
        log.feed(data[at : at + size])
        done.append(log.progress.done)
    log.close()
    assert log.details() == whole.details()
    assert done == sorted(done)


def test_silence_is_bounded_from_esptools_first_word_on_but_for_an_erase_of_the_whole_flash() -> None:
    """Issue. A loader that does not start never says so; what is done to a large image takes long."""
    text = "build-orchestrator: locked by another job\n" + (RECORDED / "erase-all.txt").read_text()
    waits: dict[str, float | None] = {}
    for size in (60_048, 3 << 20):
        log = FlashLog((*IMAGES[:2], Image("door-lock.bin", 0x10000, size)))
        for line in text.splitlines():
            log.feed(f"{line}\n".encode())
            waits[line] = log.patience_s
    assert [line for line, wait in waits.items() if wait is None] == [
        "build-orchestrator: locked by another job",
        "Erasing flash memory (this may take a while)...",
    ]
    assert waits["Running stub flasher..."] == 15
    assert waits["Stub flasher running."] == 60
    assert waits["Writing 'door-lock.bin' at 0x00010000..."] == 60 + 3 * 40


@pytest.mark.parametrize(
    ("until", "cause", "again", "summary"),
    [
        ("Connected to", "stalled", False, "esptool said nothing for 60 s while connecting; the board was not touched"),
        (
            "Stub flasher running",
            "stub",
            True,
            "esptool's loader said nothing for 15 s after its start on the chip; the board was not touched",
        ),
        (
            "Writing at 0x00018000",
            "stalled",
            True,
            "esptool said nothing for 60 s while writing door-lock.bin; "
            "the board is partly written: do not trust what it runs until it was flashed again",
        ),
    ],
)
async def test_a_silence_has_a_verdict_and_another_attempt_where_that_may_mend_it(
    until: str, cause: str, again: bool, summary: str
) -> None:
    """Issue. The job was ended because of that: it was not cancelled."""
    log = FlashLog(IMAGES)
    text = (RECORDED / "ok.txt").read_text()
    log.feed(text[: text.index(until)].encode())
    log.give_up()
    assert log.decided
    stage = Stage(build=1, stage="flash", kind="idf.flash", host="local", status=StageStatus.RUNNING, resolved=RESOLVED)
    context = cast("StageContext", SimpleNamespace(stage=stage, previous=(), params={}))
    verdict = await IdfFlash().finish(context, Exit(ExitReason.CANCELLED, 143), log)
    assert (verdict.result, verdict.details["cause"], verdict.details.get("again", False)) == ("fail", cause, again)
    assert verdict.summary == summary
    assert verdict.details["last_lines"] == []  # they tell nothing more


@pytest.mark.parametrize(
    ("until", "code", "summary"),
    [
        ("Flash will be erased", 1, "esptool ended without a word while reading bootloader.bin; the board was not"),
        ("Hard resetting", 0, ""),
    ],
)
async def test_only_a_failure_of_unknown_cause_has_its_last_lines_shown(until: str, code: int, summary: str) -> None:
    """Ours."""
    log = FlashLog(IMAGES)
    text = (RECORDED / "ok.txt").read_text()
    log.feed(text[: text.index(until)].encode())
    stage = Stage(build=1, stage="flash", kind="idf.flash", host="local", status=StageStatus.RUNNING, resolved=RESOLVED)
    context = cast("StageContext", SimpleNamespace(stage=stage, previous=(), params={}))
    verdict = await IdfFlash().finish(context, Exit(ExitReason.EXIT, code), log)
    assert (verdict.result == "pass") is (not summary)
    assert verdict.summary.startswith(summary)
    assert "last_lines" not in verdict.details


def test_progress_is_that_of_all_images_with_the_name_of_the_one_at_work() -> None:
    """Issue."""
    text = (RECORDED / "ok.txt").read_text()
    log = FlashLog(IMAGES)
    log.feed(text[: text.index("Writing at 0x00018000")].encode())
    assert (log.progress.done, log.progress.total) == (20, 62)
    assert log.progress.message == "writing door-lock.bin 27 %"
    log.feed(text[text.index("Writing at 0x00018000") :].encode())
    assert (log.progress.done, log.progress.message) == (62, "resetting the board")


def test_a_single_image_is_counted_though_esptool_does_not_announce_it() -> None:
    """Spec. `Writing '…' at …` is printed only where there are several."""
    log = FlashLog([Image("merged.bin", 0, 4096)])
    log.feed(
        b"Flash will be erased from 0x00000000 to 0x00000fff...\nVerifying written data...\nHash of data verified.\n"
    )
    assert log.verified


def test_an_erase_that_nothing_followed_leaves_an_empty_board() -> None:
    """Issue."""
    log = FlashLog(IMAGES)
    log.feed(b"Erasing flash memory (this may take a while)...\n")
    assert log.board is Board.PARTLY
    log.feed(b"Flash memory erased successfully in 9.1 seconds.\n")
    assert log.board is Board.ERASED


def test_garbage_without_any_line_end_costs_no_memory() -> None:
    """Ours."""
    log = FlashLog(IMAGES)
    for _ in range(200):
        log.feed(os.urandom(8192).replace(b"\n", b" "))
    log.close()
    assert sum(map(len, log.last_lines)) < 10_000
    assert log.board is Board.UNTOUCHED
