"""What is wrong with a round, found without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_server.engine.quality import MOST_ISSUES, Issue, examine, last_attempts
from mcp_server.engine.stages.qa import Qa
from mcp_server.model import Diagnosis, Diagnostic, Plan, Stage, StageSpec, StageStatus, Verdict
from tests.support.stage_context import NoHistory, stage_context


def row(name: str, kind: str = "idf.build", *, status: str = "success", attempt: int = 1, **verdict: Any) -> Stage:
    given = Verdict.model_validate({"result": "pass" if status == "success" else "fail", **verdict})
    return Stage(
        build=1, stage=name, kind=kind, host="local", attempt=attempt, status=StageStatus(status), verdict=given
    )


def diagnostic(message: str, line: int = 3, severity: str = "error") -> Diagnostic:
    return Diagnostic.model_validate(
        {"kind": "compile", "message": message, "file": "main/a.c", "line": line, "source": " x;", "severity": severity}
    )


def told(issues: Sequence[Issue]) -> list[tuple[str, str, str | None, int | None]]:
    return [(issue.severity, issue.kind, issue.file, issue.line) for issue in issues]


def test_each_compile_error_has_file_line_and_source() -> None:
    """Issue. The seeds' original has no file in any issue, so that nothing can be mended."""
    diagnosis = Diagnosis(errors=(diagnostic("no y"), diagnostic("no z", 9)))
    found = examine([row("build", status="failed", diagnosis=diagnosis)], [])

    assert told(found) == [("error", "compile", "main/a.c", 3), ("error", "compile", "main/a.c", 9)]
    assert (found[0].message, found[0].evidence) == ("no y", "x;")


def test_a_failed_test_is_an_issue_with_its_place() -> None:
    """Issue."""
    cases = [
        {"name": "opens", "result": "pass"},
        {"name": "closes", "result": "fail", "file": "main/t.c", "line": 9, "message": "1 is not 2"},
    ]
    found = examine([row("qemu", "idf.run", status="failed", details={"tests": {"cases": cases}})], [])

    assert told(found) == [("error", "test", "main/t.c", 9)]
    assert found[0].message == "test closes failed: 1 is not 2"


def test_a_panic_is_placed_at_the_projects_own_frame() -> None:
    """Issue. Frames of ESP-IDF itself come first in most backtraces."""
    frames = [{"file": "/opt/idf/panic.c", "line": 1}, {"file": "main/a.c", "line": 7}]
    panic = {"cause": "LoadProhibited", "frames": frames, "before": ["I (1) app: up"]}
    found = examine([row("boot", "idf.boot", status="failed", details={"panic": panic})], [])

    assert told(found) == [("error", "panic", "main/a.c", 7)]
    assert (found[0].message, found[0].evidence) == ("LoadProhibited", "I (1) app: up")


@pytest.mark.parametrize(("kind", "called"), [("idf.flash", "flash"), ("idf.qemu", "run"), ("command", "stage")])
def test_any_other_failure_says_its_summary_and_last_lines(kind: str, called: str) -> None:
    """Ours."""
    details = {"last_lines": ["a", "b", "c", "d"]}
    found = examine([row("x", kind, status="failed", summary="no answer", details=details)], [])

    assert told(found) == [("error", called, None, None)]
    assert (found[0].message, found[0].evidence) == ("no answer", "b\nc\nd")


@pytest.mark.parametrize(
    ("used", "was", "words"),
    [
        (96_000, 0, ["the app fills 96.0 % of its partition"]),
        (60_000, 50_000, ["the app grew by 20.0 % since the last good build"]),
        (52_000, 50_000, []),
        (60_000, 59_000, []),
    ],
)
def test_sizes_are_compared_with_the_partition_and_the_last_good_build(used: int, was: int, words: list[str]) -> None:
    """Issue. Warnings: they fail nothing."""
    good = [row("build", details={"sizes": {"app": {"used": was, "size": 100_000}}})]
    tested = row("qemu", "idf.qemu")
    found = examine([row("build"), tested], good, {"app": {"used": used, "size": 100_000}})

    assert [issue.message for issue in found] == words
    assert all((issue.severity, issue.kind) == ("warning", "size") for issue in found)


def test_only_new_warnings_are_told() -> None:
    """Issue. One that moved is not new."""
    good = [row("build", diagnosis=Diagnosis(warnings=(diagnostic("unused a", 3, "warning"),)))]
    warnings = (diagnostic("unused a", 30, "warning"), diagnostic("unused b", 4, "warning"))
    found = examine([row("build", diagnosis=Diagnosis(warnings=warnings)), row("qemu", "idf.run")], good)

    assert [(issue.severity, issue.kind, issue.message) for issue in found] == [("warning", "warning", "unused b")]


def test_changed_dependencies_and_what_was_never_run_are_told() -> None:
    """Issue."""
    details = {"dependencies": {"added": {"espressif/led": "1.2.0"}}}
    found = examine([row("build", details=details)], [])

    assert [(issue.severity, issue.kind) for issue in found] == [("warning", "untested"), ("info", "dependency")]
    assert found[1].message == "components added: espressif/led 1.2.0"


def test_issues_are_bounded_and_errors_come_first() -> None:
    """Ours."""
    many = [row(f"s{n}", status="failed", diagnosis=Diagnosis(errors=(diagnostic("x"),) * 30)) for n in range(20)]
    found = examine([row("build"), *many], [])

    assert len(found) == MOST_ISSUES
    assert found[0].severity == "error"


@pytest.mark.parametrize("details", [{"tests": 3}, {"panic": "x"}, {"tests": {"cases": {}}}, {"dependencies": [1]}])
def test_details_of_an_odd_form_do_no_harm(details: Mapping[str, Any]) -> None:
    """Ours. Rows of an older version are read, too."""
    assert examine([row("qemu", "idf.run", status="failed", details=details, summary="s")], [])


def test_the_last_attempt_counts() -> None:
    """Ours."""
    first, second = row("build", status="failed"), row("build", attempt=2)
    assert last_attempts([first, second], 1) == [second]


async def test_qa_judges_what_it_comes_after_and_nothing_beside_it(home: Path) -> None:
    """Ours. What else runs at the same time would be judged or not by who was quicker."""
    rows = [row(name, "command", status="failed", summary=f"{name} failed") for name in ("first", "beside", "may_fail")]
    context = stage_context("qa", {"project": "/p"}, history=NoHistory(*rows, row("earlier_qa", "qa", status="failed")))
    specs = [
        StageSpec(name="first", kind="command"),
        StageSpec(name="between", kind="command", depends_on=("first",)),
        StageSpec(name="may_fail", kind="command", allow_failure=True),
        StageSpec(name="earlier_qa", kind="qa"),
        StageSpec(name="beside", kind="command"),
        StageSpec(name="it", kind="qa", depends_on=("between", "may_fail", "earlier_qa")),
    ]
    build = context.build.model_copy(update={"plan": Plan(stages=tuple(specs))})

    verdict = await Qa().run(replace(context, build=build, spec=specs[-1]))

    assert verdict.result == "fail"
    assert [issue["stage"] for issue in verdict.details["issues"]] == ["first"]
