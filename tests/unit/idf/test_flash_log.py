"""What esptool's output means: recorded runs, each failure's cause and the board's state, progress, silences."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mcp_server.engine.stages.base import StageContext
from mcp_server.engine.stages.idf_flash import IdfFlash
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.flash import Image
from mcp_server.idf.flash_log import Board, FlashLog, cause_of
from mcp_server.model import Stage, StageStatus

RECORDED = Path(__file__).parents[2] / "fixtures" / "flash"
IMAGES = (
    Image("bootloader/bootloader.bin", 0, 144),
    Image("partition_table/partition-table.bin", 0x8000, 3072),
    Image("door-lock.bin", 0x10000, 60048),
)
"""Those of the recorded runs."""

RESOLVED = {"port": "/dev/ttyUSB0", "described": "/dev/ttyUSB0 (CP2102)", "target": "esp32c3"}
"""What a worker of the first version left of a flash."""


def read(name: str, images: Sequence[Image] = IMAGES) -> FlashLog:
    log = FlashLog(images)
    log.feed((RECORDED / f"{name}.txt").read_bytes())
    log.close()
    return log


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
