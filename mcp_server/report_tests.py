"""Test results of a build's firmware as text: counts of each stage, then what failed.

May import: idf, model, text and other reports. Never: store, engine, hosts, a front.
"""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from mcp_server import report_parts as parts
from mcp_server.idf.unity import TestCase, TestResults
from mcp_server.text import fit, one_line

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.views import BuildView

TESTS_BYTES = 1200  # of a report that was asked for by its number


def tests_text(view: "BuildView", limit: int = TESTS_BYTES) -> str:
    """`tests of run: 12 passed, 1 failed` and a line a failed test, for each stage that ran tests; "" for none."""
    lines: list[str] = []
    for row in parts.newest(view).values():
        said = row.verdict.details.get("tests") if row.verdict else None
        if said is None:
            continue
        try:
            lines += _lines(row.stage, TestResults.model_validate(said))
        except ValidationError:  # another version's record
            continue
    return fit(lines, limit) if lines else ""


def _lines(stage: str, results: TestResults) -> list[str]:
    counts = {"passed": results.passed, "failed": results.failed, "ignored": results.skipped}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "passed")
    cut = "" if results.complete else "; cut off before their end"
    failed = [case for case in results.cases if case.result == "fail"]
    more = results.failed - len(failed)
    lines = [f"tests of {one_line(stage, 60)}: {told}{cut}", *(f"  failed: {_case(case)}" for case in failed)]
    return [*lines, f"  and {more} more failed"] if more > 0 else lines


def _case(case: TestCase) -> str:
    name = f"{case.suite}.{case.name}" if case.suite else case.name
    place = f" ({case.file}:{case.line})" if case.file and case.line else ""
    return one_line(f"{name}{place}" + (f": {case.message}" if case.message else ""), 240)
