"""Test output of Unity (plain, menu, fixture), GoogleTest, Catch2 and pytest → results."""

import time
from collections.abc import Sequence

import pytest

from mcp_server.idf.frameworks import TestReader
from mcp_server.idf.unity import MAX_CASES, TestCase, TestResults


def read(text: str) -> TestReader:
    reader = TestReader()
    for line in text.splitlines():
        reader.feed(line)
    return reader


def results(text: str) -> TestResults:
    return read(text).tally.results()


def counts(found: TestResults) -> tuple[int, int, int, int]:
    return found.total, found.passed, found.failed, found.skipped


def named(cases: Sequence[TestCase]) -> list[tuple[str, str]]:
    return [(case.name, case.result) for case in cases]


PLAIN = """\
I (300) main_task: Calling app_main()
main/test_pump.c:31:test_pump_starts:PASS
I (310) pump: on
main/test_pump.c:40:test_pump_stops:FAIL: Expected 1 Was 2. speed after stop
main/test_pump.c:52:test_pump_dry:IGNORE: no sensor here
main/test pump.c:60:ratio 1:2 is kept:PASS (12 ms)

-----------------------
4 Tests 1 Failures 1 Ignored
FAIL
"""


def test_plain_results_are_read() -> None:
    """unity.c, UnityTestResultsBegin and UnityEnd: `file:line:name:RESULT: message`, then the counts."""
    found = results(PLAIN)

    assert counts(found) == (4, 2, 1, 1)
    assert found.complete
    assert found.cases[1] == TestCase(
        name="test_pump_stops",
        result="fail",
        file="main/test_pump.c",
        line=40,
        message="Expected 1 Was 2. speed after stop",
    )
    assert (found.cases[2].result, found.cases[2].message) == ("skip", "no sensor here")
    last = found.cases[3]
    assert (last.name, last.seconds, last.file) == ("ratio 1:2 is kept", 0.012, "main/test pump.c")


def test_stamps_of_pytest_embedded_are_no_part_of_the_line() -> None:
    """pytest-embedded: a board's lines have the time and, where there are several, the board before them."""
    stamped = "\n".join("2026-11-20 21:25:38 [dut-0] " + line for line in PLAIN.splitlines())

    assert results(stamped) == results(PLAIN)


MENU = """\
Press ENTER to see the list of tests.


Here's the test menu, pick your combo:
(1)\t"valve opens" [valve]
(2)\t"valve leaks" [valve][leaks]
(3)\t"sleep test" [sleep]
\t(1)\t"goes to sleep"
\t(2)\t"wakes up"

Enter test for running.
Running tests matching '[valve]'...
Running valve opens...
MALLOC_CAP_8BIT usage: Free memory delta: 0 Leak threshold: -1024
./main/test_valve.c:12:valve opens:PASS
Running valve leaks...
./main/test_valve.c:30:valve leaks:FAIL: Expected TRUE Was FALSE
"""


def test_menu_run_is_read() -> None:
    """unity_runner.c: `Running NAME...` before each, and the menu around them, whose names are no tests."""
    found = results(MENU + "\n-----------------------\n2 Tests 1 Failures 0 Ignored\nFAIL\n")

    assert named(found.cases) == [("valve opens", "pass"), ("valve leaks", "fail")]
    assert (counts(found), found.complete) == ((2, 1, 1, 0), True)


def test_time_that_the_menu_prints_is_the_last_test_s() -> None:
    """unity_runner.c: `Test ran in 7ms` after a test that was chosen by its number."""
    found = results("Enter next test, or 'enter' to see menu\nRunning x...\n./main/a.c:1:x:PASS\nTest ran in 7ms\n")

    assert [case.seconds for case in found.cases] == [0.007]


def test_panic_names_the_test_that_was_at_work() -> None:
    """Issue. A run that is cut off has failed, in the test that had begun."""
    reader = read(MENU.rsplit("\n", 2)[0])
    reader.cut_off("abort() was called")
    found = reader.tally.results()

    assert named(found.cases) == [("valve opens", "pass"), ("valve leaks", "fail")]
    assert found.cases[1].message == "cut off: abort() was called"
    assert not found.complete


