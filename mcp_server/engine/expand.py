"""What builds a project that a build itself has made or changed: decided by what lies there then."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mcp_server import workflow_plans
from mcp_server.device_plans import Firmware, Watching
from mcp_server.engine.rounds import AGENTS
from mcp_server.engine.services import Services
from mcp_server.errors import BadInput, Conflict
from mcp_server.idf.installation import Installation
from mcp_server.idf.project import DEFAULT_TARGET, is_project
from mcp_server.idf.qemu import why_not
from mcp_server.model import Build, Expansion, Plan, Stage, StageSpec, StageStatus
from mcp_server.orders import Orders
from mcp_server.project_file import find_project_file

EMULATED_S, QUIET_S = 30.0, 10.0  # until what is expected comes, and for what nobody expects anything of
NOTHING = "nothing was built: the folder is no ESP-IDF project and has no .build-orchestrator.yaml"


async def expanded(services: Services, build: Build, rows: Sequence[Stage]) -> Plan:
    """The build's plan with the stages that build, run, judge and deliver what its first ones left.

    OrchestratorError: what lies there cannot be built as it is.
    """
    plan = build.plan
    assert plan.expand is not None
    if (own := next((str(one.params["builds"]) for one in plan.stages if "builds" in one.params), None)) is not None:
        return await asyncio.to_thread(_as_it_lies_there, services, plan, plan.expand, Path(own))
    return await asyncio.to_thread(_expanded, services, plan, plan.expand, _folder(rows))


def _as_it_lies_there(services: Services, plan: Plan, wish: Expansion, folder: Path) -> Plan:
    """The plan of a project that was checked out or synced first: whatever its own pipeline says, agents and all."""
    orders = Orders(services.config, services.hosts, services.environment)
    more = _more(orders, services, wish, folder)
    if any(stage.skip == NOTHING for stage in more.stages):
        raise Conflict(NOTHING)
    if (asked := orders.question(more)) is not None:
        raise Conflict(f"the project's own pipeline would do what nobody was asked for: {asked.removesuffix('?')}")
    first = plan.stages
    if twice := {stage.name for stage in first} & {stage.name for stage in more.stages}:
        raise BadInput("stage", f"the project's own pipeline names a stage {min(twice)}, which is taken here")
    names = tuple(stage.name for stage in first)
    # Each of them: a retry leaves out what passed, and those that come after that.
    stages = [stage.model_copy(update={"depends_on": (*names, *stage.depends_on)}) for stage in more.stages]
    own = {"stages": (*first, *stages), "expand": None, "order": plan.order, "pushed": plan.pushed}
    return more.model_copy(update=own)


def _folder(rows: Sequence[Stage]) -> Path:
    worked = [row for row in rows if row.kind in AGENTS and row.status is StageStatus.SUCCESS and row.resolved]
    if not worked or not worked[-1].resolved:
        raise Conflict("no agent has worked on the project")
    return Path(str(worked[-1].resolved["folder"]))


def _expanded(services: Services, plan: Plan, wish: Expansion, folder: Path) -> Plan:
    orders = Orders(services.config, services.hosts, services.environment)
    more = _more(orders, services, wish, folder)
    if (asked := orders.question(more)) is not None:
        raise Conflict(f"the project's own pipeline would do what nobody was asked for: {asked.removesuffix('?')}")
    taken = {stage.name for stage in (*plan.stages, *([plan.fix] if plan.fix else []))}
    if twice := taken & {stage.name for stage in more.stages}:
        names = ", ".join(sorted(taken))
        raise BadInput("stage", f"the project's own pipeline names a stage {min(twice)}: {names} are taken here")
    first = tuple(stage.name for stage in plan.stages)
    # Agents of its own are left out: whoever ordered this has named the one that works, and what it may cost.
    stages = [*plan.stages, *(_after(stage, first) for stage in more.stages if stage.kind != "qa.remarks")]
    stages += workflow_plans.delivered(str(folder), wish, [stage.name for stage in stages])
    kept = {name: getattr(more, name) for name in ("parallel_limit", "on_failure", "on_success")}
    return plan.model_copy(update={"stages": tuple(stages), "expand": None, **kept})


def _more(orders: Orders, services: Services, wish: Expansion, folder: Path) -> Plan:
    """What builds and tests what lies there; where that is nothing, a stage that says so."""
    if is_project(folder):
        return Plan(stages=tuple(_firmware(orders, services, wish, folder)))
    if (file := find_project_file(folder)) is not None:
        return orders.pipeline(orders.read_pipeline(str(file), None, {}), folder).plan
    params = {"project": str(folder)}
    nothing = StageSpec(name="build", kind="command", params=params, skip=NOTHING, role=workflow_plans.BUILDER)
    return Plan(stages=(nothing,))


def _after(stage: StageSpec, first: Sequence[str]) -> StageSpec:
    return stage if stage.depends_on else stage.model_copy(update={"depends_on": tuple(first)})


def _firmware(orders: Orders, services: Services, wish: Expansion, folder: Path) -> Sequence[StageSpec]:
    order = orders.idf_build(folder, target=wish.target, clean=False, host="local")
    made, target = order.plan.stages[0], order.target or DEFAULT_TARGET
    installation = Installation.model_validate(made.params["installation"])
    firmware = Firmware(str(folder), made.params["build_dir"], target, installation=made.params["installation"])
    emulator = why_not(installation, target, services.environment.get("PATH", "")) if wish.qemu else None
    watching = Watching(wish.expect, seconds=EMULATED_S if wish.expect else QUIET_S)
    tests = workflow_plans.Tests(emulator=emulator, watching=watching)
    return workflow_plans.workflow(made, firmware, tests, developer=None, rounds=1).stages
