"""Plans in the words of a front: the stages of a build, and what of an earlier build's plan is still to be done."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcp_server.continued import begin_of
from mcp_server.errors import Conflict
from mcp_server.idf.installation import Installation
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageSpec, StageStatus, Sync
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.scopes import Scope

FLASH, PUSH = "idf.flash", "git.push"
OWN_BRANCH = "bo/build-N"  # N is the build's number


def idf_build(
    project: Path,
    installation: Installation,
    *,
    target: str | None = None,
    clean: bool = False,
    timeout_s: float,
    folder: str = "build",
) -> StageSpec:
    """The stage `build`: an ESP-IDF project in its folder `folder`. Without `target` the project keeps its own."""
    build_dir = project / folder
    params = {
        "project": str(project),
        "build_dir": str(build_dir),
        "target": target,
        "clean": clean,
        "installation": installation.model_dump(mode="json"),
    }
    return StageSpec(name="build", kind="idf.build", params=params, directory=str(build_dir), timeout_s=timeout_s)


def idf_remote(
    project: Path, host: str, idf_path: str | None, *, target: str | None, clean: bool, shown: str, timeout_s: float
) -> StageSpec:
    """The stage `build` on another host; what it builds comes back into `build/<shown>-<host>`."""
    build_dir = project / "build" / f"{shown}-{host}"
    given = {"idf_path": idf_path, "target": target, "clean": clean}
    return StageSpec(
        name="build",
        kind="idf.remote",
        params={"project": str(project), "build_dir": str(build_dir), **given},
        host=host,
        directory=str(build_dir),
        sync=Sync(path="."),
        timeout_s=timeout_s,
    )


def idf_run(
    project: Path,
    *,
    expect: Sequence[str],
    fail_on: Sequence[str] = (),
    timeout_s: float,
    build_dir: Path | None = None,
) -> StageSpec:
    """The stage `run`, after `build`: firmware for the linux target as a process, until what it prints decides."""
    params = {
        "project": str(project),
        "build_dir": str(build_dir or project / "build"),
        "expect": list(expect),
        "fail_on": list(fail_on),
    }
    return StageSpec(name="run", kind="idf.run", params=params, depends_on=("build",), timeout_s=timeout_s)


def command(
    host: str,
    project: Path,
    *,
    text: str | None = None,
    task: str | None = None,
    workdir: str | None = None,
    env: Mapping[str, str] | None = None,
    artifacts: Sequence[str] = (),
    synced: bool = False,
    timeout_s: float,
) -> StageSpec:
    """The stage `build`: a command, or the host's own for a task, on any host. `synced`: in a copy of the project."""
    given = {"command": text, "task": task, "workdir": workdir, "env": dict(env or {})}
    params = {"project": str(project), **{name: value for name, value in given.items() if value}}
    return StageSpec(
        name="build",
        kind="command",
        params=params,
        host=host,
        timeout_s=timeout_s,
        artifacts=tuple(artifacts),
        sync=Sync(path=".") if synced else None,
    )


MakeUses = Callable[[PipelineStage], StageSpec]
"""The stage that `uses` names."""


def of_pipeline(pipeline: Pipeline, folder: Path, uses: MakeUses) -> Plan:
    """What a pipeline runs; its relative paths start from `folder`."""
    return Plan(
        stages=tuple(_of_pipeline_stage(stage, folder, uses) for stage in pipeline.stages),
        parallel_limit=pipeline.parallel_limit,
        on_failure=pipeline.on_failure,
        on_success=pipeline.on_success,
    )


