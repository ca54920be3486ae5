"""Stages that run in another copy of the project than the one that they were made for.

May import: model. Never: anything else of ours.
"""

import re
from typing import Any, cast

from mcp_server.model import Plan, StageSpec, Sync

_BEFORE, _BEHIND = r"(?<![^\s\"'=:;,(])", r"(?=$|[/\s\"':;,)])"  # what a path in a command stands between


def moved(spec: StageSpec, project: str, folder: str) -> StageSpec:
    """The stage with every path at or below `project` in `folder` instead, also where a command names one."""
    if project == folder:
        return spec
    path = re.compile(_BEFORE + re.escape(project) + _BEHIND)

    def put(value: Any) -> Any:
        if isinstance(value, str):
            return path.sub(lambda _: folder, value)
        if isinstance(value, dict):
            return {name: put(one) for name, one in cast("dict[str, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [put(one) for one in cast("list[Any]", value)]
        return value

    sync = spec.sync and Sync(source=spec.sync.source, path=put(spec.sync.path))
    return spec.model_copy(update={"params": put(dict(spec.params)), "directory": put(spec.directory), "sync": sync})


def left_for_copy(plan: Plan) -> set[tuple[str, str]]:
    """Host and directory of the project's own build directories: from the first fix on, all is built in a copy."""
    top = plan.workspace
    stages = [stage for stage in plan.stages if stage.directory and not stage.once]
    gone = [stage for stage in stages if top and moved(stage, top, "").directory != stage.directory]
    return {(stage.host, str(stage.directory)) for stage in gone}
