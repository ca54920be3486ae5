"""`.build-orchestrator.yaml`: the pipeline by which a project that is no ESP-IDF project is built.

It is a pipeline file like any other; its stages run in the project's folder.

May import: config, errors, pipelines.
"""

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mcp_server.config import Defaults
from mcp_server.errors import BadInput
from mcp_server.pipelines.pipeline import Pipeline
from mcp_server.pipelines.spec import load
from mcp_server.pipelines.stage import RUNNABLE

NAMES = (".build-orchestrator.yaml", ".build-orchestrator.yml")
MAX_BYTES = 1024 * 1024


def find_project_file(folder: Path) -> Path | None:
    """The project file at the top of `folder`, None without one. BadInput: two, or it leads elsewhere. Reads."""
    found = [folder / name for name in NAMES if os.path.lexists(folder / name)]
    if len(found) > 1:
        raise BadInput("project", f"{folder} has both {' and '.join(NAMES)}: keep one")
    if not found:
        return None
    [file] = found
    # A project may come from anywhere: its file must not have us read, and quote, another one of this user's.
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
        raise BadInput("project", f"{file} is a link that leads out of the project")
    try:
        regular = stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        raise BadInput("project", f"{file}: {error.strerror}") from None
    if not regular:
        raise BadInput("project", f"{file} should be a file")
    return file


def load_project_file(
    folder: Path,
    *,
    defaults: Defaults,
    params: Mapping[str, Any] | None = None,
    uses: Collection[str] = RUNNABLE,
) -> Pipeline | None:
    """The pipeline of `folder`'s project file, None where there is none. PipelineError has all its mistakes. Reads."""
    file = find_project_file(folder)
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput("project", f"{file}: {error.strerror}") from None
    if len(text) > MAX_BYTES:
        raise BadInput("project", f"{file} is larger than 1 MB")
    return load(text, name=str(file), params=params, defaults=defaults, uses=uses)
