"""One worker a home: who is refused, who leaves for whom, and who starts one; jobs notice nothing of it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcp_server.config import load_config
from mcp_server.engine import signals
from mcp_server.engine.worker import take_lock
from mcp_server.errors import StoreError
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.integration.engine.test_worker import WAIT_S, shell
from tests.support.faults import processes_with, worker_pid
from tests.support.workers import end_worker, something_open


async def begun(orchestrator: Orchestrator, folder: Path, ready: anyio.Path) -> tuple[int, int]:
    """A build whose job waits for a line in `gate`, and the process that is its worker."""
    os.mkfifo(folder / "gate")
    plan = shell(folder, "echo x >>count; echo >ready; read x <gate")
    build = (await orchestrator.start_plan(folder, plan, name="x")).build.id
    await ready.read_bytes()
    worker = worker_pid(orchestrator.config.home)
    assert worker is not None
    return build, worker


async def test_a_worker_leaves_when_a_newer_version_asks_and_its_jobs_run_on(
    orchestrator: Orchestrator, folder: Path, ready: anyio.Path, home: Path
) -> None:
    """Design: version hand-over."""
    build, old = await begun(orchestrator, folder, ready)
    left = os.pidfd_open(old)

    signals.write_signal(home / signals.WAKE, b"99.0.0\n")
    await anyio.wait_readable(left)
    os.close(left)
    await orchestrator.poke()
    await anyio.Path(folder / "gate").write_text("go\n")
    view = await orchestrator.wait(build, WAIT_S)

    assert worker_pid(home) not in (None, old)
    assert view.build.status is BuildStatus.SUCCESS
    assert (folder / "count").read_text() == "x\n"


async def test_a_second_worker_is_refused_with_one_sentence(
    orchestrator: Orchestrator, folder: Path, home: Path
) -> None:
    """Design: one worker a home."""
    lock = take_lock(home, None)
    assert lock is not None
    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "mcp_server", "worker"], capture_output=True, text=True, check=False
    )
    os.close(lock)

    assert second.returncode == 2
    assert second.stderr == f"another worker runs {home} already\n"


@pytest.mark.sqlite_only
async def test_a_command_that_does_not_know_of_the_shared_database_makes_none_of_its_own(home: Path) -> None:
    """Ours. Tokens and backups of an empty file would be taken for the team's; its worker is no older one."""
    lock = take_lock(home, None, shared=True)
    assert lock is not None
    unaware = Orchestrator(load_config())

    with pytest.raises(StoreError, match=f"the worker of {home} serves a shared database: set BUILD_ORCHESTRATOR"):
        await unaware.store()

    assert not (home / "orchestrator.db").exists()
    os.close(lock)
    assert (await unaware.store()).schema_version() > 0  # nobody serves anything else here any more
    await unaware.aclose()


async def test_a_worker_that_was_started_as_a_service_takes_the_place_of_one_on_demand(
    orchestrator: Orchestrator, folder: Path, ready: anyio.Path, home: Path
) -> None:
    """Ours. A unit would be started every other second, beside whoever was there first; jobs do not notice."""
    build, old = await begun(orchestrator, folder, ready)
    left = os.pidfd_open(old)

    command = [sys.executable, "-P", "-m", "mcp_server", "worker"]
    service = subprocess.Popen(command, cwd="/")  # noqa: ASYNC220 - it outlives this block
    await anyio.wait_readable(left)
    os.close(left)
    await anyio.Path(folder / "gate").write_text("go\n")
    view = await orchestrator.wait(build, WAIT_S)

    assert (worker_pid(home), view.build.status) == (service.pid, BuildStatus.SUCCESS)
    assert (folder / "count").read_text() == "x\n"
    signals.write_signal(home / signals.WAKE, b"leave\n")  # asked of it, that is nothing
    again = await orchestrator.start_plan(folder, shell(folder, "true"), name="y")
    assert (await orchestrator.wait(again.build.id, WAIT_S)).build.status is BuildStatus.SUCCESS
    assert worker_pid(home) == service.pid
    end_worker(home)
    assert service.wait(20) == 0


async def test_three_fronts_that_poke_at_once_start_one_worker(orchestrator: Orchestrator, home: Path) -> None:
    """Design. The lock is handed down, so there is no gap in which a herd starts."""
    await something_open(orchestrator)
    end_worker(home)
    code = (
        "import asyncio; from mcp_server.config import load_config; from mcp_server.orchestrator import Orchestrator\n"
        "asyncio.run(Orchestrator(load_config()).poke())"
    )
    front = [sys.executable, "-c", code]
    codes = await asyncio.gather(*(asyncio.to_thread(subprocess.call, front) for _ in range(3)))

    assert codes == [0] * 3
    async with asyncio.timeout(10):
        while worker_pid(home) is None:  # noqa: ASYNC110 - it has the lock, and writes down who it is a moment later
            await asyncio.sleep(0.02)
    ours = set(processes_with(f"BUILD_ORCHESTRATOR_HOME={home}\0"))
    assert ours & set(processes_with("mcp_server\0worker\0")) == {worker_pid(home)}
