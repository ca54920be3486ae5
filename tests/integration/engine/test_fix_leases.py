"""What a build has for itself while an agent mends it, on a simulated host and in a real repository."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.store import leases
from mcp_server.store.tables import EVENTS
from mcp_server.workflow_plans import Developer, mended
from tests.integration.engine.test_fix_budgets import Agent
from tests.support.git_tree import begun
from tests.support.simulation import Outcome, simulation
from tests.unit.engine.test_walk import LOCAL, plan, stage

pytestmark = pytest.mark.timeout(60)


async def test_the_project_may_be_built_while_an_agent_mends_its_copy(home: Path, tmp_path: Path) -> None:
    """Ours. Its build directory is the build's until the first fix begins, and never that of `fix BUILD`."""
    tree = begun(tmp_path / "project", tmp_path / "user")
    (tmp_path / "any.diff").write_text("never read: the job is simulated\n")
    top, agent, held = str(tree.top), Agent(home, (0.1,) * 4, 60), list[tuple[str, list[str]]]()
    developer = Developer(agent=f"patch:{tmp_path / 'any.diff'}")
    params = {"command": "x", "project": top, "workdir": top}
    built = stage("build", params=params, directory=f"{top}/build")

    def outcome(host: str, name: str, attempt: int) -> Outcome:
        rows = world.services.store.look(leases.holders)
        held.append((name, [lease.resource for lease in rows if lease.resource.startswith("dir:")]))
        return agent(host, name, attempt)

    async with simulation(home, LOCAL, outcome) as world:
        loop = plan(built, fix=developer.stage(top), max_rounds=2, workspace=top)
        await world.run(loop)
        fixed, _ = await world.run(mended(plan(built), top, developer, 1))
        taken = sa.select(EVENTS.c.data).where(EVENTS.c.type == "lease.taken", EVENTS.c.build == fixed.id)
        resources = [str(row) for row in (await world.services.store.read(lambda c: c.execute(taken).all()))]

    assert held == [("build", [f"dir:local:{top}/build"]), ("fix", []), ("build", [])]
    assert resources and not [one for one in resources if "dir:" in one]
