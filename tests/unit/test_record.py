"""Builds as JSON."""

from mcp_server.model import BuildStatus, Plan, StageSpec, StageStatus, Verdict
from mcp_server.record import of_view
from tests.unit.tools.fake import a_build, a_stage, a_view

PLAN = Plan(
    stages=(StageSpec(name="build", kind="idf.build"),),
    fix=StageSpec(name="fix", kind="agent.fix"),
    fix_first=True,
    max_rounds=4,
)


def test_the_verdict_of_a_build_that_ended_with_its_first_fix_is_that_fix() -> None:
    """Ours. Nothing else of it ran; while it is open it has no verdict, and a stage that failed explains more."""
    verdict = Verdict(result="fail", summary="claude changed nothing")
    fix = a_stage(StageStatus.FAILED, "fix", "agent.fix", reason="no_change", verdict=verdict)
    over = a_build(status=BuildStatus.FAILED, plan=PLAN, reason="no_change")

    assert of_view(a_view(over, fix))["verdict"]["summary"] == "claude changed nothing"
    assert of_view(a_view(a_build(status=BuildStatus.RUNNING, plan=PLAN), fix))["verdict"] is None
    built = a_stage(StageStatus.FAILED, verdict=Verdict(result="fail", summary="2 errors"))
    assert of_view(a_view(over, fix, built))["verdict"]["summary"] == "2 errors"
