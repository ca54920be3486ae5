"""What tests ran, from the reports of coverage among what a stage left."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_server.coverage import read_reports
from mcp_server.model import Artifact


async def coverage_of(kept: Path, left: Sequence[Artifact], folder: str) -> tuple[Mapping[str, Any], Sequence[str]]:
    """`{"coverage": …}` of the reports among these files below `kept`, and a note on those that cannot be used.

    Both are empty where a stage left no report. `folder` is where it worked, on its host. Raises nothing.
    """
    if not left:
        return {}, []
    found, note = await asyncio.to_thread(read_reports, kept, [artifact.path for artifact in left], folder)
    details = {} if found is None else {"coverage": found.model_dump(mode="json", exclude_none=True)}
    return details, [f"coverage: {note}"] if note else []
