"""What a pipeline `uses` that is of no tool: doctor, qa, git.commit, git.push, and between two rounds agent.fix.

May import: model, config, errors, references, workflow_plans, pipelines. Never: orders, store, engine, hosts, a front.
"""

import os
from pathlib import Path
from typing import Any

from mcp_server import references
from mcp_server.config import Agents, Config
from mcp_server.config_agents import BUILT_IN
from mcp_server.config_rules import LOCAL
from mcp_server.errors import BadInput, PipelineError
from mcp_server.model import Plan, StageSpec
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.pipelines.stage import FIX_S, HERE_ONLY, ROUNDS
from mcp_server.workflow_plans import Developer
from mcp_server.yaml_model import nearest

DEFAULT = "default"
PATCH = "patch:"  # begins the name of an agent that applies diffs


def here(stage: PipelineStage, folder: Path, config: Config) -> StageSpec | None:
    """The stage that one of them stands for; None: `stage` uses another one."""
    uses, with_ = stage.uses, stage.with_
    if uses not in HERE_ONLY:
        return None
    params: dict[str, Any] = {**with_, "project": str(_project(stage, folder))}
    if uses.startswith("git."):
        params["allow_default"] = config.security.push_to_default
    params.pop("agent", None)  # a stage of its own: `with_remarks`
    if uses == "git.commit":
        params["whole"] = True  # what an agent did step by step is one commit to others
    # They judge also, and just then, what came to nothing.
    return StageSpec(name=stage.name, kind=uses, params=params, always=uses in ("doctor", "qa"))


def _project(stage: PipelineStage, folder: Path) -> Path:
    return Path(references.real_path(str(folder / Path(str(stage.with_.get("project") or ".")).expanduser())))


def with_remarks(plan: Plan, pipeline: Pipeline, folder: Path) -> Plan:
    """The plan with a stage behind each `qa` that names an agent: it runs where that passes, and decides nothing."""
    stages, taken = [*plan.stages], {stage.name for stage in (*pipeline.stages, *_fix_of(pipeline))}
    for stage in pipeline.stages:
        if stage.uses != "qa" or stage.skip or stage.with_.get("agent") is None:
            continue
        name = f"{stage.name}.remarks"
        while name in taken:
            name += "-"
        taken.add(name)
        params = {"project": str(folder), "of": stage.name, "agent": agent_name(stage.with_["agent"], folder)}
        stages.append(
            StageSpec(
                name=name,
                kind="qa.remarks",
                params=params,
                depends_on=(stage.name,),
                timeout_s=min(stage.timeout_s or FIX_S, FIX_S),
                allow_failure=True,
            )
        )
    return plan.model_copy(update={"stages": tuple(stages)})


def with_installation(plan: Plan) -> Plan:
    """The plan whose doctors look at the ESP-IDF that its stages build with, whatever the worker's environment has."""
    built = [stage.params for stage in plan.stages if stage.params.get("installation")]

    def told(stage: StageSpec) -> StageSpec:
        if stage.kind != "doctor" or not built:
            return stage
        own = [params for params in built if params.get("project") == stage.params["project"]]
        params = {**stage.params, "installation": (own or built)[0]["installation"]}
        return stage.model_copy(update={"params": params})

    return plan.model_copy(update={"stages": tuple(told(stage) for stage in plan.stages)})


def _fix_of(pipeline: Pipeline) -> tuple[PipelineStage, ...]:
    return (pipeline.fix,) if pipeline.fix is not None else ()


def with_fix(plan: Plan, pipeline: Pipeline, folder: Path) -> Plan:
    """The plan with its developer, where the pipeline has one. PipelineError: nothing that he changes is built."""
    fix = pipeline.fix
    if fix is None or fix.skip:
        return plan
    project = _project(fix, folder)
    if wrong := [*_misplaced(fix, project, folder), *_unreached(pipeline, fix, project, folder)]:
        raise PipelineError(pipeline.source, [f"{pipeline.source}: {sentence}" for sentence in wrong])
    made = _developer(fix, folder).stage(str(project)).model_copy(update={"name": fix.name})
    rounds = int(fix.with_.get("max_rounds", ROUNDS))
    return plan.model_copy(update={"fix": made, "max_rounds": rounds, "workspace": str(project)})


def _developer(fix: PipelineStage, folder: Path) -> Developer:
    given = fix.with_
    budget = dict(given.get("budget") or {})
    if (seconds := budget.pop("time", None)) is not None:
        budget["timeout_s"] = seconds
    return Developer(
        agent=agent_name(given.get("agent"), folder),
        allowed=tuple(given.get("allow", ())),
        commands=tuple(given.get("commands", ())),
        budget=budget,
        timeout_s=fix.timeout_s,
        prompt=str(given.get("prompt") or ""),
    )


def known_agent(agents: Agents, name: str) -> None:
    """BadInput: no agent has this name."""
    known = [*dict.fromkeys((*BUILT_IN, *agents.named))]
    if name != DEFAULT and not name.startswith(PATCH) and name not in known:
        raise BadInput("agent", f"no agent '{name[:60]}'{nearest(name, known)}")


def agent_name(name: str | None, folder: Path) -> str | None:
    """As stages take it; None is the default one. The diffs of `patch:` are found from the pipeline's folder."""
    if name is None or name == DEFAULT:
        return None
    if name.startswith(PATCH):
        return PATCH + os.path.normpath(folder / Path(name.removeprefix(PATCH)).expanduser())
    return name


def _misplaced(fix: PipelineStage, project: Path, folder: Path) -> list[str]:
    if folder.is_relative_to(project):
        return []
    mend = "name a folder that holds the pipeline's own, which all stages begin in"
    return [f"stage '{fix.name}' mends a copy of {project}, and {folder} is not in it: {mend}"]


def _unreached(pipeline: Pipeline, fix: PipelineStage, project: Path, folder: Path) -> list[str]:
    """A sentence for each command that would run where nothing of what an agent changes ever is."""
    found: list[str] = []
    for stage in pipeline.stages:
        if stage.uses is not None or stage.skip or stage.sync is not None:
            continue
        far = [server for server in stage.servers if server != LOCAL]
        if far:
            where = f"stage '{stage.name}' runs on {far[0]} in a folder that is not synced from here"
            found.append(f"{where}: what '{fix.name}' changes would never reach it; give it sync")
        # As it is written: a folder that leads there by a link would not be found in the copy.
        elif not Path(os.path.normpath(folder / (stage.workdir or "."))).is_relative_to(project):
            where = f"stage '{stage.name}' runs in {stage.workdir}, outside {project}"
            found.append(f"{where}: what '{fix.name}' changes would never reach it")
    return found
