"""What agents' tasks leave in HOME/worktrees: the copies that they worked in, and what they were told."""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from mcp_server.agents import workspace
from mcp_server.engine.services import Services
from mcp_server.engine.stages.agent import TASKS, task_name
from mcp_server.errors import OrchestratorError
from mcp_server.model import Build
from mcp_server.store import builds, leases

log = logging.getLogger(__name__)

TEMPORARY_S = 3600.0  # no git command of ours takes that long
_TEMPORARY = re.compile(r"bo-(index|objects|patch|push)-\w{8}")


async def forget_tasks(services: Services, build: int) -> None:
    """Remove what agents were told in a build that is over: a prompt may hold anything."""
    store, folder = await services.store.uuid(), services.config.worktrees_dir / TASKS
    await asyncio.to_thread(_unlink, folder, task_name(store, build))


def _unlink(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink(missing_ok=True)


async def clear(services: Services) -> int:
    """Remove copies of builds that ended longer ago than artifacts are kept; how many. Branches and commits stay.

    None that an open build works in, or could yet: its own, that of the one it is a retry of, or where it builds.
    """
    store, now = await services.store.uuid(), services.clock.now()
    await _clear_tasks(services, store)
    await asyncio.to_thread(_clear_temporary)
    found = await asyncio.to_thread(_copies, services.config.worktrees_dir, store)
    before = now - timedelta(seconds=services.config.artifacts.keep)
    removed = 0
    for number, place in found:
        old = await services.store.read(lambda c, n=number: builds.find_build(c, n))
        if old is None or old.completed_at is None or old.completed_at > before:
            continue
        # Asked anew for each: removing one may take long.
        used, places = await services.store.read(in_use)
        if number in used or any(Path(one).is_relative_to(place) for one in places):
            continue
        removed += await _removed(services, old, place)
    return removed


def _clear_temporary() -> None:
    """Folders of git's that a sudden end left: they hold indexes, objects, or the login of a push."""
    before = time.time() - TEMPORARY_S
    for place in Path(tempfile.gettempdir()).glob("bo-*"):
        with contextlib.suppress(OSError):
            status = place.lstat()
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if ours and _TEMPORARY.fullmatch(place.name) and status.st_mtime < before:
                shutil.rmtree(place)


async def _clear_tasks(services: Services, store: str) -> None:
    """Those that a sudden end left. The worker whose file it was may still begin its job while the build is open."""
    folder = services.config.worktrees_dir / TASKS
    name = re.compile(re.escape(store) + r"-(\d+)-.*\.json")
    names = await asyncio.to_thread(lambda: [path.name for path in folder.glob("*.json")])
    numbers = {int(match[1]) for one in names if (match := name.fullmatch(one))}
    opened = {row.id for row in await services.store.read(builds.open_builds)}
    for number in numbers - opened:
        await forget_tasks(services, number)


def _copies(folder: Path, store: str) -> Sequence[tuple[int, Path]]:
    """(build, place) of every copy, also of one whose own folder is gone and whose state is left."""
    name = re.compile(re.escape(store) + r"-(\d+)(?:\.state)?")
    matches = [name.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    numbers = {int(match[1]) for match in matches if match}
    return [(number, folder.resolve() / f"{store}-{number}") for number in sorted(numbers)]


def in_use(c: sa.Connection) -> tuple[Collection[int], Sequence[str]]:
    """Builds that are open or retried by an open one, and the folders that open ones have or are about to take."""
    opened = [builds.get_build(c, row.id) for row in builds.open_builds(c)]
    places = [builds.get_project(c, build.project_id).path for build in opened]
    places += [stage.directory for build in opened for stage in build.plan.stages if stage.directory]
    places += [lease.resource.split(":", 2)[2] for lease in leases.holders(c) if lease.resource.startswith("dir:")]
    return builds.needed_by_open(c), places


async def _removed(services: Services, build: Build, place: Path) -> bool:
    try:
        await workspace.discard(place, environment=services.environment)
    except (OrchestratorError, OSError) as error:
        log.warning("clean-up: the copy of build %d: %s", build.id, error)
        return False
    return True