def test_plain_run_that_is_cut_off_has_one_more_failure() -> None:
    """Ours. RUN_TEST does not name a test before its end: the one before it tells where."""
    reader = read("main/t.c:1:test_a:PASS\n")
    reader.cut_off("stack overflow")

    assert named(reader.tally.cases) == [("test_a", "pass"), ("(the test after test_a)", "fail")]


def test_ordinary_line_that_begins_with_running_is_no_test() -> None:
    """Ours. Only where more of Unity was seen."""
    reader = read("Running the main loop...\nTests are for others, PASS or FAIL\n")
    reader.cut_off("abort()")

    assert not reader.tally.begun
    assert reader.tally.results() == TestResults()


FIXTURE = """\
Unity test run 1 of 1
TEST(pump, starts) PASS
TEST(pump, stops)I (400) pump: stopping
I (410) pump: stopped PASS (3 ms)
TEST(pump, dry)main/test_pump.c:77::FAIL: Expected 0 Was 5
TEST(pump, wet)main/test_pump.c:80::IGNORE: later
IGNORE_TEST(pump, hot)

-----------------------
5 Tests 1 Failures 2 Ignored
FAIL

Tests finished, rc=1
"""


def test_fixture_results_are_read() -> None:
    """unity_fixture.c with -v, as UNITY_MAIN of ESP-IDF runs it: a test's own output stands before its result."""
    found = results(FIXTURE)

    assert [(case.suite, case.name, case.result) for case in found.cases] == [
        ("pump", "starts", "pass"),
        ("pump", "stops", "pass"),
        ("pump", "dry", "fail"),
        ("pump", "wet", "skip"),
        ("pump", "hot", "skip"),
    ]
    assert (found.cases[1].seconds, found.cases[2].line) == (0.003, 77)
    assert (counts(found), found.complete) == ((5, 2, 1, 2), True)


def test_fixture_without_names_is_counted() -> None:
    """unity_fixture.c without -v: a dot a test, a line a failure, and the summary."""
    text = "Unity test run 1 of 1\n..main/t.c:9:TEST(pump, dry):FAIL: Expected 0 Was 5\n.!\n\n---\n"
    found = results(text + "4 Tests 1 Failures 1 Ignored \nFAIL\n")

    assert counts(found) == (4, 2, 1, 1)
    assert [(case.suite, case.name) for case in found.cases] == [("pump", "dry")]


def test_repeated_run_ends_with_its_last_summary() -> None:
    """unity_fixture.c, -r: `Unity test run 1 of 2`."""
    one = "TEST(a, b) PASS\n\n---\n1 Tests 0 Failures 0 Ignored \nOK\n"
    reader = read("Unity test run 1 of 2\n" + one)
    assert reader.tally.running
    for line in ("Unity test run 2 of 2\n" + one).splitlines():
        reader.feed(line)

    assert not reader.tally.running
    assert counts(reader.tally.results()) == (2, 2, 0, 0)


def test_test_that_restarts_the_chip_on_purpose_does_not_cut_the_run_off() -> None:
    """unity_runner.c: TEST_CASE_MULTIPLE_STAGES says `Running stage 1...`, then the chip restarts."""
    staged = read("Press ENTER to see the list of tests.\nRunning sleep test...\nRunning stage 1...\n")
    staged.restarted(expected=False)
    plain = read("Press ENTER to see the list of tests.\nRunning sleep test...\n")
    plain.restarted(expected=False)

    assert (staged.tally.cut, plain.tally.cut) == (False, True)
    assert named(plain.tally.cases) == [("sleep test", "fail")]


def test_empty_summary_is_none() -> None:
    """unity_runner.c: `-` in the menu prints a summary of nothing."""
    reader = read("Press ENTER to see the list of tests.\n\n---\n0 Tests 0 Failures 0 Ignored \nOK\n")

    assert (reader.tally.begun, reader.tally.summaries) == (False, 0)


def test_summary_counts_more_than_what_was_seen() -> None:
    """Ours. Lines are lost on a serial line; the summary still fails the run."""
    found = results("main/t.c:1:a:PASS\n3 Tests 2 Failures 0 Ignored \nFAIL\n")

    assert counts(found) == (3, 1, 2, 0)


