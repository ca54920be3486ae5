"""Firmware that prints much: looked through fast, with the same result as line by line, and only so far."""

import time
from pathlib import Path

import pytest

from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.verdict import FirmwareLog, judge

SERIAL = Path(__file__).parents[2] / "fixtures" / "serial"
LOGS = sorted(path.name for path in SERIAL.glob("*.log"))
MB = 1 << 20
DULL = b"I (1) a: b c d e f g\r\n"
TESTS = (
    b"main.c:3:test_a:PASS\r\nmain.c:4:test_b:FAIL: Expected 1 Was 2\r\n"
    b"-----------------------\r\n2 Tests 1 Failures 0 Ignored\r\nFAIL\r\n"
)


@pytest.mark.parametrize("expect", [[], ["never printed"], ["c d (e|x)", "app_main"]])
@pytest.mark.parametrize("name", [*LOGS, "tests"])
def test_many_lines_at_once_are_judged_as_they_are_one_by_one(name: str, expect: list[str]) -> None:
    """Ours. Lines without news are skimmed: whatever stands between them must be found all the same."""
    said = TESTS if name == "tests" else (SERIAL / name).read_bytes()
    data = DULL * 100 + said + DULL * 100
    at_once, one_by_one = FirmwareLog(expect), FirmwareLog(expect)

    for start in range(0, len(data), 4096):
        at_once.feed(data[start : start + 4096])
    for line in data.splitlines(keepends=True):
        one_by_one.feed(line)

    assert judge(at_once, None, watched_s=5) == judge(one_by_one, None, watched_s=5)


def test_a_line_in_the_middle_of_many_is_found_with_those_before_it() -> None:
    """Ours. What is shown of a failure is the line itself and what came before it, not what came later."""
    log = FirmwareLog(fail_on=["out of memory"])
    log.feed(DULL * 500 + b"I (2) x: this one\r\nE (3) x: out of memory\r\n" + DULL * 500)
    verdict = judge(log, None)

    assert (verdict.result, verdict.summary) == ("fail", "printed 'E (3) x: out of memory'")
    assert verdict.details["last_lines"][-2:] == ["I (2) x: this one", "E (3) x: out of memory"]


def test_firmware_that_prints_without_end_is_decided_and_says_so() -> None:
    """Ours. 800 MB of a loop that prints kept a build running for minutes after its job."""
    log = FirmwareLog(["ready"], most_bytes=2 * MB)
    fed = 0
    while not log.decided and fed < 3 * MB:
        log.feed(DULL * 1000)
        fed += len(DULL) * 1000
    verdict = judge(log, Exit(ExitReason.CANCELLED, 143, started_at=100, ended_at=103.4))

    assert 2 * MB < fed < 2.1 * MB
    assert verdict.result == "fail"
    assert verdict.summary == (
        "printed more than 2 MB in 3 s without 'ready': it prints without end; "
        "the last line that was read: 'I (1) a: b c d e f g'"
    )


def test_what_comes_behind_the_most_that_is_read_changes_nothing() -> None:
    """Ours. A debugger may keep such a firmware running: it costs nothing more."""
    log = FirmwareLog(["ready"], most_bytes=MB)
    log.feed(DULL * 50_000)
    log.feed(b"ready\r\n")

    assert judge(log, None).result == "fail"


def test_a_flood_is_read_in_a_fraction_of_a_second_a_megabyte() -> None:
    """Ours. 0.1 s here; what asked every reader about every line took 0.4 s."""
    log = FirmwareLog()
    before = time.process_time()
    for _ in range(4 * MB // 32_768):
        log.feed((DULL * 1500)[:32_768])

    assert (time.process_time() - before) / 4 < 0.25
