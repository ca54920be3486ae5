"""doctor and diagnose: what they print, and the exit codes that scripts go by."""

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.cli.builders import FakeOrchestrator
from tests.unit.cli.conftest import Cli

GCC = "main/a.c:3:5: error: 'x' undeclared (first use in this function)\n    3 |     x = 1;\n      |     ^\n"
FAILED = (
    f"[1/2] Building C object a.c.obj\nFAILED: a.c.obj \ncc -c a.c\n{GCC}ninja: build stopped: subcommand failed.\n"
)
GOOD = "[1/1] Linking\nProject build complete. To flash, run:\n idf.py flash\n"


@dataclass(frozen=True)
class Check:
    name: str
    status: str
    found: str
    mend: str | None = None
    about: str = "build"


def test_doctor_marks_each_check_and_says_what_mends_it(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.checks = [
        Check("ESP-IDF", "fail", "none was found", "git clone …"),
        Check("ninja", "ok", "1.13.2 in /usr/bin"),
        Check("ccache", "warn", "absent: builds take longer", "apt install ccache"),
    ]

    result = cli("doctor", "--project", "p")

    assert (result.code, result.err, fake.called) == (1, "", [("doctor", "p", None, "local")])
    assert result.out.splitlines() == [
        "✗ miss  ESP-IDF  none was found",
        "        mend: git clone …",
        "✓ ok    ninja    1.13.2 in /usr/bin",
        "! warn  ccache   absent: builds take longer",
        "        mend: apt install ccache",
        "1 of 3 missing: an ESP-IDF build could not start here; builds on other hosts are",
        "not affected",
    ]


BOARD = "board on /dev/serial/by-id/usb-Espressif_JTAG_serial_debug_unit_7C:DF:A1-if00"
GUIDE = f"https://docs.example.org/{'x' * 47}/"


def test_doctors_table_fits_80_columns_and_stays_aligned(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue. In a pipe too; what is to be copied stays in one piece."""
    fake.checks = [
        Check("ESP-IDF", "fail", "none was found", f"install it ({GUIDE}), or set IDF_PATH"),
        Check("compiler for esp32c3", "ok", "word " * 30),
        Check(BOARD, "ok", "ESP32-C3 rev 0.4", about="board"),
    ]

    lines = cli("doctor").out.splitlines()

    assert [line for line in lines if len(line) > 80] == []
    words = [line for line in lines if line.endswith("word")]
    assert len(words) == 3 and {line.index("word") for line in words} == {30}
    place = lines.index("✓ ok    board on")
    assert lines[place + 1 : place + 3] == [" " * 8 + BOARD.rsplit(maxsplit=1)[-1], " " * 30 + "ESP32-C3 rev 0.4"]
    assert any(f"({GUIDE})," in line for line in lines)


@pytest.mark.parametrize(
    ("checks", "code", "last"),
    [
        ([Check("host gone", "fail", "refuses", about="board")], 1, "host gone: not to be had"),
        (
            [Check("git", "ok", "2.39"), Check("/dev/ttyUSB7", "fail", "is not there", "plug it in", about="board")],
            1,
            "/dev/ttyUSB7: not to be had",
        ),
        ([Check("/dev/ttyUSB0", "ok", "CP2102N", about="board")], 0, "nothing to mend"),
        ([Check("/dev/ttyUSB0", "warn", "open", "kill 7", about="board")], 0, "1 to look at"),
        ([Check("git", "ok", "2.39")], 0, "all that an ESP-IDF build needs is here"),
    ],
)
def test_doctors_last_line_says_only_what_was_looked_at(
    cli: Cli, fake: FakeOrchestrator, checks: list[Check], code: int, last: str
) -> None:
    """Issue. Of a host that is gone, or a port that is not there, it must not say that all is well."""
    fake.checks = checks

    result = cli("doctor")

    assert (result.code, result.out.splitlines()[-1]) == (code, last)


def test_doctor_of_a_server_looks_at_its_boards(cli: Cli, fake: FakeOrchestrator) -> None:
    """Issue: chip, revision, MAC of a board there; `hosts NAME` shows the rest."""
    fake.checks = [Check("serial ports", "ok", "/dev/ttyUSB0 (CP2102N)"), Check("board", "ok", "ESP32-C3 rev 0.4")]

    result = cli("doctor", "--host", "lab-pi", "--port", "/dev/ttyUSB0")

    assert (result.code, fake.called) == (0, [("doctor", None, "/dev/ttyUSB0", "lab-pi")])
    assert "ESP32-C3 rev 0.4" in result.out


def test_doctor_is_0_where_nothing_needed_is_missing(cli: Cli, fake: FakeOrchestrator) -> None:
    fake.checks = [Check("ninja", "ok", "1.13.2"), Check("ccache", "warn", "absent", "apt install ccache")]

    result = cli("doctor", "--json")

    assert result.code == 0
    assert [row["status"] for row in json.loads(result.out)] == ["ok", "warn"]


def test_a_failed_log_is_1_with_its_cause_in_a_few_bytes(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(FAILED * 300)

    result = cli("diagnose", str(log))

    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("main/a.c:3:5 error: 'x' undeclared")
    assert len(result.out.encode()) <= 1000


def test_a_good_log_is_0(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(GOOD)

    result = cli("diagnose", str(log))

    assert (result.code, result.out) == (0, "no errors, no warnings\n")


def test_several_files_get_a_title_each_and_one_failure_is_enough(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "good").write_text(GOOD)
    (tmp_path / "bad $(x) 'q'\n").write_text(FAILED * 100)

    result = cli("diagnose", str(tmp_path / "good"), str(tmp_path / "bad $(x) 'q'\n"))

    assert result.code == 1
    first, second = result.out.split(f"== {tmp_path}/bad $(x) 'q'  ==\n")
    assert first == f"== {tmp_path}/good ==\nno errors, no warnings\n"
    assert second.startswith("main/a.c:3:5 error:")
    assert len(result.out.encode()) <= 2000


def test_a_missing_file_is_one_sentence_and_the_others_are_still_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text(FAILED)

    result = cli("diagnose", str(tmp_path / "none"), str(tmp_path / "bad"))

    assert result.code == 2
    assert result.err == f"build-orchestrator: {tmp_path}/none cannot be read: No such file or directory\n"
    assert "main/a.c:3:5 error:" in result.out


@pytest.mark.parametrize("name", ["\udcff\udc80", "x" * 10_000, "a\nb", "$(reboot)", "\x1b[2J"])
def test_any_name_of_a_missing_file_is_one_short_sentence(cli: Cli, name: str) -> None:
    result = cli("diagnose", name)

    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1 and len(result.err) < 400 and "\x1b" not in result.err


def test_a_folder_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    assert cli("diagnose", str(tmp_path)).err.endswith("cannot be read: Is a directory\n")


def test_a_file_whose_name_is_not_utf_8_is_read(cli: Cli, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.log"
    Path(os.fsdecode(path)).write_text(FAILED)

    assert cli("diagnose", os.fsdecode(path)).code == 1


def test_bytes_of_any_kind_are_read_and_none_reaches_the_terminal_raw(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        bytes(range(256)) * 4000 + b"\n" + FAILED.encode() + b"\x1b[2J main/b.c:1:1: error: \x1b]0;x\x07 \xff\n"
    )

    result = cli("diagnose", str(log))

    assert result.code == 1
    assert "\x1b" not in result.out and len(result.out.encode()) <= 1000


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_pipe_is_read(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "log").write_text(FAILED)
    with (tmp_path / "log").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)

        result = cli("diagnose", *arguments)

    assert result.code == 1 and result.out.startswith("main/a.c:3:5 error:")


def test_a_closed_stdin_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    result = cli("diagnose")

    assert (result.code, result.err.count("\n")) == (2, 1)


def test_json_has_a_row_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "good").write_text(GOOD)
    (tmp_path / "bad").write_text(FAILED)

    rows = json.loads(cli("diagnose", "--json", str(tmp_path / "good"), str(tmp_path / "bad")).out)

    assert [(row["failed"], row["error_count"]) for row in rows] == [(False, 0), (True, 1)]
    assert rows[1]["errors"][0]["line"] == 3
