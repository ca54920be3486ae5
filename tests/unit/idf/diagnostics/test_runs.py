"""Several runs or reports in one log: which of them still matter."""

from mcp_server.idf.diagnostics import Hints, diagnose, render


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
