"""Budgets of the fix loop: real worktrees and commits, an agent whose job is simulated, and simulated time."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcp_server.agents.base import AgentResult, Usage
from mcp_server.config import Server
from mcp_server.hosts.base import ExitReason
from mcp_server.model import BuildStatus
from mcp_server.report import build_report
from mcp_server.report_story import story
from mcp_server.views import BuildView, build_view
from mcp_server.workflow_plans import Developer
from tests.support.git_tree import UserTree, begun
from tests.support.simulation import Outcome, simulation
from tests.unit.engine.test_walk import plan, stage

pytestmark = pytest.mark.timeout(60)

LOCAL = {"local": Server(slots=3)}


@pytest.fixture
def tree(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "project", tmp_path / "user")


class Agent:
    """A session after the other: `costs` of each in dollars, `seconds` it takes. Every build fails otherwise."""

    def __init__(self, home: Path, costs: Sequence[float], seconds: float, limit: str | None = None) -> None:
        self.home, self.costs, self.seconds, self.limit = home, costs, seconds, limit
        self.sessions = self.builds = 0
        self.ends, self.changes = ExitReason.EXIT, True

    def __call__(self, host: str, name: str, attempt: int) -> Outcome:
        if name == "build":
            self.builds += 1
            return Outcome(1, code=1, log=f"main.c:3:5: error: no {'x' * self.builds}\n".encode())
        if self.changes:
            [copy] = [place for place in (self.home / "worktrees").iterdir() if place.name.endswith("-1")]
            next(copy.rglob("main.c")).write_text(f"int main(void) {{ return {self.sessions}; }}\n")
        usage = Usage(input_tokens=100, cost_usd=self.costs[self.sessions])
        self.sessions += 1
        result = AgentResult(stopped="limit" if self.limit else "end", text=self.limit or "", usage=usage)
        log = f"build-orchestrator: result {result.model_dump_json()}\n" if self.ends is ExitReason.EXIT else ""
        return Outcome(self.seconds, reason=self.ends, log=log.encode())


async def mended(home: Path, tree: UserTree, agent: Agent, name: str = "", **developer: object) -> BuildView:
    (home.parent / "any.diff").write_text("never read: the job is simulated\n")
    given = {"agent": name or f"patch:{home.parent / 'any.diff'}", **developer}
    fix = Developer(**given)  # pyright: ignore[reportArgumentType]
    top = str(tree.top)
    made = plan(stage("build"), fix=fix.stage(top), max_rounds=9, workspace=top)
    async with simulation(home, LOCAL, agent) as world:
        build, _ = await world.run(made)
        now = world.clock.now()
        return await world.services.store.read(lambda c: build_view(c, build.id, now))


def fixes(view: BuildView) -> list[str]:
    return [f"{row.status} {row.reason}" for row in view.stages if row.stage == "fix"]


@pytest.mark.parametrize(
    ("budget", "costs", "spent"),
    [
        ({"cost_usd": 1.0}, (0.4, 0.7, 9), "$1.1 of $1"),
        ({"timeout_s": 100.0}, (0.1, 0.1, 9), "2 min 0 s of 100 s"),
        ({"tokens": 200}, (0.1, 0.1, 9), "200 tokens of 200"),
    ],
    ids=["money", "time", "tokens"],
)
async def test_a_budget_over_all_rounds_stops_the_loop_and_says_which(
    home: Path, tree: UserTree, budget: dict[str, float], costs: tuple[float, ...], spent: str
) -> None:
    """Issue. Each session took 60 s; the third never begins, and what the first two made stays on their branch."""
    agent = Agent(home, costs, 60)
    view = await mended(home, tree, agent, budget=budget)

    assert fixes(view) == ["success exit", "success exit", "failed budget"]
    assert (view.build.status, view.build.reason, view.build.round) == (BuildStatus.FAILED, "budget", 3)
    assert agent.sessions == 2
    verdict, told = build_report(view), story(view)
    assert f"fix: the agent's budget of this build is used up: {spent}" in verdict
    assert verdict.startswith("build 1 ran out of budget in stage build")
    assert f"is used up: {spent}" in told and "stopped: the agent's budget is used up" in told
    assert tree.git("rev-list", "--count", "main..bo/fix-1") == "3"


@pytest.mark.parametrize("ends", [ExitReason.EXIT, ExitReason.TIMEOUT], ids=["told by its job", "its job was ended"])
async def test_a_session_that_used_up_its_own_limit_and_left_nothing_stops_the_loop(
    home: Path, tree: UserTree, ends: ExitReason
) -> None:
    """Issue. Nothing is built after it."""
    agent = Agent(home, (0.7,), 30, limit="the time of 30 s was used up")
    agent.ends, agent.changes = ends, False
    view = await mended(home, tree, agent, timeout_s=30.0)
    verdict, told = build_report(view), story(view)

    assert fixes(view) == ["failed budget"]
    assert (view.build.reason, agent.builds) == ("budget", 1)
    said = "the time of 30 s was used up" if ends is ExitReason.EXIT else "stopped at its"
    assert said in verdict and said in told
    assert "stopped: the agent's budget is used up" in verdict


async def test_what_was_changed_when_the_money_ran_out_is_built_and_then_the_loop_stops(
    home: Path, tree: UserTree
) -> None:
    """Ours. The build is the judge also of what an agent left when it was cut short; a second session never begins."""
    agent = Agent(home, (0.7,), 5, limit="$0.7 were spent: $0.6 were allowed")
    view = await mended(home, tree, agent, budget={"cost_usd": 0.6})

    assert fixes(view) == ["success exit", "failed budget"]
    assert (view.build.reason, agent.builds, agent.sessions) == ("budget", 2, 1)
    assert view.stages[1].verdict and "$0.7 were spent" in view.stages[1].verdict.details["notes"][0]
    assert "is used up: $0.7 of $0.6" in build_report(view)


async def test_config_bounds_a_session_and_the_budget_what_is_left_of_it(home: Path, tree: UserTree) -> None:
    """Ours. As each session's job is told: the least of the agent's own limits and of what the build has left."""
    pytest.importorskip("acp", reason="needs the extra agents", exc_type=ImportError)
    slow = {"acp": [sys.executable], "timeout": "70s", "max_cost_usd": 0.5}
    (home / "config.yaml").write_text(json.dumps({"agents": {"slow": slow}}))
    told: list[tuple[float, float]] = []

    class Told(Agent):
        def __call__(self, host: str, name: str, attempt: int) -> Outcome:
            for task in (self.home / "worktrees/tasks").glob("*.json"):
                request = json.loads(task.read_bytes())["request"]
                told.append((request["timeout_s"], request["max_cost_usd"]))
            return super().__call__(host, name, attempt)

    await mended(home, tree, Told(home, (0.4, 0.4, 9), 60), name="slow", budget={"timeout_s": 100.0, "cost_usd": 0.6})

    assert told == [(70, 0.5), (40, 0.2)]
