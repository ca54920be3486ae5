"""Workflows of projects that are none of ESP-IDF's: a shell line builds, a board and a program are tested."""

import sys
from pathlib import Path

from mcp_server import workflow_plans
from mcp_server.device_plans import Firmware, Watching
from mcp_server.model import Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from mcp_server.workflow_plans import Board, Developer, Tests
from tests.support.flashable import recorded

WAIT_S = 50


def shell(name: str, command: str, project: Path) -> StageSpec:
    params = {"command": command, "project": str(project), "workdir": str(project)}
    return StageSpec(name=name, kind="command", params=params, timeout_s=20)


def workflow(build: StageSpec, firmware: Firmware, tests: Tests, developer: Developer | None = None) -> Plan:
    """The workflow of a project that is none of ESP-IDF's: without `setup`."""
    plan = workflow_plans.workflow(build, firmware, tests, developer=developer, rounds=2)
    alone = [one.model_copy(update={"depends_on": ()}) if one.name == build.name else one for one in plan.stages]
    return plan.model_copy(update={"stages": tuple(one for one in alone if one.kind != "setup")})


async def examined(orchestrator: Orchestrator, flashable: Path, port: str, build: str = "true") -> BuildView:
    """A workflow of a stand-in for a build, a board that is flashed, and a program in the emulator's place."""
    project = flashable.parent
    images = tuple(await recorded(flashable))
    firmware = Firmware(str(project), str(flashable), "esp32c3", images=images, build=1)
    emulated = project / "emulated"
    emulated.mkdir()
    (emulated / "project_description.json").write_text('{"target": "linux", "app_elf": "app.elf"}')
    (emulated / "app.elf").write_text(
        f"#!{sys.executable} -u\nimport time\ntime.sleep(3)\nprint('up')\ntime.sleep(60)\n"
    )
    (emulated / "app.elf").chmod(0o755)
    tests = Tests(Board(port=port), "", Watching(expect=("^up$",), seconds=10))
    plan = workflow(shell("build", build, project), firmware, tests)
    run = {"kind": "idf.run", "timeout_s": 20.0}
    stages = [
        one.model_copy(update={**run, "params": {**one.params, "build_dir": str(emulated), "images": None}})
        if one.name == "qemu"
        else one
        for one in plan.stages
    ]
    plan = plan.model_copy(update={"stages": tuple(stages)})
    started = await orchestrator.start_plan(project, plan, name="workflow", agreed=True)
    return await orchestrator.wait(started.build.id, WAIT_S)
