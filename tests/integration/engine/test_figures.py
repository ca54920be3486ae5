"""What a stage's ninja took and its tests ran, found where the stage ran and kept with its verdict."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine.worker import Worker, take_lock
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.database import Store

RECORDED = Path(__file__).parents[2] / "fixtures" / "coverage"
LIMIT_S = 40

pytestmark = pytest.mark.skipif(shutil.which("ninja") is None, reason="ninja is not installed")

PIPELINE = """
pipeline:
  name: figures
  stages:
    - name: test
      server: {server}
      workdir: {folder}
      command: ninja -C build && cp "$KEPT"/gcovr-8.8.info . && head -c 600 "$KEPT"/gcovr-8.8.xml >cut.xml
      env: {{KEPT: {kept}}}
      artifacts: ["*.info", "*.xml"]
"""


@pytest.mark.parametrize("server", ["local", "fast"])
async def test_a_command_leaves_the_times_of_its_ninja_and_what_its_tests_ran(
    server: str, home: Path, tmp_path: Path
) -> None:
    """Issue. Here and on another host; a report that is cut off is one note, and the stage passes. Nothing blocks
    the worker's event loop meanwhile."""
    folder = tmp_path / "project"
    (folder / "build").mkdir(parents=True)
    rules = "rule cc\n  command = touch $out\nbuild src/CMakeFiles/valve.dir/valve.c.o: cc\n"
    (folder / "build" / "build.ninja").write_text(rules)
    channel = ["env", "-i", f"HOME={tmp_path}", f"PATH={os.environ['PATH']}"]
    (home / "config.yaml").write_text(json.dumps({"servers": {"fast": {"exec": channel}}}))
    text = PIPELINE.format(server=server, folder=folder, kept=RECORDED)
    config = load_config()
    config.make_home()
    store = Store(config.database_url, home)
    store.migrate()
    assert take_lock(home, None) is not None  # no other worker is started by the orchestrator
    orchestrator, serving = Orchestrator(config), asyncio.create_task(Worker(config, store, SystemClock()).serve())
    pipeline = await orchestrator.read_pipeline(text=text)
    async with asyncio.timeout(LIMIT_S):
        with blockbuster_ctx("mcp_server") as blocked:
            # One unlink of a FIFO, in the clean-up of a wait that may be being cancelled: no await may stand there.
            blocked.functions["os.unlink"].can_block_in("engine/signals.py", "watch")
            started = await orchestrator.start_pipeline(pipeline, folder)
            view = await orchestrator.wait(started.build.id, LIMIT_S - 5)
            trends = await orchestrator.figures.trends(str(folder))
    serving.cancel()
    await asyncio.wait({serving})
    await orchestrator.aclose()
    await store.aclose()

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    (row,) = view.stages
    assert row.verdict is not None
    details = row.verdict.details
    assert [one["file"] for one in details["compile"]["files"]] == ["src/valve.c"]
    assert details["coverage"]["lines"] == {"covered": 15, "total": 19}
    assert details["coverage"]["sources"] == ["gcovr-8.8.info"]
    assert details["notes"] == ["coverage: cut.xml: it is no well-formed XML (line 3)"]
    (point,) = trends.builds
    assert point.coverage is not None
    assert point.coverage.lines.percent == 78.9
    assert [one.file for one in trends.slowest_files] == ["src/valve.c"]
