"""The diagnoser as a stream: any chunks, any bytes, bounded memory, time that grows with the length and no faster."""

import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.diagnosis import floor_speed, speed
from benchmarks.failing_log import failing_log
from mcp_server.idf.diagnostics import Diagnoser, Hints, diagnose, render
from mcp_server.idf.diagnostics.lines import Lines
from mcp_server.model import Diagnosis

LOGS = Path(__file__).parents[3] / "fixtures" / "logs"
SMALL = [path.read_bytes() for path in sorted(LOGS.glob("*.log")) if path.stat().st_size < 7_000]
PIECES = [
    b"FAILED: esp-idf/main/CMakeFiles/__idf_main.dir/a.c.obj ",
    b"/p/main/a.c:1:2: error: \xe2\x80\x98x\xe2\x80\x99 undeclared",
    b"    1 | int x;",
    b"      |     ^",
    b"In file included from /p/a.h:3,",
    b"                 from /p/main/a.c:1:",
    b"/p/main/a.c:3:4:   required from here",
    b"CMake Error at main/CMakeLists.txt:3 (message):",
    b"  words",
    b"Call Stack (most recent call first):",
    b"Traceback (most recent call last):",
    b'  File "/p/x.py", line 3, in f',
    b"ValueError: no",
    b"\x1b[0;33mHINT: try",
    b"again\x1b[0m",
    b"/usr/bin/ld: /p/main/a.c:5: undefined reference to `f'",
    b"[3/9] Building C object a.c.obj",
    b'[{"kind": "error", "message": "m", "locations": [{"caret": {"file": "f", "line": 1}}]}]',
    b"ninja: build stopped: subcommand failed.",
    b"Dependency loop",
    b"\xe2\x95\xad\xe2\x94\x80 Error \xe2\x94\x80\xe2\x95\xae",
    b"\xff\xfe\x00\x1b[31m",
    b"",
    b"\r",
]


