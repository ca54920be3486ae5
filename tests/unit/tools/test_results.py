"""Test results in build_get's verdict."""

from mcp import Client

from mcp_server import report_tests
from mcp_server.idf.unity import TestCase, TestResults
from mcp_server.model import BuildStatus, StageStatus, Verdict
from mcp_server.text import size
from mcp_server.views import BuildView
from tests.unit.tools.calls import call
from tests.unit.tools.fake import Fake, a_build, a_stage, a_view

FAILED = TestCase(name="closes", suite="valve", result="fail", file="test_valve.c", line=41, message="Expected 1 Was 0")


def that_ran(results: TestResults) -> BuildView:
    details = {"tests": results.model_dump(mode="json", exclude_none=True)}
    verdict = Verdict(result="fail", summary="2 of 14 tests failed", details=details)
    run = a_stage(StageStatus.FAILED, name="run", kind="idf.run", reason="exit", exit_code=1, verdict=verdict)
    return a_view(a_build(status=BuildStatus.FAILED, reason="exit"), run)


async def test_a_builds_tests_are_in_its_verdict(client: Client, fake: Fake) -> None:
    """Issue. Counts and what failed, where, and why; without them only the first was readable."""
    other = TestCase(name="opens\nslowly", result="fail")
    passed = TestCase(name="boots", result="pass")
    fake.push(that_ran(TestResults(total=14, passed=11, failed=2, skipped=1, cases=(FAILED, other, passed))))

    text, is_error = await call(client, "build_get", build=42)

    assert not is_error
    assert text.splitlines()[-3:] == [
        "tests of run: 11 passed, 2 failed, 1 ignored",
        "  failed: valve.closes (test_valve.c:41): Expected 1 Was 0",
        "  failed: opens slowly",
    ]


def test_many_failed_tests_are_bounded_and_counted() -> None:
    """Ours. A model pays for each byte; what was not kept is counted."""
    cases = tuple(FAILED.model_copy(update={"message": "é" * 400}) for _ in range(100))
    text = report_tests.tests_text(that_ran(TestResults(total=300, failed=300, cases=cases, complete=False)))

    assert size(text) <= report_tests.TESTS_BYTES
    assert text.startswith("tests of run: 0 passed, 300 failed; cut off before their end\n")
    assert text.splitlines()[-1].endswith(" more lines")
    few = report_tests.tests_text(that_ran(TestResults(total=9, failed=9, cases=(FAILED,))))
    assert few.splitlines()[-1] == "  and 8 more failed"
    assert report_tests.tests_text(a_view(a_build(), a_stage(StageStatus.SUCCESS))) == ""