GOOGLE = """\
[==========] Running 3 tests from 1 test suite.
[----------] 3 tests from Valve
[ RUN      ] Valve.Opens
[       OK ] Valve.Opens (2 ms)
[ RUN      ] Valve.Closes
main/valve_test.cc:21: Failure
Expected equality of these values:
  closed
    Which is: false
[  FAILED  ] Valve.Closes, where GetParam() = 3 (0 ms)
[ RUN      ] Valve.Leaks
[  SKIPPED ] Valve.Leaks (0 ms)
[==========] 3 tests from 1 test suite ran. (3 ms total)
[  PASSED  ] 1 test.
[  FAILED  ] 1 test, listed below:
[  FAILED  ] Valve.Closes, where GetParam() = 3

 1 FAILED TEST
"""


def test_google_results_are_read_once_each() -> None:
    """GoogleTest names failed tests again at the end."""
    found = results(GOOGLE)

    assert named(found.cases) == [("Opens", "pass"), ("Closes", "fail"), ("Leaks", "skip")]
    assert (counts(found), found.complete) == ((3, 1, 1, 1), True)
    failed = found.cases[1]
    assert (failed.suite, failed.file, failed.line) == ("Valve", "main/valve_test.cc", 21)
    assert failed.message == "Expected equality of these values: closed Which is: false"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("All tests passed (30 assertions in 12 test cases)", (12, 12, 0, 0)),
        ("t.cpp:9: FAILED:\n  CHECK( a == b )\ntest cases:  3 |  2 passed | 1 failed\n", (3, 2, 1, 0)),
    ],
)
def test_catch2_summary_is_read(text: str, wanted: tuple[int, int, int, int]) -> None:
    """Catch2's console reporter."""
    assert counts(results(text)) == wanted


PYTEST = """\
============================= test session starts ==============================
pytest_valve.py::test_boot[esp32c3] PASSED                               [ 33%]
pytest_valve.py::test_valve[esp32c3] FAILED                              [ 66%]
pytest_valve.py::test_leak SKIPPED (no sensor)                           [100%]
=========================== short test summary info ============================
FAILED pytest_valve.py::test_valve[esp32c3] - pexpect.exceptions.TIMEOUT: Not found "open"
============= 1 failed, 1 passed, 1 skipped, 2 warnings in 12.31s ==============
"""


def test_pytest_results_are_read_once_each() -> None:
    """pytest-embedded prints as pytest does, a failure twice."""
    found = results(PYTEST)

    assert named(found.cases) == [
        ("test_boot[esp32c3]", "pass"),
        ("test_valve[esp32c3]", "fail"),
        ("test_leak", "skip"),
    ]
    assert found.cases[1].message == 'pexpect.exceptions.TIMEOUT: Not found "open"'
    assert (counts(found), found.complete) == ((3, 1, 1, 1), True)


def test_pytest_that_never_ends_is_not_complete() -> None:
    """Ours."""
    assert not results("======== test session starts ========\n").complete


def test_cases_are_bounded_and_failures_kept() -> None:
    """Ours. A run of thousands is counted whole; what failed is worth more than what passed."""
    lines = [f"main/t.c:{at}:test_{at}:{'FAIL: no' if at % 1000 == 999 else 'PASS'}" for at in range(5000)]
    found = results("\n".join(lines))

    assert counts(found)[:3] == (5000, 4995, 5)
    assert (len(found.cases), found.truncated) == (MAX_CASES, True)
    assert [case.name for case in found.cases if case.result == "fail"] == [f"test_{at}999" for at in ("", 1, 2, 3, 4)]


@pytest.mark.parametrize(
    "line",
    ["a." * 2000 + ":PASS", "TEST(a, b)" + "x:1" * 1300, "[ RUN " * 600, "=" * 4000, "a.py::" * 600, "FAIL" * 1000],
)
def test_long_lines_cost_little(line: str) -> None:
    """Ours. Lines of 4 KB that nearly look like results must not hold the worker's loop."""
    reader = TestReader()
    started = time.thread_time()
    for length in (len(line), 1000):
        reader.feed(line[:length])
    assert time.thread_time() - started < 0.2  # 0.002 on an idle machine; a quadratic one takes seconds
