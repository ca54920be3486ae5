"""Progress of tools other than ninja, and what only looks like it."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.diagnostics import Diagnoser, Hints
from mcp_server.model import Progress


def shown(*lines: str) -> tuple[int, int, str] | None:
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed("".join(lines).encode())
    diagnoser.finish(0)
    found = diagnoser.progress
    return (found.done, found.total, found.message) if found else None


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["NOTE: Running task 512 of 3004 (/p/r/lamp_1.0.bb:do_compile)"], (512, 3004, "lamp_1.0.bb:do_compile")),
        (["NOTE: Running noexec task 9 of 30 (/p/a.bb:do_build)"], (9, 30, "a.bb:do_build")),
        (["Currently  4 running tasks (512 of 3004  17% complete)"], (512, 3004, "17% complete)")),
        (["Parsing recipes:  45% |#####       | ETA:  0:00:12\r"], (45, 100, "Parsing recipes")),
        (["collected 120 items\n", "tests/test_a.py ....F.. [ 45%]"], (54, 120, "tests/test_a.py")),
        (
            ["tests/test_a.py::test_b \x1b[32mPASSED\x1b[0m\x1b[32m   [ 45%]\x1b[0m"],
            (45, 100, "tests/test_a.py::test_b"),
        ),
        (["[gw1] [  2%] PASSED tests/test_a.py::test_b[0] "], (2, 100, "tests/test_a.py::test_b[0]")),
        (["   Compiling lamp v1.2.0 (/p)"], (0, 0, "Compiling lamp v1.2.0 (/p)")),
        (["    Building [====>     ] 3/45: lamp, dim(lib)   \r"], (3, 45, "lamp, dim(lib)")),
        (["Step 3/12 : RUN make -j4"], (3, 12, "RUN make -j4")),
        (["#12 [3/9] RUN make"], (3, 9, "RUN make")),
        (["#12 [stage-1 3/9] COPY . .\n", "#9 [1/9] FROM debian"], (3, 9, "COPY . .")),
        (["Receiving objects:  45% (450/1000), 1.20 MiB | 2.00 MiB/s\r"], (45, 100, "Receiving objects")),
        (["remote: Compressing objects: 100% (5/5), done."], (100, 100, "Compressing objects")),
        (["     40,000,000  45%  261.07MB/s    0:00:01  \r"], (45, 100, "261.07MB/s")),
        (["b3         45%[======>      ]  17.2M  3.1MB/s    eta 9s \r"], (45, 100, "b3")),
        (["  6144K ........ ........ ........ ........ ........ ........ 23%  774M 0s"], (23, 100, "774M")),
        (["\r 45 38.1M   45 17.2M    0     0   322M      0 --:--:-- --:--:-- --:--:--  323M"], (45, 100, "")),
        (
            ["1234 bytes (1.2 kB, 1.2 KiB) copied, 1 s, 1.2 kB/s\r"],
            (0, 0, "1234 bytes (1.2 kB, 1.2 KiB) copied, 1 s, 1.2 kB/s"),
        ),
        (["<=====--------> 45% EXECUTING [3s]"], (45, 100, "EXECUTING")),
        ([" 44% packing\r", " 45% packing\r"], (45, 100, "packing")),
    ],
)
def test_a_tool_s_progress_is_shown(lines: list[str], wanted: tuple[int, int, str]) -> None:
    """Issue: progress known to tools is shown."""
    assert shown(*lines) == wanted


@pytest.mark.parametrize(
    "lines",
    [
        ["mcp_server/a.py      100      3    97%\n", "TOTAL      900     30    97%\n"],
        ["100% tests passed, 0 tests failed out of 4\n"] * 2,
        ["a.c:3:1: warning: 45% of the stack is used\n"],
        [" 45% \n"],
        ["Lines executed:45.00% of 20\n"],
        ["   45.02%  lamp  [.] main\n"] * 2,
        ["the disk is at [ 45%]\n"],
        ["Step 3 of the recipe\n"],
    ],
)
def test_a_percent_in_other_text_is_no_progress(lines: list[str]) -> None:
    """Ours: coverage tables, profiles and compilers print percents, too."""
    found = shown(*lines)
    assert found is None or found[1] == 0


def test_a_build_tool_s_steps_win_over_bars_inside_it() -> None:
    """Ours: a download in step 7 of 900 must not make the bar jump."""
    assert shown("[7/900] Performing build step for 'x'\n", "Receiving objects:  45% (450/1000)\r") == (
        7,
        900,
        "performing build step for 'x'",
    )


def test_a_message_is_short() -> None:
    """Issue: at most 120 characters."""
    found = shown(f"   Compiling {'x' * 190}\n")
    assert found and len(found[2]) == 120


def test_counts_are_shown_without_steps() -> None:
    """Issue: `total` 0 where the tool does not tell."""
    diagnoser = Diagnoser(hints=Hints())
    assert diagnoser.progress is None
    diagnoser.feed(b"a.c:1:2: warning: unused\na.c:3:4: error: no\n\n")

    assert diagnoser.progress == Progress(errors=1, warnings=1)


PIECES = [
    b"a.c:1:2: error: no",
    b"a.c:1:2: warning: so",
    b"make: *** [Makefile:2: a.o] Error 1",
    b"tests/test_a.py::test_b FAILED [ 45%]",
    b"=== FAILURES ===",
    b"___ test_b ___",
    b"E   assert 1 == 2",
    b"FAILED tests/test_a.py::test_b - assert 1 == 2",
    b"=== 1 failed in 0.1s ===",
    b"error[E0425]: no `x`",
    b" --> a.rs:1:2",
    b"error: could not compile `lamp` due to 1 previous error",
    b"ERROR: lamp-1.0-r0 do_compile: oe_runmake failed",
    b"Log data follows:",
    b"| main.c:1:2: error: x",
    b"ERROR: Task (/p/lamp_1.0.bb:do_compile) failed with exit code '1'",
    b"thread 'a' panicked at a.rs:1:2:",
    b" 45% x\r",
    b"[3/9] Building C object a.c.o",
    b"\xff\x00\x1b[31m",
    b"",
]


@given(
    log=st.one_of(st.binary(max_size=600), st.lists(st.sampled_from(PIECES), max_size=30).map(b"\n".join)),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    code=st.sampled_from([0, 1, None]),
)
def test_any_chunks_give_the_same_counts_and_none_falls(log: bytes, cuts: list[int], code: int | None) -> None:
    """Ours: what a watcher sees does not depend on how the bytes came, and no error is taken back."""
    whole, cut = Diagnoser(hints=Hints()), Diagnoser(hints=Hints())
    whole.feed(log)
    seen = [0]
    for start, end in pairwise(sorted({0, len(log), *(place % (len(log) + 1) for place in cuts)})):
        cut.feed(log[start:end])
        seen.append(cut.progress.errors if cut.progress else 0)

    assert seen == sorted(seen)
    diagnosis = whole.finish(code)
    assert diagnosis == cut.finish(code)
    assert (whole.progress.errors if whole.progress else 0) == diagnosis.error_count
    assert whole.progress == cut.progress


def test_a_hundred_megabytes_of_one_line_take_no_memory() -> None:
    """Ours: a bar of \\r alone, and a line that never ends."""
    bar = b"".join(b"%3d%% packing\r" % (n % 101) for n in range(5_000))
    endless = b"x" * 262_144
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed(bar)
    tracemalloc.start()
    for _ in range(10):
        diagnoser.feed(bar)
    tracemalloc.stop()
    tracemalloc.start()
    for _ in range(400):
        diagnoser.feed(endless)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2_000_000
