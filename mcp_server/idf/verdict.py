"""What firmware came to: one plan for a board, an emulator and a program of this machine."""

import signal
from typing import Any, Literal

from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.firmware_log import SHOWN_CHARS, FirmwareLog
from mcp_server.idf.unity import TestCase
from mcp_server.model import Verdict

__all__ = ["FirmwareLog", "Ran", "judge"]

SHOWN_LINES = 5  # of the last ones, in a verdict
SIGNALLED = 128  # a shell's exit code for a signal, less the signal
MANY_RESTARTS = 4
RESTARTS_S = 5.0  # firmware that restarts itself as it should, e.g. ESP-IDF's hello_world, works for longer
DEFAULT_BAUD = 115_200  # of ESP-IDF's console

Ran = Literal["board", "emulator", "program"]
"""What ran the firmware: it says what silence may mean."""

_Judged = tuple[Literal["pass", "fail", "timeout", "cancelled", "unknown"], str]

_SILENT: dict[Ran, str] = {
    "board": "another port or baud rate, a console on another interface (USB or UART), or no firmware in flash",
    "emulator": "the image does not boot, or its console is not UART0 (CONFIG_ESP_CONSOLE_UART_DEFAULT)",
    "program": "it hangs before its first line, or keeps its output back in a buffer",
}


def judge(
    log: FirmwareLog,
    end: Exit | None,
    *,
    ran: Ran = "board",
    watched_s: float | None = None,
    baud: int | None = None,
) -> Verdict:
    """What the firmware came to. `end` is that of the job that ran or watched it; None: it was watched long enough.

    pass: every expected line and every test that began, or without such a wish: the program was reached and nothing
    failed to the end. fail: something was said, or it ended by itself. timeout: what was wished for did not come in
    time. unknown: nothing can be told, e.g. as nothing was printed, or no test was run. Closes the log.
    `details`: `matched`, `missing`, `last_lines`, `tests`, `panic`, `notes`, each only where there is something.
    """
    log.close()
    result, summary = (
        _failure(log)
        or _doubt(log)
        or _success(log)
        or _flood(log, end)
        or _outside(end)
        or _ended(log, end, ran)
        or _time_over(log, ran, watched_s, baud)
    )
    if result == "pass" and log.tested_nothing:
        result, summary = "unknown", "no test was run: the summary counts none, as where a filter leaves none"
    return Verdict(result=result, summary=summary, details=_evidence(log))


def _failure(log: FirmwareLog) -> _Judged | None:
    panic, tests = log.panic, log.tests
    if log.default_rules and panic is not None:
        unexplained = panic.kind in ("boot_loop", "unexplained_reset")
        return "fail", f"{panic.cause}; {log.stuck}" if unexplained and log.stuck else panic.cause
    if log.failed_line is not None:
        return "fail", f"printed {log.failed_line[:SHOWN_CHARS]!r}"
    if log.loop is not None:
        return "fail", log.loop if log.stuck is None else f"{log.loop}; {log.stuck}"
    if log.default_rules and tests is not None and tests.failed:
        first = next((case for case in tests.cases if case.result == "fail"), None)
        return "fail", f"{tests.failed} of {tests.total} tests failed" + (f": {_named(first)}" if first else "")
    return None


def _named(case: TestCase) -> str:
    place = f" ({case.file}:{case.line})" if case.file and case.line else ""
    return f"{case.name}{place}{': ' if case.message else ''}{case.message[:SHOWN_CHARS]}"


def _doubt(log: FirmwareLog) -> _Judged | None:
    if (pattern := log.given_up) is None:
        return None
    return "unknown", f"{pattern.argument}: {pattern.text[:60]!r} takes too long to search for; write it more simply"


def _success(log: FirmwareLog) -> _Judged | None:
    if not log.complete:
        return None
    tests = log.tests
    if tests is not None and not log.expect and not tests.passed:
        return "unknown", f"all {tests.total} tests were ignored: nothing was tested"
    counts = ""
    if tests is not None:
        counts = f"{tests.passed} tests passed" + (f", {tests.skipped} ignored" if tests.skipped else "")
    return "pass", "; ".join(filter(None, (log.matched[-1] if log.matched else "", counts)))


def _flood(log: FirmwareLog, end: Exit | None) -> _Judged | None:
    if not log.flooded:
        return None
    during = ""
    if end is not None and end.started_at is not None and end.ended_at is not None:
        during = f" in {max(end.ended_at - end.started_at, 1):.0f} s"
    wanted = f" without {log.missing[0].text!r}" if log.missing else ""
    last = f"; the last line that was read: {log.last_line[:SHOWN_CHARS]!r}"
    return "fail", f"printed more than {log.most_bytes >> 20} MB{during}{wanted}: it prints without end{last}"


