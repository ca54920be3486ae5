"""A small project whose build is a shell line, and agents that do as they are told by a script."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_server.model import Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from mcp_server.workflow_plans import Developer
from tests.support.git_tree import UserTree

BUILD = """\
if grep -q 'return 1' main/main.c; then
  echo "main/main.c:3:5: error: 'one' undeclared"
  exit 1
fi
if grep -q 'return 2' main/main.c; then
  echo "main/main.c:3:5: error: 'two' undeclared"
  exit 1
fi
"""
"""`return 1` and `return 2` are two different mistakes."""

WAIT_S = 40
Steps = Sequence[tuple[str, Any]]


def mend(old: int, new: int) -> tuple[str, str]:
    """The step of an agent that puts another number in."""
    return "sh", f"sed -i 's/return {old}/return {new}/' main/main.c"


def agent(home: Path, steps: Steps, name: str = "scripted", able: Mapping[str, Any] | None = None) -> None:
    """An agent of config.yaml that speaks the Agent Client Protocol and does `steps` at each prompt."""
    script = Path(__file__).with_name("acp_agent.py")
    command = [sys.executable, str(script), json.dumps(steps), json.dumps(able or {})]
    (home / "config.yaml").write_text(json.dumps({"agents": {name: {"acp": command}}}))


def diff(place: Path, name: str, old: int, new: int, file: str = "main/main.c") -> None:
    """A diff in a folder of them, for the agent `patch:`."""
    place.mkdir(exist_ok=True)
    lines = (f"--- a/{file}\n+++ b/{file}\n", " int main(void)\n {\n", f"-    return {old};\n+    return {new};\n }}\n")
    (place / name).write_text(lines[0] + "@@ -1,4 +1,4 @@\n" + "".join(lines[1:]))


def plan(project: Path, *, agent: str = "scripted", rounds: int = 3, build: str = BUILD, **developer: Any) -> Plan:
    """One stage that builds, and the developer."""
    params = {"command": build, "project": str(project), "workdir": str(project)}
    stage = StageSpec(name="build", kind="command", params=params, timeout_s=30, role="BUILDER")
    given: dict[str, Any] = {"timeout_s": 30.0, **developer}
    mender = Developer(agent=agent, **given)
    return Plan(stages=(stage,), fix=mender.stage(str(project)), max_rounds=rounds, workspace=str(project))


async def run(orchestrator: Orchestrator, tree: UserTree, plan: Plan) -> BuildView:
    started = await orchestrator.start_plan(tree.top, plan, name="loop")
    return await orchestrator.wait(started.build.id, WAIT_S)


def story(view: BuildView) -> list[str]:
    """`1 build failed`, `1 fix success`, … in the order they began."""
    return [f"{row.round} {row.stage} {row.status}" for row in view.stages]


def fix_of(view: BuildView, number: int = -1) -> Any:
    """The details of a fix's verdict."""
    verdict = [row.verdict for row in view.stages if row.stage == "fix"][number]
    assert verdict is not None
    return verdict.details
