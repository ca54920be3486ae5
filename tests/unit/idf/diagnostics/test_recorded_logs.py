"""Every recorded log: its report holds what a firmware engineer needs, and fits."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_server.idf.diagnostics import Hints, diagnose, render

LOGS = Path(__file__).parents[3] / "fixtures" / "logs"
EXPECTED: dict[str, Any] = {
    **json.loads((LOGS / "expected.json").read_text()),
    **json.loads((LOGS / "more.json").read_text()),
}
EXIT_CODES: dict[str, int | None] = json.loads((LOGS / "exit_codes.json").read_text())
REPORT_BYTES = 560  # what is left of 700 after the front's own first and last line


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_recorded_log_is_told_with_its_facts(name: str) -> None:
    """The recorder's: what was broken, in words that any right diagnosis has."""
    facts = EXPECTED[name]
    report = render(diagnose((LOGS / name).read_bytes(), facts["rc"], hints=Hints()), REPORT_BYTES)

    missing = [fact for fact in facts["expected"] if not _holds(report, fact)]
    assert not missing, report
    assert len(report.encode()) <= REPORT_BYTES


@pytest.mark.parametrize("name", sorted(path.name for path in LOGS.glob("*.log")))
def test_failed_and_successful_logs_are_told_apart_without_exit_code(name: str) -> None:
    """Ours, for saved logs: `fatal:` and `error` in a successful build prove nothing."""
    code = EXPECTED[name]["rc"] if name in EXPECTED else EXIT_CODES.get(name)
    diagnosis = diagnose((LOGS / name).read_bytes(), hints=Hints())

    if name.startswith(("ok-", "idf-flash-ok", "more-cmake-circular")):
        assert diagnosis.errors == ()
    elif code in (1, 2):
        assert diagnosis.errors


@pytest.mark.parametrize("name", sorted(path.name for path in LOGS.glob("*.log")))
def test_exit_code_0_means_no_errors(name: str) -> None:
    """Ours."""
    diagnosis = diagnose((LOGS / name).read_bytes(), 0)

    assert (diagnosis.errors, diagnosis.error_count, diagnosis.hints) == ((), 0, ())


def _holds(report: str, fact: str | list[str]) -> bool:
    return any(one in report for one in ([fact] if isinstance(fact, str) else fact))
