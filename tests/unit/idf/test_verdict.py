"""What firmware said → the verdict: recorded boots and panics, and what was not said."""

import json
import random
from typing import Literal

import pytest

from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.verdict import FirmwareLog, judge
from tests.unit.idf.watched import BOOT, CRASH, CUT, ENDED, STARTED, TESTS, TIMEOUT, watched

# -- recorded runs -----------------------------------------------------------------------------------------------------


def test_expected_line_of_a_real_boot_passes() -> None:
    """Issue. The evidence is the line."""
    log = FirmwareLog([r"Hello world!", r"silicon revision v\d"])
    log.feed(BOOT)
    assert log.decided
    verdict = judge(log, Exit(ExitReason.CANCELLED, 143))  # a decided job is ended by us

    assert verdict.result == "pass"
    assert verdict.details["matched"][0] == "Hello world!"
    assert verdict.summary.startswith("This is esp32c3 chip")


def test_real_panic_fails_with_its_cause_and_the_lines_before() -> None:
    """Issue."""
    verdict = watched(CRASH, "never printed")

    assert verdict.result == "fail"
    assert "Store access fault" in verdict.summary
    assert verdict.details["last_lines"][-1] == "E (80) crashapp: error line"
    assert verdict.details["panic"]["registers"]["MEPC"] == 0x420057F0
    assert json.loads(json.dumps(verdict.details)) == verdict.details


def test_panic_after_the_expected_line_in_one_piece_fails() -> None:
    """Issue. Firmware that prints `expect` before a panic; what was received is read to its end."""
    log = FirmwareLog(["crashapp: started"])
    log.feed(CRASH[: CUT + 20])

    assert log.failed
    assert judge(log, None).result == "fail"


def test_open_panic_is_waited_for() -> None:
    """Ours. The dump is what tells the place; the verdict waits for it."""
    middle = CRASH.index(b"Stack memory:")
    log = FirmwareLog(["crashapp: started"])
    log.feed(CRASH[:middle])
    assert log.failed
    assert not log.decided

    log.feed(CRASH[middle : CUT + 15])
    assert log.decided
    panic = log.panic
    assert panic is not None
    assert len(panic.stack) > 200


def test_panic_whose_dump_never_ends_is_not_waited_for() -> None:
    """Ours. Bounded."""
    log = FirmwareLog()
    log.feed(CRASH[: CRASH.index(b"Stack memory:")])
    log.feed(b"================= CORE DUMP START =================\n" + b"QUFB\n" * 3000)

    assert log.decided
    assert judge(log, None).result == "fail"


def test_panic_cut_off_by_the_end_of_the_watch_fails() -> None:
    """Ours."""
    assert watched(CRASH[: CRASH.index(b"MHARTID")], end=TIMEOUT).result == "fail"


def test_without_default_rules_a_panic_is_evidence_only() -> None:
    """Issue. Firmware that is tested for its panic."""
    log = FirmwareLog(["Guru Meditation"], default_rules=False)
    log.feed(CRASH)
    verdict = judge(log, None)

    assert verdict.result == "pass"
    assert verdict.details["panic"]["kind"] == "store_fault"


# -- what was not said -------------------------------------------------------------------------------------------------


def test_real_boot_without_a_wish_passes_as_app_main_was_reached() -> None:
    """Issue. Never "pass" because nothing was said: this was."""
    verdict = watched(BOOT, end=TIMEOUT)

    summary = "app_main was reached, and nothing failed in 10 s (nothing was expected: an `expect` ends it sooner)"
    assert (verdict.result, verdict.summary) == ("pass", summary)


def test_a_program_of_the_linux_target_that_goes_on_passes() -> None:
    """Ours. Its main task says nothing; what ESP-IDF 6.0.2 prints is that its scheduler starts."""
    verdict = watched(b"I (62309590) port: Starting scheduler.\nlamp: started\nlamp: alive for 0 s\n", end=TIMEOUT)

    assert verdict.result == "pass", verdict.summary


def test_undecided_until_the_watch_ends_where_nothing_was_wished_for() -> None:
    """Ours. A panic may still come."""
    log = FirmwareLog()
    log.feed(BOOT)

    assert not log.decided


