"""What was ordered, made by an agent, and failed: a fix goes on from what was made, and completes the order."""

import asyncio
from pathlib import Path

import pytest

from mcp_server.build_spec import BuildSpec
from mcp_server.errors import Conflict
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.report import build_report
from mcp_server.views import BuildView, Started
from tests.support.bot_orders import diff, template
from tests.support.git_tree import UserTree

pytestmark = [pytest.mark.worker_inside, pytest.mark.timeout(60)]


async def over(orchestrator: Orchestrator, started: Started) -> BuildView:
    async with asyncio.timeout(40):
        return await orchestrator.wait(started.build.id, 40)


async def test_a_failed_order_is_mended_from_what_its_agent_had_made(
    orchestrator: Orchestrator, home: Path, tmp_path: Path
) -> None:
    """Ours. Not from the template: the first agent's work is kept, and the new project has both in one commit."""
    made = template(tmp_path / "template")
    worse = diff(tmp_path / "worse.diff", "page.txt", "bad day\n", "worse day\n")
    other = diff(tmp_path / "other.diff", "page.txt", "worse day\n", "no day\n")
    good = diff(tmp_path / "good.diff", "page.txt", "no day\n", "good day\n")
    spec = BuildSpec(
        prompt="Make the page good",
        template=made,
        name="page",
        variables={"word": "day"},
        agent=f"patch:{worse}",
        auto_commit=True,
        max_rounds=1,
    )
    project = UserTree(home / "projects/page", tmp_path)
    failed = await over(orchestrator, await orchestrator.workflows.create(spec))
    assert [f"{row.stage} {row.status}" for row in failed.stages][:3] == [
        "create success",
        "work success",
        "check failed",
    ]
    assert f"project {project.top} is kept" in build_report(failed)

    second = await over(
        orchestrator, await orchestrator.workflows.fix(failed.build.id, agent=f"patch:{other}", max_rounds=1)
    )
    assert [f"{row.stage} {row.status}" for row in second.stages][:2] == ["fix success", "check failed"]
    assert (project.top / "page.txt").read_text() == "bad day\n"
    third = await over(orchestrator, await orchestrator.workflows.fix(second.build.id, agent=f"patch:{good}"))

    stages = ["fix", "check", "commit", "deliver"]
    assert [row.stage for row in third.stages] == stages, build_report(third)
    assert third.build.status is BuildStatus.SUCCESS, build_report(third)
    assert (project.top / "page.txt").read_text() == "good day\n"
    assert project.git("log", "--format=%s") == "Make the page good\nMade from a template"
    assert project.git("status", "--porcelain") == ""


async def test_what_was_never_built_is_ordered_again(orchestrator: Orchestrator, home: Path, tmp_path: Path) -> None:
    """Ours. Where the agent itself failed, there is no verdict that a fix could be told."""
    unfit = diff(tmp_path / "unfit.diff", "page.txt", "quite another page\n", "good day\n")
    spec = BuildSpec(
        prompt="x",
        template=template(tmp_path / "template"),
        name="page",
        variables={"word": "day"},
        agent=f"patch:{unfit}",
    )
    failed = await over(orchestrator, await orchestrator.workflows.create(spec))

    report = build_report(failed)
    assert f"project {home / 'projects/page'} is kept" in report
    with pytest.raises(Conflict, match="order it again"):
        await orchestrator.workflows.fix(failed.build.id)