def chunked(log: bytes, cuts: list[int], exit_code: int | None) -> Diagnosis:
    diagnoser = Diagnoser(hints=Hints())
    places = sorted({0, len(log), *(cut % (len(log) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        diagnoser.feed(log[start:end])
    return diagnoser.finish(exit_code)


@given(log=st.sampled_from(SMALL), cuts=st.lists(st.integers(0, 10**6), max_size=12), code=st.sampled_from([2, None]))
def test_chunks_cut_anywhere_give_the_same_diagnosis(log: bytes, cuts: list[int], code: int | None) -> None:
    """Ours: cuts fall inside lines, letters, colours and \\r\\n."""
    crlf = log.replace(b"\n", b"\r\n")

    assert chunked(log, cuts, code) == diagnose(log, code, hints=Hints())
    assert chunked(crlf, cuts, code) == diagnose(log, code, hints=Hints())


@given(log=st.lists(st.sampled_from(PIECES), max_size=40).map(b"\n".join), code=st.sampled_from([2, None, 0, -9]))
def test_any_order_of_lines_is_read(log: bytes, code: int | None) -> None:
    """Ours: parallel compilers mix their lines; a cut log starts and ends anywhere."""
    diagnosis = diagnose(log, code, hints=Hints())

    assert len(render(diagnosis).encode()) <= 700
    assert bool(diagnosis.errors) or code in (0, None)


@given(log=st.binary(max_size=2000), code=st.sampled_from([1, None]))
def test_any_bytes_are_read(log: bytes, code: int | None) -> None:
    """Ours: a log may hold whatever a program printed."""
    assert len(render(diagnose(log, code, hints=Hints())).encode()) <= 700


def test_the_long_failing_log_is_told_in_700_bytes() -> None:
    """Ours: of 2,000 lines only two matter."""
    log = failing_log()
    diagnosis = diagnose(log, 2, hints=Hints())
    report = render(diagnosis)

    assert 185_000 < len(log) < 197_000 and log.count(b"\n") == 2000
    assert (diagnosis.error_count, diagnosis.warning_count) == (2, 36)
    assert "main/app_main.c:41:5 error: implicit declaration of function 'gpio_set_levl'" in report
    assert "main/app_main.c:57:12 error: 'LED_PIN' undeclared" in report
    assert len(report.encode()) <= 700


def test_counts_are_live() -> None:
    """Ours: a watcher sees the errors before the build ends."""
    diagnoser = Diagnoser()
    diagnoser.feed(b"/p/main/a.c:1:2: warning: unused [-Wunused]\n/p/main/a.c:3:4: error: no\n\n")

    assert (diagnoser.error_count, diagnoser.warning_count) == (1, 1)


def test_kept_errors_are_bounded_and_counted_exactly() -> None:
    """Ours."""
    log = b"".join(b"/p/main/a.c:%d:1: error: '%d' undeclared\n" % (n, n) for n in range(3000))
    diagnosis = diagnose(log, 2, hints=Hints())

    assert diagnosis.error_count == 3000
    assert len(diagnosis.errors) <= 50
    assert render(diagnosis).splitlines()[-1].startswith("and 29")


def test_memory_stays_flat() -> None:
    """Ours: neither long logs nor long lines are kept."""
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed(failing_log())
    tracemalloc.start()
    for _ in range(10):
        diagnoser.feed(failing_log())
    for _ in range(160):
        diagnoser.feed(b"x" * 65_536)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4_000_000


@pytest.mark.parametrize("chunk", [1, 7, 65_536])
def test_a_long_line_keeps_its_ends(chunk: int) -> None:
    """Ours: 48 kB from its start and 4 kB from its end, however it came."""
    line = b"a" * 60_000 + b"b" * 3_000
    lines = Lines()
    data = line + b"\nnext"
    got = [found for start in range(0, len(data), chunk) for found in lines.feed(data[start : start + chunk])]

    assert got == [b"a" * 49_152 + b"a" * 1_096 + b"b" * 3_000]
    assert lines.end() == [b"next"]


def test_logs_are_read_faster_than_builds_write_them() -> None:
    """Ours. A third as fast as looking for a word in each line; half of that is asked for on a busy machine."""
    log = failing_log()
    assert max(speed(log) / floor_speed(log) for _ in range(2)) > 1 / 6


HOSTILE = {
    "test spaces": (b"a" + b" " * 40_000 + b"%]\n") * 25,
    "test titles": b"= FAILURES =\n" + b"____ x ____\nE   a\n" * 40_000,
    "test dots": (b". " * 20_000 + b"[ 45%]\n") * 25,
    "rust heads": b"error: x\n --> a.rs:1:1\n" * 30_000,
    "bars": (b" 4" + b" ." * 20_000 + b"\r") * 25,
    "bitbake": (b"ERROR: a-1 do_fetch: Fetch command " + b'export A="b"; ' * 400 + b"\n") * 180,
    "colons": b"a:1:" * 400_000 + b"\n",
    "digits": b"1" * 1_000_000 + b":" + b"1" * 500_000 + b"\n",
    "escapes": b"\x1b[" * 700_000 + b"\n",
    "titles": b"\x1b]" * 700_000 + b"\n",
    "slashes": (b"/" * 900 + b" error: x\n") * 1_200,
    "spaces": (b" " * 1_000 + b"error\n") * 1_000,
    "error words": b"error: ninja FAILED CMake Error at Kconfig undefined reference to `" * 20_000 + b"\n",
    "error lines": b"error: ninja FAILED: CMake Error at Kconfig undefined reference to `\n" * 8_000,
    "quotes": (b"undefined reference to `" + b"'`" * 500 + b"\n") * 500,
    "ld": (b"/usr/bin/ld: " + b"in function `" * 100 + b"\n") * 800,
    "fits": (b"does not fit in " * 90 + b"\n") * 700,
    "kconfig": (b"Kconfig:" * 180 + b"\n") * 700,
    "includes": b"In file included from a.h:1,\n" * 30_000,
    "required": b"a.h:1:1:   required from here\n" * 30_000,
    "notes": b"a.c:1:1: error: x\n" + b"a.c:1:1: note: y\n" * 40_000,
    "cmake": b"CMake Error at a:1 (b):\n" + b"  words\n" * 60_000,
    "nested cmake": (b"CMake Error at a:1 (b):\n  CMake Error at c:2 (d):\n    e\n") * 10_000,
    "traceback": b"Traceback (most recent call last):\n" + b'  File "x", line 1, in y\n' * 30_000,
    "json": b'[{"kind": "error", "message": "' + b"\\" * 900_000 + b"\n",
    "deep json": b'[{"a":' * 8_000 + b"\n",
    "failed": b"FAILED: x\ncommand\n" * 30_000,
    "hints": b"HINT: x\n" * 60_000,
    "dots": b"." * 1_000_000 + b"HINT: x\n",
    "paths": (b'Executing "cmake ' + b"/a " * 450 + b'"...\n') * 300,
    "files": (b'File "' * 200 + b"\n") * 800,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_takes_linear_time(name: str) -> None:
    """Ours: a megabyte made to hurt a regular expression is read in seconds, twice of it in about twice the time."""
    log = HOSTILE[name]
    started = time.process_time()
    render(diagnose(log, 2, hints=Hints()))

    assert time.process_time() - started < 6  # most take 0.1 s; a quadratic one would take minutes
