"""Stages that run in another copy of the project than the one that they were made for.

May import: model. Never: anything else of ours.
"""

import re
from typing import Any, cast

from mcp_server.model import StageSpec, Sync

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
