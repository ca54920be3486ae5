"""How long the files of a stage took that ran ninja, wherever it did."""

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from mcp_server.engine.stages.base import StageContext
from mcp_server.engine.transfer import STAGING
from mcp_server.errors import OrchestratorError
from mcp_server.hosts import files
from mcp_server.hosts.base import Exit
from mcp_server.idf.ninja_log import LOG, MAX_LOG_BYTES, SUB_BUILDS, CompileTimes, compile_times, of_build

log = logging.getLogger(__name__)

NAMES: Final = (LOG, *(f"{folder}/{LOG}" for folder in SUB_BUILDS))
"""Logs of ninja below a build directory of ESP-IDF."""

PLACES: Final = (LOG, f"*/{LOG}", f"*/*/{LOG}")
"""Where a command's working folder may have one: `build/.ninja_log`, `out/Release/.ninja_log`."""

MOST_LOGS = 8
LISTED_S = 2  # a listing has whole seconds; which lines are of this run is told by their own times


async def in_directory(build_dir: Path, end: Exit) -> Mapping[str, Any]:
    """`{"compile": …}` of a job that ran in a build directory of this machine; {} where it compiled nothing."""
    if end.started_at is None:
        return {}
    return _told(await asyncio.to_thread(of_build, build_dir, end.started_at))


async def below(context: StageContext, folder: str, end: Exit) -> Mapping[str, Any]:
    """The same, of a job that ran in `folder` of its host. What cannot be read costs these times and nothing else."""
    since = end.started_at
    if since is None:
        return {}
    try:
        found = await files.list_files(context.host, folder, PLACES)
        ours = [one for one in found if one.mtime > since - LISTED_S and one.size <= MAX_LOG_BYTES][:MOST_LOGS]
        if not ours:
            return {}
        staged = Path(await asyncio.to_thread(mkdtemp, prefix=f"{STAGING}ninja-", dir=context.config.artifacts_dir))
        try:
            await files.fetch(context.host, folder, ours, staged)
            return _told(await asyncio.to_thread(_read, staged, [one.path for one in ours], since))
        finally:
            await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)
    except (OrchestratorError, OSError) as error:
        log.warning("build %d stage %s, times of ninja: %s", context.build.id, context.spec.name, error)
        return {}


def _read(staged: Path, paths: list[str], since: float) -> CompileTimes | None:
    """Of one log without its folder's name, as nobody needs it there; of several with it."""
    folders = [path.removesuffix(LOG).rstrip("/") for path in paths]
    texts = [(staged / path).read_bytes() for path in paths]
    return compile_times({"": texts[0]} if len(texts) == 1 else dict(zip(folders, texts, strict=True)), since)


def _told(times: CompileTimes | None) -> Mapping[str, Any]:
    return {} if times is None else {"compile": times.model_dump(mode="json")}