def _outside(end: Exit | None) -> _Judged | None:
    """What ended the job, where that was not the firmware."""
    reason = end.reason if end else None
    if reason is ExitReason.CANCELLED:
        return "cancelled", "cancelled"
    if reason is ExitReason.LOST:
        return "unknown", "the job was lost: its processes were killed, or the machine restarted"
    if reason is ExitReason.DISK_FULL:
        return "fail", "no space left on the disk of the job's log: free some, then retry"
    return None


def _ended(log: FirmwareLog, end: Exit | None, ran: Ran) -> _Judged | None:
    """What it means that the job ended by itself; None where it did not, or was only the watch of a board."""
    if end is None or end.reason is not ExitReason.EXIT or (end.code == 0 and ran == "board"):
        return None
    how = f"ended {_manner(end.code)}"
    last = f"; its last line: {log.last_line[:SHOWN_CHARS]!r}" if log.last_line else ""
    if log.missing:
        return "fail", f"{how} without printing {log.missing[0].text!r}{last}"
    tests = log.tests
    if tests is not None and not tests.complete:
        return "fail", f"{how} in the middle of its tests, after {tests.total} of them{last}"
    return "pass" if end.code == 0 and ran == "program" else "fail", how + ("" if end.code == 0 else last)


def _manner(code: int | None) -> str:
    """How a process ended: a crash is a signal and has no words of its own."""
    if code is not None and code > SIGNALLED and code - SIGNALLED in set(signal.Signals):
        return f"by {signal.Signals(code - SIGNALLED).name}"
    return f"with exit code {code}"


def _time_over(log: FirmwareLog, ran: Ran, watched_s: float | None, baud: int | None) -> _Judged:
    during = f" in {watched_s:g} s" if watched_s else ""
    wanted = ", ".join(repr(pattern.text) for pattern in log.missing[:3])
    if not log.last_line:
        return "unknown", f"nothing was printed{during}: {_SILENT[ran]}"
    if log.is_garbage:
        return "unknown", f"most of what was printed is no text, as at a wrong baud rate: {_other_rate(baud)}"
    last = f"the last line: {log.last_line[:SHOWN_CHARS]!r}"
    if not log.started and log.stuck is not None:
        return "fail", f"the firmware did not start: {log.stuck}"
    tests = log.tests
    if (
        log.default_rules
        and tests is None
        and log.resets > MANY_RESTARTS
        and 0 < (watched_s or 0) < RESTARTS_S * log.resets
    ):
        return "fail", f"boot loop: it restarted {log.resets - 1} times{during}, and nothing says why; {last}"
    if tests is not None and not tests.complete:
        return "timeout", f"its tests did not end{during}, {tests.total} of them were over; {last}"
    if log.missing:
        return "timeout", f"not printed{during}: {wanted}; {last}"
    if log.started:
        again = f"; it restarted {log.resets - 1} times" if log.resets > 1 else ""
        sooner = "" if log.expect or not during else " (nothing was expected: an `expect` ends it sooner)"
        return "pass", f"app_main was reached, and nothing failed{during}{again}{sooner}"
    return "unknown", f"nothing failed{during}, but no line says that app_main was reached: expect one of its; {last}"


def _other_rate(baud: int | None) -> str:
    if baud is not None and baud != DEFAULT_BAUD:
        return f"{baud} was used, ESP-IDF's default is {DEFAULT_BAUD}"
    return (
        f"{baud or DEFAULT_BAUD} was used; CONFIG_ESP_CONSOLE_UART_BAUDRATE names the firmware's own, "
        "921600 is usual, and 74880 with a crystal of 26 MHz"
    )


def _evidence(log: FirmwareLog) -> dict[str, Any]:
    panic, tests = log.panic, log.tests
    lines = [line for line in (panic.before if panic else log.last_lines) if line.strip()]
    evidence: dict[str, Any] = {
        "matched": log.matched,
        "last_lines": [line[:SHOWN_CHARS] for line in lines[-SHOWN_LINES:]],
    }
    if log.missing:
        evidence["missing"] = [pattern.text for pattern in log.missing]
    if log.failed_pattern is not None:
        evidence["failed_by"] = log.failed_pattern.text
    if tests is not None:
        evidence["tests"] = tests.model_dump(mode="json", exclude_none=True)
    if panic is not None:
        bulky = {"core_dump", "stack", "lines"}
        evidence["panic"] = panic.model_dump(mode="json", exclude_defaults=True, exclude=bulky)
    notes = [f"the firmware went on after this: {warning.cause}" for warning in log.warnings]
    for pattern in (*log.fail_on, *log.expect):
        if pattern.slow and not pattern.given_up:
            notes.append(f"{pattern.argument}: {pattern.text[:60]!r} was too slow for {pattern.slow} lines")
    if notes:
        evidence["notes"] = notes
    return evidence
