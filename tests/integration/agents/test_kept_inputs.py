"""What builds read and make although Git ignores it, over a task that should not touch it."""

import os
from pathlib import Path

from mcp_server.agents import workspace
from mcp_server.agents.restore import KeptInputs
from tests.support.git_tree import UserTree


async def test_build_that_was_changed_is_removed_however_it_was_hidden(tree: UserTree, place: Path) -> None:
    """Ours. The same size and times are not the same file; one that was left alone stays."""
    space = await workspace.make(tree.top, place, "bo/fix-1", environment=tree.environment)
    kept = KeptInputs(space, "fix-1", built=("build", "out"))
    program = space.folder / "build/app.elf"
    program.parent.mkdir()
    program.write_text("bad!")
    await kept.keep(tree.environment)
    assert await kept.cleared() == []

    before = program.stat()
    program.write_text("good")
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    (space.folder / "out").mkdir()
    (space.folder / "out/new").touch()
    await kept.keep(tree.environment)  # as an attempt that was lost begins again

    assert not program.parent.exists() and not (space.folder / "out").exists()
    assert await kept.put_back() == ([], [])
