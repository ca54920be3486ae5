"""A process of ours that is killed while a tree travels."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mcp_server.hosts.base import Host
from tests.integration.hosts.conftest import Gone
from tests.integration.hosts.test_transfer_faults import FAR_IN

_HELD = """
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path
from mcp_server.hosts import sync
from mcp_server.hosts.local import LocalHost
from tests.integration.hosts.test_transfer_faults import Tapped

jobs, source, target, what, way, size = sys.argv[1:]
host = LocalHost(Path(jobs))
real = host.channel
passed = asked = 0

async def see(op, where, data):
    global passed, asked
    asked = asked or where == "write" and data.startswith(b"'rsync'")
    if op == what and asked and where == way:
        passed += len(data)
        if passed > int(size) if size != "all" else not data:
            print("held", flush=True)
            await asyncio.Event().wait()

@asynccontextmanager
async def channel(script, op, *args):
    async with real(script, op, *args) as bare:
        yield Tapped(bare, op, see)

host.channel = channel
call = sync.push_tree(host, Path(source), target) if what == "push" else sync.pull_tree(host, source, Path(target))
asyncio.run(call)
"""


def working_in(folders: list[Path]) -> set[int]:
    """Processes whose current folder is one of these."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if path.readlink() in folders:
                found.add(int(path.parent.name))
    return found


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed")
@pytest.mark.parametrize("make", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("what", "way", "size"),
    [("push", "write", 0), ("push", "write", FAR_IN), ("push", "read", 0), ("push", "read", "all"),
     ("pull", "write", 0), ("pull", "read", FAR_IN), ("pull", "read", "all")],
)  # fmt: skip
async def test_no_rsync_outlives_a_killed_caller(
    host: Host, jobs_dir: Path, source: Path, tmp_path: Path, gone: Gone, what: str, way: str, size: int | str
) -> None:
    """Ours: neither the one here nor the one there, wherever in their work they were; `size` is what has passed."""
    target = tmp_path / "target"
    argv = [str(jobs_dir), str(source), str(target), what, way, str(size)]
    root = Path(__file__).parents[3]
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HELD, *argv, cwd=root, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(20):
            assert caller.stdout
            assert await caller.stdout.readline() == b"held\n"
            helpers = working_in([source, target])
            assert len(helpers) >= 3 or size == "all"
            caller.kill()
            await caller.wait()
            assert [pid for pid in helpers if not await gone(pid)] == []
    finally:
        if caller.returncode is None:
            caller.kill()
        for pid in working_in([source, target]):
            os.kill(pid, signal.SIGKILL)
        await caller.communicate()
