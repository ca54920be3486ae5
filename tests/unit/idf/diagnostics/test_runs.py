"""Several runs or reports in one log: which of them still matter."""

import pytest

from mcp_server.idf.diagnostics import Diagnoser, Hints, diagnose, render

NOT_CLOSED = 'Parse error.  Function missing ending ")".  End of file reached.'
CONFIGURES = """Executing action: reconfigure
Running cmake in directory /p/build
Executing "cmake -G Ninja -B /p/build /p"...
"""
CMAKE_FAILED = "cmake failed with exit code 1, output of the command is in the /p/build/log/a and /p/build/log/b\n"


def test_an_earlier_action_of_one_run_is_no_cause() -> None:
    """Ours: idf.py goes on to flash only after the build succeeded, whatever it printed."""
    log = """Executing action: all (aliases: build)
gen.py: error: retrying
Executing action: flash
A fatal error occurred: Failed to connect to ESP32: No serial data received.
"""
    report = render(diagnose(log, 2, hints=Hints()))

    assert "Failed to connect to ESP32" in report and "retrying" not in report


def test_a_build_mended_in_the_same_log_is_no_failure() -> None:
    """Ours: a terminal's whole scroll-back, saved after the second try."""
    begin = "Running ninja in directory /home/dev/p/build\n"
    failed = (
        begin + "FAILED: a.c.obj\ncc\n/home/dev/p/main/a.c:1:1: error: no\nninja: build stopped: subcommand failed.\n"
    )
    done = "Project build complete. To flash, run:\n"

    assert diagnose(failed + begin + done).errors == ()
    assert diagnose(failed + begin.replace("/p/", "/q/") + done).errors  # another project's success mends nothing


def test_the_same_message_elsewhere_is_folded_with_its_lines() -> None:
    """Ours: one message, where it all was, how often."""
    log = "".join(f"/p/main/a.c:{line}:5: error: 'x' undeclared\n" for line in (3, 9, 9, 12))
    diagnosis = diagnose(log, 2, hints=Hints())

    assert [(error.line, error.count, error.notes) for error in diagnosis.errors] == [(3, 4, ("also at 9:5, 12:5",))]
    assert diagnosis.error_count == 4


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("CMakeLists.txt:8", 'Parse error. Function missing ending ")". End of file reached.'),
        ("CMakeLists.txt:5 (include)", "include could not find requested file: /esp/projekt.cmake"),
        ("CMakeLists.txt:9 (if)", "Flow control statements are not properly nested."),
        (
            "CMakeLists.txt:9",
            'Parse error. Function missing ending ")". Instead found unterminated string with text "x".',
        ),
        (
            "CMakeLists.txt:3 (cmake_minimum_required)",
            "CMake 9.22 or higher is required. You are running version 3.25.1",
        ),
    ],
)
@pytest.mark.parametrize("exit_code", [2, None])
def test_an_error_before_its_announcement_is_kept(head: str, message: str, exit_code: int | None) -> None:
    """Seen with ESP-IDF 6.0: in a file, CMake's error output comes before what idf.py printed earlier."""
    error = f"CMake Error at {head}:\n  {message}\n\n\n"
    log = error + CONFIGURES + "-- Configuring incomplete, errors occurred!\n" + CMAKE_FAILED

    found = diagnose(log, exit_code, hints=Hints()).errors
    assert [(error.kind, error.file, error.message) for error in found] == [("cmake", "CMakeLists.txt", message)]


def test_an_error_between_two_announcements_is_kept_too() -> None:
    """A full buffer may be written at any moment, so only the order is a guess."""
    error = f"CMake Error at CMakeLists.txt:8:\n  {NOT_CLOSED}\n\n\n"
    log = "Executing action: set-target\n" + error + CONFIGURES + CMAKE_FAILED

    assert "CMakeLists.txt:8 error: Parse error" in render(diagnose(log, 2, hints=Hints()))


def test_the_last_words_name_who_failed() -> None:
    """Ours: cmake's failure is not ninja's."""
    report = render(diagnose(CONFIGURES + CMAKE_FAILED, 2, hints=Hints()))

    assert report == "cmake error: cmake failed with exit code 1"


def test_a_repository_without_a_commit_is_told() -> None:
    """Seen with ESP-IDF 6.0 after `git init`: its script reads a reference that is not there."""
    log = """CMake Error at build/CMakeFiles/git-data/grabRef.cmake:48 (file):
  file failed to open for reading (No such file or directory):

    /p/build/CMakeFiles/git-data/head-ref
Call Stack (most recent call first):
  /esp/esp-idf/tools/cmake/project.cmake:752 (git_describe)
  CMakeLists.txt:8 (project)


-- Configuring incomplete, errors occurred!
"""
    report = render(diagnose(log, 2, project="/p", hints=Hints()))

    assert "grabRef" not in report and report.count("git-data") == 1
    assert "hint: the repository has no commit yet: git commit" in report


@pytest.mark.parametrize(
    ("log", "exit_code", "ended"),
    [
        (b"", None, None),
        (b"hello\n", None, None),
        (bytes(range(256)) * 40, None, None),
        (b"[1/9] Building C object a.c.obj\n[2/9] Building C object b.c.obj\n", None, None),
        (b"Writing at 0x00010000... (100 %)\n", None, None),
        (b"[8/9] Building C object a.c.obj\n[9/9] Linking CXX executable lamp.elf\n", None, True),
        (b"ninja: no work to do.\n", None, True),
        (b"[0/1] Re-running CMake...\nninja: no work to do.\n", None, True),
        (b"[3/9] cd bootloader\nninja: no work to do.\n", None, None),
        (b"Executing action: all\nProject build complete. To flash, run:\n", None, True),
        (b"Executing action: flash\nDone\n", None, True),
        (b"Done\n", None, None),
        (b"Executing action: flash\nDone\n/p/main/a.c:1:1: error: no\n", None, False),
        (b"[2/9] x\n/p/main/a.c:1:1: error: no\n", None, False),
        (b"ninja: build stopped: subcommand failed.\n", None, False),
        (b"", 0, True),
        (b"", 2, False),
    ],
)
def test_a_log_tells_whether_it_shows_an_end(log: bytes, exit_code: int | None, ended: bool | None) -> None:
    """Ours: no errors in half a log are no success."""
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed(log)
    diagnoser.finish(exit_code)

    assert diagnoser.ended is ended
