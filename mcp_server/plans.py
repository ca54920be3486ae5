"""Plans in the words of a front: the stages of a build, and what of an earlier build's plan is still to be done."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from mcp_server.idf.installation import Installation
from mcp_server.model import Plan, Stage, StageSpec, StageStatus


def idf_build(
    project: Path,
    installation: Installation,
    *,
    target: str | None = None,
    clean: bool = False,
    host: str = "local",
    timeout_s: float,
) -> StageSpec:
    """The stage `build`: an ESP-IDF project in its `build/`. Without `target` the project keeps its own."""
    build_dir = project / "build"
    params = {
        "project": str(project),
        "build_dir": str(build_dir),
        "target": target,
        "clean": clean,
        "installation": installation.model_dump(mode="json"),
    }
    return StageSpec(
        name="build", kind="idf.build", params=params, host=host, directory=str(build_dir), timeout_s=timeout_s
    )


def idf_run(project: Path, *, expect: Sequence[str], fail_on: Sequence[str] = (), timeout_s: float) -> StageSpec:
    """The stage `run`, after `build`: firmware for the linux target as a process, until what it prints decides."""
    params = {
        "project": str(project),
        "build_dir": str(project / "build"),
        "expect": list(expect),
        "fail_on": list(fail_on),
    }
    return StageSpec(name="run", kind="idf.run", params=params, depends_on=("build",), timeout_s=timeout_s)


def patch(project: Path, diff: Path, *, timeout_s: float = 60) -> StageSpec:
    """The stage `fix`: a diff from a file, applied to the project."""
    params = {"patch": str(diff), "project": str(project)}
    return StageSpec(name="fix", kind="agent.patch", params=params, timeout_s=timeout_s)


def unfinished(plan: Plan, stages: Sequence[Stage], last_round: int) -> Plan:
    """The plan without the stages that passed in the last round; whole where all of them did."""
    passed = {stage.stage for stage in stages if stage.round == last_round and stage.status is StageStatus.SUCCESS}
    left = tuple(
        stage.model_copy(update={"depends_on": tuple(name for name in stage.depends_on if name not in passed)})
        for stage in plan.stages
        if stage.name not in passed
    )
    return plan.model_copy(update={"stages": left or plan.stages})


def args_key(name: str, plan: Plan) -> str:
    """The same for the same directory and arguments: such a build is joined while it is pending."""
    text = json.dumps([name, plan.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
