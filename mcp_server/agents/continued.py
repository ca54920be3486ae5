"""Brings what was accepted in another build's workspace into a fresh one, as the commit that it goes on from."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from mcp_server.agents.apply_to import apply_to
from mcp_server.agents.commit import commit
from mcp_server.agents.restore import restore
from mcp_server.agents.workspace import Workspace, open_
from mcp_server.errors import Conflict


async def continue_from(
    space: Workspace, place: Path, sha: str, message: str, environment: Mapping[str, str] | None = None
) -> str:
    """The commit in `space` that has all of commit `sha` in the workspace at `place`; made once, nothing else is there.

    Conflict: that workspace is gone, or the project has changed since so that its work does not fit any more.
    """
    note = space.state / "begun"
    if made := await asyncio.to_thread(_read, note):
        return made
    other = await open_(place)
    if other is None:
        raise Conflict(f"{place} is gone, and with it what was to be mended: order that build again")
    await restore(space, space.base, environment)
    await apply_to(other, space.folder, environment, commit=sha)
    made = await commit(space, message, environment=environment) or space.base
    await asyncio.to_thread(note.write_text, made)
    return made


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
