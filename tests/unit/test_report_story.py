"""The story of a build: bounded, harmless, and honest about why it ended."""

from typing import Any

import pytest

from mcp_server import report_story
from mcp_server.model import BuildStatus, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.report import build_report
from mcp_server.views import BuildView
from tests.unit.tools.fake import a_build, a_stage, a_view

PLAN = Plan(
    stages=(StageSpec(name="build", kind="idf.build", role="BUILDER"),),
    fix=StageSpec(name="fix", kind="agent.fix", role="DEVELOPER"),
    max_rounds=20,
)


def fixed(round_: int, **details: Any) -> Stage:
    usage = {"input_tokens": 3000, "output_tokens": 412, "cost_usd": 0.0171}
    details = {"usage": usage, "files_changed": ["main/a.c"], "commit_sha": "c" * 40, **details}
    verdict = Verdict(result="pass", summary="claude changed main/a.c +1 -1", details=details)
    resolved = {"agent": "claude", "branch": "bo/fix-42"}
    return a_stage(StageStatus.SUCCESS, "fix", "agent.fix", round=round_, verdict=verdict, resolved=resolved)


def a_story(rounds: int, **columns: Any) -> BuildView:
    """`rounds` failed rounds, each with a change."""
    rows = [
        row for n in range(1, rounds + 1) for row in (a_stage(StageStatus.FAILED, round=n, reason="exit"), fixed(n))
    ]
    columns = {"reason": "exit", "plan": PLAN, "round": rounds, **columns}
    return a_view(a_build(status=BuildStatus.FAILED, **columns), *rows)


def test_tokens_and_cost_are_summed_over_the_rounds() -> None:
    """Issue. Tokens and cost, of the whole build and of each session."""
    view = a_story(2)

    head, *_ = report_story.agent_lines(view)

    assert head == "agent claude changed main/a.c · 2 sessions · 6,824 tokens, $0.034 · branch bo/fix-42"
    assert report_story.story(view).count("3,412 tokens, $0.017") == 2


def test_how_the_change_comes_into_the_project_is_told_unless_it_is_there() -> None:
    """Docs. A new project is brought what was made of it; any other one waits for `fix --apply`."""
    fix, delivered = fixed(1), a_stage(StageStatus.SUCCESS, "deliver", "git.deliver")
    succeeded = a_build(status=BuildStatus.SUCCESS, reason="exit", plan=PLAN)

    assert any("fix 42 --apply" in line for line in report_story.agent_lines(a_view(succeeded, fix)))
    assert not any("--apply" in line for line in report_story.agent_lines(a_view(succeeded, fix, delivered)))


@pytest.mark.parametrize(("reason", "words"), [*report_story.WHY.items()])
def test_why_it_ended_is_said_in_plain_words(reason: str, words: str) -> None:
    """Ours. In the verdict and in the story."""
    view = a_story(1, reason=reason)

    assert f"stopped: {words}" in build_report(view)
    assert f"stopped: {words}" in report_story.story(view)
    assert build_report(view).split(" in stage")[0] in (
        "build 42 gave up",
        "build 42 was not mended",
        "build 42 ran out of budget",
    )


def test_a_long_story_with_hostile_diffs_stays_bounded() -> None:
    """Ours. 4,000 bytes, no control characters, and the end is said at the top."""
    rows = [fixed(n, diff="+++ b/main/a.c\n" + "+\x1b[2J" + "x" * 5000 + "\n-y\n" * 500) for n in range(1, 21)]
    view = a_view(a_build(status=BuildStatus.FAILED, reason="no_progress", plan=PLAN, round=20), *rows)

    told = report_story.story(view)

    assert len(told.encode()) <= report_story.STORY_BYTES
    assert "\x1b" not in told
    assert "stopped: the same first cause" in told.splitlines()[2]