def _of_pipeline_stage(stage: PipelineStage, folder: Path, uses: MakeUses) -> StageSpec:
    if stage.uses is None:
        given = {"command": stage.command, "workdir": stage.workdir, "env": dict(stage.env)}
        given |= {"secrets": list(stage.secrets)}
        params = {"project": str(folder), **{name: value for name, value in given.items() if value}}
        made = StageSpec(name=stage.name, kind="command", params=params)
    elif stage.skip:
        made = StageSpec(name=stage.name, kind=stage.uses, params={"project": str(folder)})
    else:
        made = uses(stage)
    first, *others = stage.servers
    if made.kind != "command":  # its directory is on the one host that it was made for
        first, others = made.host, []
    return made.model_copy(
        update={
            "name": stage.name,
            "depends_on": stage.depends_on,
            "host": first,
            "hosts": tuple(others),
            "timeout_s": stage.timeout_s,
            "retry": stage.retry,
            "skip": stage.skip,
            "allow_failure": stage.allow_failure,
            "artifacts": stage.artifacts,
            "needs_artifacts": stage.needs_artifacts,
            "sync": stage.sync or made.sync,
            "group": stage.group,
        }
    )


def again(build: Build, stages: Sequence[Stage], *, failed_only: bool) -> Plan:
    """What a retry of a build runs. Conflict: it is not over, or it passed."""
    if build.status not in (BuildStatus.FAILED, BuildStatus.CANCELLED):
        raise Conflict(f"build {build.id} is {build.status}: only a failed or cancelled build can be retried")
    plan = unfinished(build.plan, stages, build.round) if failed_only else build.plan
    begin = begin_of(build, stages) if build.plan.expand is None else None
    plan = begin.put_in(plan) if begin else plan
    return plan.model_copy(update={"order": None, "branches": ()})  # a person orders it


def unfinished(plan: Plan, stages: Sequence[Stage], last_round: int) -> Plan:
    """The plan without the stages that passed in the last round; whole where all of them did."""
    passed = {stage.stage for stage in stages if stage.round == last_round and stage.status is StageStatus.SUCCESS}
    passed -= {stage.name for stage in plan.stages if "checkout" in stage.params}  # it may be at another commit by now
    left = tuple(
        stage.model_copy(update={"depends_on": tuple(name for name in stage.depends_on if name not in passed)})
        for stage in plan.stages
        if stage.name not in passed
    )
    return plan.model_copy(update={"stages": left or plan.stages})


def flashes(plan: Plan) -> list[str]:
    """Each board that this plan overwrites, in words."""
    return [_flash_words(stage) for stage in plan.stages if stage.kind == FLASH and not stage.skip]


def needs(plan: Plan) -> Scope:
    """What whoever starts this plan, or starts it again, has to be allowed."""
    if pushes(plan):
        return "admin"
    return "flash" if flashes(plan) else "build"


def pushes(plan: Plan) -> list[str]:
    """Each branch that this plan pushes, in words; also one that it pushes only once it knows how to build."""
    made = [stage for stage in plan.stages if stage.kind == PUSH and not stage.params.get("only_look")]
    found = [
        (stage.params.get("branch"), plan.workspace or str(stage.params.get("project")), stage.params.get("remote"))
        for stage in made
        if not stage.skip
    ]
    if plan.expand is not None and plan.expand.push:
        first = next((str(stage.params.get("project")) for stage in plan.stages), "")
        found.append((plan.expand.branch, plan.workspace or first, plan.expand.remote))
    return [
        f"Push branch {branch or OWN_BRANCH} of {Path(project).name} to {remote or 'origin'}"
        for branch, project, remote in found
    ]


def _flash_words(stage: StageSpec) -> str:
    params = stage.params
    build, port = params.get("build"), params.get("port")
    what = f"{f'build {build} of ' if build else ''}{Path(str(params.get('project'))).name}"
    if changed := params.get("changed"):
        what += f" (made before {changed} was changed)"
    where = f"{port or 'the connected board'}{'' if stage.host == 'local' else f' on {stage.host}'}"
    return f"Erase all of {where} and write {what} to it" if params.get("erase") else f"Write {what} to {where}"


def args_key(name: str, plan: Plan) -> str:
    """The same for the same directory and arguments: such a build is joined while it is pending."""
    text = json.dumps(
        [name, plan.order or plan.model_dump(mode="json", exclude={"order", "pushed", "branches"})], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()