@pytest.mark.parametrize("said", [b"", b"\r\n\r\n", b"\0" * 10, b"   \n"])
def test_silence_is_no_pass(said: bytes) -> None:
    """Issue. With what silence may mean."""
    verdict = watched(said, end=ENDED)

    assert verdict.result == "unknown"
    assert "nothing was printed in 10 s: another port or baud rate" in verdict.summary


def test_bootloader_alone_is_no_pass() -> None:
    """Issue."""
    verdict = watched(BOOT[: BOOT.index(b"main_task: Calling")], end=TIMEOUT)

    assert verdict.result == "unknown"
    assert "no line says that app_main was reached" in verdict.summary


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"waiting for download\r\n", "let BOOT go"),
        (b"invalid header: 0xffffffff\r\n" * 2, "the flash is empty"),
        (b"E (101) boot: No bootable app partitions in the partition table\n", "no partition holds an app"),
        (b"E (88) boot_comm: mismatch chip ID, expected 5, found 13\n", "built for another chip"),
    ],
)
def test_boot_that_does_not_come_far_says_why(line: bytes, why: str) -> None:
    """Ours."""
    verdict = watched(b"rst:0x1 (POWERON),boot:0x5 (DOWNLOAD(USB/UART0))\n" + line, "ready", end=TIMEOUT)

    assert verdict.result == "fail"
    assert why in verdict.summary


def test_missing_line_is_a_timeout_that_names_it() -> None:
    """Issue."""
    verdict = watched(BOOT, "Hello world!", r"Got IP \d+", end=TIMEOUT)

    assert verdict.result == "timeout"
    assert r"not printed in 10 s: 'Got IP \\d+'; the last line: 'Restarting in 5 seconds...'" in verdict.summary
    assert verdict.details["missing"] == [r"Got IP \d+"]


@pytest.mark.parametrize(("baud", "advice"), [(115_200, "921600"), (74_880, "115200"), (None, "CONFIG_ESP_CONSOLE")])
def test_garbage_tells_of_the_baud_rate(baud: int | None, advice: str) -> None:
    """Issue. Garbage at the wrong baud."""
    log = FirmwareLog(["ready"])
    log.feed(random.Random(4).randbytes(20_000))
    assert not log.decided
    verdict = judge(log, None, baud=baud)

    assert verdict.result == "unknown"
    assert advice in verdict.summary


def test_text_of_other_languages_is_no_garbage() -> None:
    """Ours."""
    verdict = watched("온도 23도, 밸브 열림 완료\n".encode() * 20, "완료")

    assert (verdict.result, verdict.summary) == ("pass", "온도 23도, 밸브 열림 완료")


# -- failures ----------------------------------------------------------------------------------------------------------


def test_failing_line_wins_at_once() -> None:
    """Issue. Also over an expected line that comes later in the same piece."""
    verdict = watched(b"one\nsensor FAULT 3\nready\n", "ready", fail_on=("FAULT",))

    assert (verdict.result, verdict.summary) == ("fail", "printed 'sensor FAULT 3'")
    assert verdict.details["last_lines"] == ["one", "sensor FAULT 3"]
    assert verdict.details["failed_by"] == "FAULT"


def test_endless_boot_loop_fails() -> None:
    """Issue. The same reset again and again, without ever reaching the program."""
    log = FirmwareLog(["ready"])
    for _ in range(20):
        if log.decided:
            break
        log.feed(b"ESP-ROM:esp32c3\nrst:0x3 (RTC_SW_SYS_RST),boot:0xc (SPI_FAST_FLASH_BOOT)\ninvalid header: 0x0\n")

    assert log.decided
    verdict = judge(log, None)
    assert verdict.result == "fail"
    assert "boot loop" in verdict.summary


def test_firmware_that_restarts_itself_is_no_boot_loop() -> None:
    """Ours. ESP-IDF's hello_world restarts every 10 s by design."""
    log = FirmwareLog()
    log.feed(BOOT.replace(b"0x1 (POWERON)", b"0xc (RTC_SW_CPU_RST)") * 6)
    verdict = judge(log, TIMEOUT, watched_s=60)

    assert verdict.result == "pass"
    assert "it restarted 5 times" in verdict.summary


