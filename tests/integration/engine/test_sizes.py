"""Sizes of a build: found out after its verdict, by the worker, at nobody's cost."""

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from blockbuster import blockbuster_ctx

from mcp_server import report_tables
from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.demo.place import fix_patch, lay_out
from mcp_server.engine.signals import announce
from mcp_server.engine.stages.idf_build import IdfBuild
from mcp_server.engine.worker import Worker, take_lock
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.database import Store
from mcp_server.views import BuildView
from tests.support.sizes import with_sizes

pytestmark = pytest.mark.worker_inside

WAIT_S = 40


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    """The demo's firmware, its mistake mended."""
    folder = lay_out(tmp_path / "firmware")
    subprocess.run(["patch", "-p1", "-s"], input=fix_patch(), text=True, cwd=folder, check=True)
    return folder


async def build(orchestrator: Orchestrator, project: Path) -> BuildView:
    started = await orchestrator.start_build(str(project))
    return await orchestrator.wait(started.build.id, WAIT_S)


async def test_a_build_that_passed_has_its_sizes_soon_after_and_can_be_compared(
    orchestrator: Orchestrator, firmware: Path
) -> None:
    """Issue: sizes are stored after the verdict, and build_get compares two builds."""
    with anyio.fail_after(WAIT_S):
        first = await with_sizes(orchestrator, (await build(orchestrator, firmware)).build.id)
        app = firmware / "main" / "app_main.c"
        app.write_text(f"{app.read_text()}\nint much[5000];\n")
        second = await with_sizes(orchestrator, (await build(orchestrator, firmware)).build.id)

    alone, both = report_tables.size_table(first), report_tables.size_table(second, first)
    assert "sections, bytes: text " in alone
    assert "bss" in both
    assert "+20,0" in both.partition("bss")[2]
    assert first.stages[0].verdict and first.stages[0].verdict.artifacts  # nothing else of the verdict was touched


async def test_a_worker_blocks_nowhere_and_survives_what_comes_after_a_verdict(
    home: Path, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. A mistake in what nobody waits for is logged; the build has passed all the same."""
    config = load_config()
    config.make_home()
    lock = take_lock(home, None)
    assert lock is not None  # no other worker is started by the orchestrator
    store = Store(config.database_url, home, lambda: announce(home))
    store.migrate()
    asked = asyncio.Event()
    measured = IdfBuild.after

    async def breaks(*arguments: Any) -> Mapping[str, Any] | None:
        if not asked.is_set():
            asked.set()
            raise RuntimeError("a mistake")
        return await measured(*arguments)

    monkeypatch.setattr(IdfBuild, "after", breaks)
    orchestrator = Orchestrator(config)
    serving = asyncio.create_task(Worker(config, store, SystemClock()).serve())
    with anyio.fail_after(WAIT_S), blockbuster_ctx("mcp_server") as blocked:
        blocked.functions["os.unlink"].can_block_in("engine/signals.py", "watch")
        first = await build(orchestrator, firmware)
        await asked.wait()
        second = await with_sizes(orchestrator, (await build(orchestrator, firmware)).build.id)
    serving.cancel()
    await asyncio.wait({serving})
    await orchestrator.aclose()
    await store.aclose()

    assert [view.build.status for view in (first, second)] == [BuildStatus.SUCCESS] * 2
    assert first.stages[0].verdict and "sizes" not in first.stages[0].verdict.details
