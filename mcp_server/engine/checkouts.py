"""What pushes and builds of commits leave: a checkout of each project in HOME/worktrees, deliveries in the store."""

import asyncio
import logging
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from mcp_server.engine.services import Services
from mcp_server.engine.worktrees import in_use
from mcp_server.store import projects

log = logging.getLogger(__name__)

REPEATED_S = 7 * 86_400.0  # so long a delivery that comes again is known, however short artifacts are kept
_CHECKOUT = re.compile(r"project-[0-9a-f]{8}")
_GONE = re.compile(r"\.gone\.project-[0-9a-f]{8}")


async def clear(services: Services) -> int:
    """Remove checkouts that nothing was checked out in for as long as artifacts are kept; how many.

    None that an open build works in. The next build of a commit makes it anew.
    """
    folder = services.config.worktrees_dir.resolve()
    before = services.clock.now().timestamp() - services.config.artifacts.keep
    removed = 0
    for place in await asyncio.to_thread(_older, folder, before):
        _, places = await services.store.read(in_use)  # asked anew for each: removing one may take long
        if not any(Path(one).is_relative_to(place) for one in places):
            await asyncio.to_thread(_remove, place)
            removed += 1
    await asyncio.to_thread(_finish, folder)
    return removed


async def forget_deliveries(services: Services) -> int:
    """Drop what is known of old deliveries; how many there were."""
    before = services.clock.now() - timedelta(seconds=max(services.config.artifacts.keep, REPEATED_S))
    return await services.store.write(lambda c: projects.forget_deliveries(c, before))


def _older(folder: Path, before: float) -> Sequence[Path]:
    names = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path for path in names if _CHECKOUT.fullmatch(path.name) and path.is_dir() and not path.is_symlink())
    return [path for path in found if _used(path) < before]


def _used(checkout: Path) -> float:
    """When something was last checked out: Git writes these two each time."""
    times = [checkout.lstat().st_mtime]
    for name in ("FETCH_HEAD", "HEAD"):
        with suppress(OSError):
            times.append((checkout / ".git" / name).lstat().st_mtime)
    return max(times)


def _remove(place: Path) -> None:
    """Gone under its name at once."""
    gone = place.with_name(f".gone.{place.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        place.rename(gone)
    except OSError as error:
        log.warning("clean-up: the checkout %s: %s", place, error)
    shutil.rmtree(gone, ignore_errors=True)


def _finish(folder: Path) -> None:
    """What a clean-up that was ended in the middle has left."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _GONE.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