@pytest.mark.parametrize("reason", [b"0xc (RTC_SW_CPU_RST)", b"0x3 (RTC_SW_SYS_RST)", b"0x1 (POWERON)"])
@pytest.mark.parametrize("expect", [(), ("never printed",)])
@pytest.mark.parametrize("ran", ["board", "emulator"])
def test_endless_restarts_are_a_boot_loop_however_well_each_boot_looks(
    reason: bytes, expect: tuple[str, ...], ran: Literal["board", "emulator"]
) -> None:
    """Ours. One every second, without a panic: app_main was reached each time."""
    log = FirmwareLog(expect)
    log.feed(BOOT.replace(b"0x1 (POWERON)", reason) * 10)
    verdict = judge(log, TIMEOUT, ran=ran, watched_s=10)

    assert verdict.result == "fail"
    assert verdict.summary.startswith("boot loop: it restarted 9 times in 10 s, and nothing says why")


@pytest.mark.parametrize("reason", [b"0x3 (RTC_SW_SYS_RST)", b"0x7 (TG0WDT_SYS_RST)"])
def test_boot_loop_of_a_wrong_header_says_what_may_be_the_cause(reason: bytes) -> None:
    """Ours. With flash encryption in development mode a plain image is written without a word, and never boots."""
    verdict = watched((b"rst:%s,boot:0xc (SPI_FAST_FLASH_BOOT)\ninvalid header: 0x3f2a91c4\n" % reason) * 6)

    assert verdict.result == "fail"
    assert "it was written elsewhere" in verdict.summary
    assert "flash encryption on" in verdict.summary


def test_passed_tests_pass_without_a_wish() -> None:
    """Issue. Decided by the summary."""
    log = FirmwareLog()
    data = STARTED + TESTS % (b"PASS", 0, b"OK")
    log.feed(data[: data.index(b"2 Tests")])
    assert not log.decided
    log.feed(data[data.index(b"2 Tests") :])
    assert log.decided
    verdict = judge(log, None)

    assert (verdict.result, verdict.summary) == ("pass", "2 tests passed")
    assert [case["name"] for case in verdict.details["tests"]["cases"]] == ["a", "b"]


def test_failed_test_fails_whatever_was_expected() -> None:
    """Issue. Default rules."""
    verdict = watched(b"ready\n" + TESTS % (b"FAIL: Expected 1 Was 2", 1, b"FAIL"), "ready")

    assert verdict.result == "fail"
    assert verdict.summary == "1 of 2 tests failed: b (main/t.c:9): Expected 1 Was 2"


def test_tests_that_have_begun_are_waited_for_after_the_expected_line() -> None:
    """Issue."""
    log = FirmwareLog(["ready"])
    log.feed(b"main/t.c:3:a:PASS\nready\n")
    assert not log.decided
    log.feed(b"1 Tests 0 Failures 0 Ignored\n")

    assert log.decided


def test_panic_in_a_test_names_the_test() -> None:
    """Issue. A run that is cut off has failed; the panic is the cause."""
    menu = b"Press ENTER to see the list of tests.\nRunning valve opens...\n"
    verdict = watched(STARTED + menu + CRASH[CRASH.index(b"Guru") : CUT + 20])

    assert verdict.result == "fail"
    assert "Store access fault" in verdict.summary
    (case,) = verdict.details["tests"]["cases"]
    assert (case["name"], case["result"]) == ("valve opens", "fail")
    assert "Store access fault" in case["message"]


def test_restart_in_a_run_cuts_it_off() -> None:
    """Issue. Reset in between."""
    reset = b"ESP-ROM:esp32c3\nrst:0x%s,boot:0x8 (SPI_FAST_FLASH_BOOT)\n"
    first, again = reset % b"1 (POWERON)", reset % b"c (RTC_SW_CPU_RST)"
    log = FirmwareLog()
    log.feed(b"main/t.c:3:stale:PASS\n" + first + STARTED + b"main/t.c:3:a:PASS\n")
    assert not log.failed  # what came before the first boot is another run's
    log.feed(again)
    verdict = judge(log, None)

    assert verdict.result == "fail"
    assert "the chip restarted" in verdict.summary


