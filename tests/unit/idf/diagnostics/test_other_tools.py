"""What is not ESP-IDF: each tool's recorded output is told with its cause, without what only follows."""

import json
from pathlib import Path

import pytest

from mcp_server.idf.diagnostics import Diagnoser, Hints, diagnose, is_deterministic, render

LOGS = Path(__file__).parents[3] / "fixtures" / "logs" / "tools"
CODES: dict[str, int] = json.loads((LOGS / "exit_codes.json").read_text())
# log → kind of the first cause, number of errors, whether it will come again, words of the report
TOLD: dict[str, tuple[str, int, bool, tuple[str, ...]]] = {
    "make-gcc-error": ("compile", 1, True, ("main.c:6:24 error: 'levle' undeclared", "dim(levle)")),
    "make-gcc-keep-going": ("compile", 1, True, ("main.c:6:24 error: 'levle' undeclared",)),
    "make-undefined-reference": ("link", 1, True, ("undefined reference to 'dim'", "in main, main.o")),
    "make-missing-library": ("link", 1, True, ("cannot find -lnosuchlamp",)),
    "make-no-rule": ("make", 1, True, ("No rule to make target 'nothere.o', needed by 'all'",)),
    "make-missing-separator": ("make", 1, True, ("Makefile:2 error: missing separator",)),
    "make-only-error": ("make", 1, True, ("Makefile:2 error: make all: Error 3", "./check.sh")),
    "make-recursive-127": ("tool", 1, True, ("./check.sh: No such file or directory",)),
    "make-permission-126": ("permission", 1, True, ("./check.sh: Permission denied",)),
    "make-missing-command": ("tool", 1, True, ("protoc: No such file or directory",)),
    "cmake-make-error": ("compile", 1, True, ("dim.c:1:25 error: 'y' undeclared",)),
    "cmake-package-missing": ("cmake", 1, True, ("CMakeLists.txt:6 error", "NoSuchLamp")),
    "configure-missing-library": ("configure", 1, True, ("install liblamp-dev",)),
    "gcc-crash": ("compile", 1, False, ("internal compiler error: Segmentation fault",)),
    "gcc-out-of-memory": ("memory", 1, False, ("virtual memory exhausted", "fewer jobs")),
    "gcc-killed": ("compile", 1, False, ("Killed signal terminated program cc1",)),
    "gcc-disk-full": ("compile", 1, False, ("deep.c:4000:1 error", "No space left on device")),
    "gpp-error": ("compile", 1, True, ("a.c:1:25 error: 'y' was not declared",)),
    "clang-error": ("compile", 1, True, ("a.c:1:25 error: use of undeclared identifier 'y'",)),
    "clang-link": ("link", 1, True, ("undefined reference to 'f'",)),
    "javac-error": ("compile", 2, True, ("Lamp.java:2 error: incompatible types", "Lamp.java:3 error")),
    "pytest-failures": (
        "test",
        3,
        True,
        (
            "tests/test_lamp.py:17 error: tests/test_lamp.py::test_lamp_dims: AssertionError: assert {'level': 4",
            'assert {"level": level(4), "on": True} == expected',
            "lamp.py:2 error: tests/test_lamp.py::TestDimmer::test_divides: TypeError",
            "tests/test_lamp.py:31 error: tests/test_lamp.py::test_board: RuntimeError: no board on the desk",
        ),
    ),
    "pytest-verbose": ("test", 3, True, ("tests/test_lamp.py:17 error: tests/test_lamp.py::test_lamp_dims: Assert",)),
    "pytest-xdist": ("test", 3, True, ("lamp.py:2 error: tests/test_lamp.py::TestDimmer::test_divides: TypeError",)),
    "pytest-quiet-short": ("test", 3, True, ("   31 | raise RuntimeError(", "test_board: RuntimeError: no board")),
    "pytest-collection-error": (
        "test",
        2,
        True,
        ("tests/test_other.py:1 error", "No module named 'nosuchlamp'", "tests/test_syntax.py:1 error", "SyntaxError"),
    ),
    "python-traceback": ("python", 1, True, ("gen.py:3 error: JSONDecodeError",)),
    "python-missing-module": ("python", 1, True, ("gen.py:1 error: ModuleNotFoundError",)),
    "python-m-missing": ("python", 1, True, ("No module named nosuchlamp",)),
    "python-unittest": ("python", 1, True, ("test_u.py:5 error: AssertionError: 3 != 4",)),
    "cargo-error": ("compile", 2, True, ("src/main.rs:4:20 error: cannot find value `levle`", "[E0308]", "levle);")),
    "cargo-error-plain": ("compile", 2, True, ("src/main.rs:3:22 error: mismatched types [E0308]",)),
    "cargo-test": ("test", 1, True, ("src/main.rs:7:17 error: tests::dims panicked: assertion `left == right`",)),
    "cargo-missing-crate": ("cargo", 1, True, ("no matching package named `nosuchlampcrate`",)),
    "rustc-error": ("compile", 1, True, ("a.rs:1:30 error: cannot find function `undefined_fn`",)),
    "npm-missing-command": ("tool", 1, True, ("tsc-nosuch: not found",)),
    "sh-missing-command": ("tool", 1, True, ("nosuchlamptool: not found",)),
    "sh-permission": ("permission", 1, True, ("./x.sh: Permission denied",)),
    "ccache-error": ("ccache", 1, True, ("Failed to create directory /proc/nosuch/tmp",)),
    "git-unknown-host": ("network", 1, False, ("Could not resolve host: nosuchhost.invalid",)),
    "git-ssh": ("network", 1, False, ("ssh: connect to host 127.0.0.1 port 1: Connection refused",)),
    "bitbake-compile-error": (
        "compile",
        1,
        True,
        ("main.c:12:5 error: implicit declaration of function 'lamp_onn'", "lamp_onn();", "in lamp-1.0-r0 do_compile"),
    ),
    "bitbake-fetch-failure": ("network", 2, False, ("dimmer-2.1-r0 do_fetch", "https://lamps.example/dimmer-2.1.tar")),
    "bitbake-nothing-provides": ("bitbake", 1, True, ("Nothing PROVIDES 'liblamp'",)),
    "bitbake-parse-error": ("bitbake", 1, True, ("lamp_1.0.bb:12 error", "unparsed line")),
    "bitbake-qa-issue": ("bitbake", 1, True, ("lamp-1.0-r0 do_package: QA Issue",)),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_tool_s_failure_is_told_with_its_cause(name: str) -> None:
    """Issue: generic rules for what is not ESP-IDF."""
    kind, count, again, words = TOLD[name]
    log = (LOGS / f"{name}.log").read_bytes()
    diagnosis = diagnose(log, CODES[f"{name}.log"], project="/home/dev/lamp", hints=Hints())
    report = render(diagnosis, 1000)

    assert (diagnosis.errors[0].kind, diagnosis.error_count) == (kind, count), report
    assert not [word for word in words if word not in report], report
    assert is_deterministic(diagnosis) is again


@pytest.mark.parametrize("name", sorted(CODES))
def test_counts_while_a_log_grows_are_those_of_its_end(name: str) -> None:
    """Issue: errors and warnings counted while running by the same diagnosis; never fewer, exact at the end."""
    log = (LOGS / name).read_bytes()
    diagnoser = Diagnoser("/home/dev/lamp", hints=Hints())
    seen: list[int] = []
    for start in range(0, len(log), 37):
        diagnoser.feed(log[start : start + 37])
        seen.append(diagnoser.progress.errors if diagnoser.progress else 0)
    diagnosis = diagnoser.finish(CODES[name])

    assert seen == sorted(seen)
    if CODES[name]:
        assert diagnoser.progress and diagnoser.progress.errors == diagnosis.error_count >= seen[-1]
        assert diagnoser.progress.warnings == diagnosis.warning_count


def test_failed_tests_count_before_the_run_ends() -> None:
    """Issue: pytest says what failed by a letter first, in full only at its end; a cut run keeps the names."""
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed(b"collected 40 items\n\ntests/test_a.py ..F.E          [ 12%]\n")
    assert diagnoser.error_count == 2
    diagnoser.feed(b"tests/test_b.py::test_x[a b] FAILED         [ 15%]\n")
    assert diagnoser.error_count == 3
    diagnosis = diagnoser.finish(-9)

    assert [error.message for error in diagnosis.errors] == ["tests/test_b.py::test_x[a b]: failed"]


@pytest.mark.parametrize(
    "line",
    [
        "0 errors, 0 warnings",
        "error_code=0",
        "cc -Wall -Werror -c error.c",
        "tests/test_error.py::test_error PASSED   [ 10%]",
        "Unpacking libgpg-error-dev (1.46-1) ...",
        "ERROR: 0",
        "no error",
        "tests/test_a.py::test_b XFAIL   [ 20%]",
        "Parsing of 2586 .bb files complete (0 cached). 3897 targets, 0 masked, 0 errors.",
        "test tests::error_ok ... ok",
        "checking for library containing strerror... none required",
        "NOTE: recipe lamp-1.0-r0: task do_compile: Failed",
    ],
)
def test_a_line_that_only_sounds_like_an_error_counts_none(line: str) -> None:
    """Issue."""
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed(f"{line}\n".encode())

    assert (diagnoser.error_count, diagnoser.warning_count) == (0, 0)
    assert diagnoser.finish(None).errors == ()


def test_nothing_found_is_not_called_deterministic() -> None:
    """Ours: a retry is refused only where the same error is sure to come again."""
    assert not is_deterministic(None)
    assert not is_deterministic(diagnose(b"", 3, hints=Hints()))
    assert not is_deterministic(diagnose(b"something odd\n", 3, hints=Hints()))


def test_warnings_are_listed_once_with_their_count_and_shown_on_request() -> None:
    """Ours: the first 20 distinct ones; all are counted."""
    lines = [b"a.c:%d:1: warning: unused '%d'\n" % (n, n) for n in range(30)]
    diagnosis = diagnose(b"".join([*lines, lines[0]]), 0, hints=Hints())

    assert diagnosis.warning_count == 31
    assert len(diagnosis.warnings) == 20
    assert (diagnosis.warnings[0].count, diagnosis.warnings[0].severity) == (2, "warning")
    assert render(diagnosis) == "no errors, 31 warnings"
    assert render(diagnosis, warnings=2).splitlines() == [
        "no errors, 31 warnings",
        "a.c:0:1 warning: unused '0' (2 times)",
        "a.c:1:1 warning: unused '1'",
    ]


def test_advice_on_esp_idf_is_kept_from_other_builds() -> None:
    """Ours: nobody has SRCS in a Makefile."""
    log = (LOGS / "make-undefined-reference.log").read_bytes()

    assert diagnose(log, 2, hints=Hints()).hints == ()
