"""Broken firmware mended by the real OpenCode through the whole workflow: compiled, run, committed on its branch."""

import asyncio
import json
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.demo.place import SELF_TEST_PASSED, lay_out
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.workflows import WorkflowAsk
from tests.support.git_tree import UserTree
from tests.support.messages_api import MessagesApi, Say, Use
from tests.support.opencode_client import OPENCODE, opencode_environment, opencode_settings
from tests.support.workers import end_everything, worker_inside

pytest.importorskip("acp", reason="needs the extra agents", exc_type=ImportError)
pytestmark = [
    pytest.mark.skipif(not OPENCODE, reason="no opencode: BO_TEST_OPENCODE or PATH should name one"),
    pytest.mark.timeout(150),
]


async def test_opencode_mends_the_demo_and_the_compiler_judges(home: Path, tmp_path: Path) -> None:
    """Issue. The model is a script; the client, its edit, the worktree, the build and the run are real."""
    project = lay_out(tmp_path / "greenhouse")
    tree = UserTree(project, tmp_path / "user")
    environment = opencode_environment(tmp_path / "opencode")
    given = {name: value for name, value in environment.items() if name not in ("PATH", "LANG", "TMPDIR")}
    agents = {"opencode": {"acp": [OPENCODE, "acp"], "env": given}}
    (home / "config.yaml").write_text(json.dumps({"agents": agents}))
    orchestrator = Orchestrator(load_config())
    place = orchestrator.config.worktrees_dir / f"{await (await orchestrator.store()).uuid()}-1"
    source = str(place / "main/thermostat.c")
    edit = {"filePath": source, "oldString": "valve_opne", "newString": "valve_open"}
    script = [Use("read", {"filePath": source}), Use("edit", edit), Say("mended")]
    try:
        with MessagesApi(script) as api:
            (project / "opencode.json").write_text(
                opencode_settings(api, **{"$schema": "https://opencode.ai/config.json"})
            )
            tree.git("init", "-q", "-b", "main")
            tree.commit("as it is")
            async with asyncio.timeout(140), worker_inside(home):
                ask = WorkflowAsk(str(project), agent="opencode", expect=(SELF_TEST_PASSED,))
                started = await orchestrator.workflows.run(ask)
                view = await orchestrator.wait(started.build.id, 130)
                log = (await orchestrator.log(started.build.id, "fix")).text
                await orchestrator.aclose()
    finally:
        end_everything(home)

    assert view.build.status is BuildStatus.SUCCESS, log
    assert view.build.round == 2
    assert "valve_open();" in tree.git("show", "bo/fix-1:main/thermostat.c")
    assert "valve_opne" in (project / "main/thermostat.c").read_text()
    fix = next(row for row in view.stages if row.stage == "fix")
    assert fix.verdict and fix.verdict.details["files_changed"] == ["main/thermostat.c"]
    assert fix.verdict.details["session"].startswith("ses_")
