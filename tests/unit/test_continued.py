"""Where a build goes on whose sources an agent had made in a copy."""

import pytest

from mcp_server import plans, workflow_plans
from mcp_server.continued import Begin, begin_of
from mcp_server.errors import Conflict
from mcp_server.model import BuildStatus, Expansion, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.workflow_plans import Developer
from tests.unit.tools.fake import a_build, a_stage

FIX = Developer(agent="a").stage("/user/page")
WORK = StageSpec(name="work", kind="agent.work", once=True, params={"prompt": "a page"})
CHECK = StageSpec(name="check", kind="command", params={"project": "/copies/1"}, depends_on=("work",))
MADE = Plan(stages=(WORK, CHECK), fix=FIX, max_rounds=3, workspace="/user/page")


def agent(name: str, place: str, commit: str, status: StageStatus = StageStatus.SUCCESS, round_: int = 1) -> Stage:
    verdict = Verdict(result="pass", details={"commit_sha": commit})
    return a_stage(
        status, name, f"agent.{name}", round=round_, verdict=verdict, resolved={"place": place, "folder": place}
    )


ROWS = [
    agent("work", "/copies/1", "c1"),
    agent("fix", "/copies/1", "c2"),
    agent("fix", "/copies/1", "c3", StageStatus.FAILED),
]


def test_a_retry_of_what_was_made_in_a_copy_is_mended_from_there() -> None:
    """Ours. Its agent would else begin at the template, and its stages would build the other copy."""
    build = a_build(status=BuildStatus.FAILED, plan=MADE)
    plan = plans.again(build, ROWS, failed_only=True)

    assert plan.workspace == "/copies/1"
    assert plan.fix and plan.fix.params["begin"] == {"place": "/copies/1", "commit": "c2", "folder": "/copies/1"}


def test_a_fix_of_a_fix_goes_on_from_its_copy_while_paths_lead_to_the_first() -> None:
    """Ours. Where the second came to no change of its own, from where it began."""
    begin = begin_of(a_build(status=BuildStatus.FAILED, plan=MADE), ROWS)
    assert begin == Begin("/copies/1", "c2", "/copies/1")
    mended = workflow_plans.mended(MADE, "/user/page", Developer(agent="b"), 2, begin)
    second = a_build(status=BuildStatus.FAILED, plan=mended)

    assert [(stage.name, stage.depends_on) for stage in mended.stages] == [("check", ())]
    assert begin_of(second, [agent("fix", "/copies/2", "d1")]) == Begin("/copies/2", "d1", "/copies/1")
    assert begin_of(second, [agent("fix", "/copies/2", "d1", StageStatus.FAILED)]) == begin


def test_an_ordinary_build_begins_at_its_project() -> None:
    """Ours. What was never built has nothing to go on from."""
    plain = Plan(stages=(CHECK,), fix=FIX, workspace="/user/page")
    assert begin_of(a_build(status=BuildStatus.FAILED, plan=plain), ROWS) is None
    unbuilt = MADE.model_copy(update={"stages": (WORK,), "expand": Expansion()})
    with pytest.raises(Conflict, match="order it again"):
        begin_of(a_build(status=BuildStatus.FAILED, plan=unbuilt), ROWS)
    assert (
        plans.again(a_build(status=BuildStatus.FAILED, plan=unbuilt), ROWS, failed_only=True).workspace == "/user/page"
    )