def test_unfinished_tests_are_a_timeout() -> None:
    """Ours."""
    verdict = watched(STARTED + b"main/t.c:3:a:PASS\n", end=TIMEOUT)

    assert verdict.result == "timeout"
    assert "its tests did not end in 10 s, 1 of them were over" in verdict.summary


def test_tests_that_were_all_ignored_are_no_pass() -> None:
    """Issue. Nothing was tested."""
    assert watched(b"main/t.c:3:a:IGNORE\n1 Tests 0 Failures 1 Ignored\nOK\n").result == "unknown"


@pytest.mark.parametrize("expect", [(), ("0 Failures",)])
@pytest.mark.parametrize(
    "summary",
    [b"0 Tests 0 Failures 0 Ignored", b"[==========] 0 tests from 0 test suites ran. (0 ms total)"],
)
def test_no_tests_are_no_pass(summary: bytes, expect: tuple[str, ...]) -> None:
    """Ours. A filter that leaves none has no failures either."""
    log = FirmwareLog(expect)
    log.feed(STARTED + b"0 Failures\n" + summary + b"\nOK\n")
    verdict = judge(log, ENDED, ran="program")

    assert verdict.result == "unknown"
    assert "no test was run" in verdict.summary


def test_no_tests_of_one_filter_do_not_spoil_those_of_the_next() -> None:
    """Ours. `unity_run_tests_by_tag` prints a summary a tag."""
    assert watched(STARTED + b"0 Tests 0 Failures 0 Ignored\nOK\n" + TESTS % (b"PASS", 0, b"OK")).result == "pass"


@pytest.mark.parametrize(
    "line", [b"main/t.c:3:a:FAIL: Expected 1 Was 2", b"main/t.inline:3:a:FAIL", b"main/t.c:3:a:FAIL: " + b"x" * 1200]
)
def test_failed_test_that_the_summary_does_not_count_fails(line: bytes) -> None:
    """Ours. A summary after a restart of the counters, or one that the firmware prints by itself."""
    verdict = watched(STARTED + line + b"\n1 Tests 0 Failures 0 Ignored\nOK\n")

    assert verdict.result == "fail"
    assert verdict.summary.startswith("1 of 1 tests failed: a (main/t.")


# -- how it ended ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "expect", "result", "said"),
    [
        (Exit(ExitReason.EXIT, 0), (), "pass", "exit code 0"),
        (Exit(ExitReason.EXIT, 3), (), "fail", "exit code 3; its last line: 'bye'"),
        (Exit(ExitReason.EXIT, 139), (), "fail", "ended by SIGSEGV; its last line: 'bye'"),
        (Exit(ExitReason.EXIT, 134), ("ready",), "fail", "ended by SIGABRT without printing 'ready'"),
        (Exit(ExitReason.EXIT, 0), ("ready",), "fail", "ended with exit code 0 without printing 'ready'"),
        (Exit(ExitReason.EXIT, 0), ("bye",), "pass", "bye"),
        (Exit(ExitReason.TIMEOUT, 124), ("ready",), "timeout", "'ready'"),
        (Exit(ExitReason.CANCELLED, 143), (), "cancelled", "cancelled"),
        (Exit(ExitReason.LOST, None), (), "unknown", "lost"),
        (Exit(ExitReason.DISK_FULL, 1), (), "fail", "disk"),
    ],
)
def test_program_is_judged_by_its_end_where_its_words_do_not_decide(
    end: Exit, expect: tuple[str, ...], result: str, said: str
) -> None:
    """Ours."""
    log = FirmwareLog(expect)
    log.feed(b"hello\nbye")
    verdict = judge(log, end, ran="program")

    assert verdict.result == result
    assert said in verdict.summary


def test_prompt_without_a_line_end_is_seen_at_the_end() -> None:
    """Ours."""
    assert watched(b"boot\nesp32> ", "esp32>", end=TIMEOUT).result == "pass"
