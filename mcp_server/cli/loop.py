"""Runs the demo's build and tells what happens as its rows tell it."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import demo as demo_room
from mcp_server import device_plans, plans, record
from mcp_server.cli.follow import follow, signals_heard
from mcp_server.cli.here import SIGNAL_BASE, say_how_to_go_on
from mcp_server.cli.screen import err, out, print_json
from mcp_server.cli.story import Story, went_the_whole_way
from mcp_server.config import Config
from mcp_server.demo.board import CHIP, FOLDER
from mcp_server.demo.chip import VirtualChip
from mcp_server.demo.place import SELF_TEST_PASSED, lay_out
from mcp_server.device_plans import Firmware, Watching
from mcp_server.errors import Conflict, EnvironmentMissing, NotFound
from mcp_server.idf.activation import activate
from mcp_server.idf.installation import Installation
from mcp_server.model import Plan, StageSpec
from mcp_server.workflow_plans import Developer, Tests, with_tests, workflow

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

BUILD_S, RUN_S = 600, 30  # real ESP-IDF compiles some hundred files first; the self test takes a blink
ROUNDS = 3
COMPILERS = ("cc", "gcc", "clang")


async def show_loop(orchestrator: "Orchestrator", folder: Path | None, *, agent: str | None = None, json: bool) -> int:
    """0 if the build went red, was mended, went green and was verified; 1 if not."""
    folder = (folder or orchestrator.config.projects_dir / "demo").expanduser().absolute()
    await _refuse_while_it_runs(orchestrator, folder)
    orchestrator.config.make_home()
    project = await asyncio.to_thread(lay_out, folder)
    installation = await orchestrator.installation(project)
    simulated = installation.source == "simulated"
    if simulated:
        check_tools(orchestrator.environment)
    else:  # one that cannot be activated is said now, not by two failed rounds
        await activate(installation, orchestrator.config.home / "cache", orchestrator.environment)
    if agent is not None:  # one that cannot be used is said now, not after a failed round
        agent = (await orchestrator.workflows.developer(agent)).agent
    screen = err() if json else out()
    story = Story(screen, orchestrator.config, agent, simulated=simulated, board=has_esptool())
    story.begin(project, installation.version)
    async with signals_heard() as heard, virtual_board(orchestrator.config) as port:
        plan = demo_plan(project, installation, port, agent)
        started = await orchestrator.start_plan(
            project,
            plan,
            name="demo",
            target="linux",
            project_name="greenhouse",
            agreed=True,  # the board is the demo's own
        )
        followed = await follow(orchestrator, started.build.id, story, heard, None)
    if followed.left_by is not None:
        say_how_to_go_on(err(), started.build.id)
        return SIGNAL_BASE + followed.left_by
    if went_the_whole_way(followed.view):
        await orchestrator.workflows.apply(followed.view.build.id)  # the demo's own project: nobody else's files
    story.end(followed.view)
    if json:
        print_json(record.of_view(followed.view))
    return 0 if went_the_whole_way(followed.view) else 1


@contextlib.asynccontextmanager
async def virtual_board(config: Config) -> AsyncGenerator[Path | None]:
    """The port of an empty virtual board, which is on while the block lasts; None: nobody could flash it, or may."""
    if not has_esptool() or config.security.allow_flash == "never":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="demo-board-") as folder:
        chip = VirtualChip(flash=Path(folder) / "flash", chip=CHIP, link=Path(folder) / "board")
        async with chip.running():
            yield chip.link


def has_esptool() -> bool:
    """Whether the extra [demo] is here: without esptool there is nobody to flash a board."""
    return importlib.util.find_spec("esptool") is not None


def demo_plan(project: Path, installation: Installation, port: Path | None = None, agent: str | None = None) -> Plan:
    """The whole workflow, its board a virtual one. The developer is `agent`, else the diff that comes with the demo."""
    expect, fail_on = (SELF_TEST_PASSED,), ("SELF TEST FAILED",)
    build_dir = project / "build"
    build = plans.idf_build(project, installation, timeout_s=BUILD_S)
    firmware = Firmware(str(project), str(build_dir), "linux")
    watching = Watching(expect, fail_on, RUN_S)
    diff = Path(demo_room.__file__).with_name("fix.patch")
    developer = Developer(agent=agent or f"patch:{diff}")
    plan = workflow(build, firmware, Tests(emulator="", watching=watching), developer=developer, rounds=ROUNDS)
    if port is None:
        return plan
    params = {"project": str(project), "argv": [sys.executable, "-m", "mcp_server.demo.board", str(build_dir)]}
    image = StageSpec(name="image", kind="command", params=params, depends_on=("build",), timeout_s=RUN_S)
    on_chip = Firmware(str(project), str(build_dir / FOLDER), CHIP)
    flash = device_plans.flash(on_chip, host="local", port=str(port), after=("image",))
    boot = device_plans.boot(on_chip, watching, host="local", port=str(port), after=("flash",))
    return with_tests(plan, [image, flash, boot])


def check_tools(environment: Mapping[str, str]) -> None:
    """EnvironmentMissing names the package that brings what the simulated ESP-IDF cannot do without."""
    path = environment.get("PATH") or os.defpath
    named = (environment.get("CC") or "").split()
    if not any(shutil.which(name, path=path) for name in (*named[:1], *COMPILERS)):
        install = (
            "xcode-select --install" if sys.platform == "darwin" else "apt install gcc libc6-dev, or your system's"
        )
        raise EnvironmentMissing(f"the demo needs a C compiler and found none: {install}")
    beside = str(Path(sys.executable).parent)
    if not shutil.which("ninja", path=f"{beside}{os.pathsep}{path}"):
        raise EnvironmentMissing(
            f"the demo needs ninja and found none: {sys.executable} -m pip install ninja (the extra [demo] brings it)"
        )


async def _refuse_while_it_runs(orchestrator: "Orchestrator", folder: Path) -> None:
    """Laying out the firmware under a running build would give it two sources."""
    try:
        builds = await orchestrator.list(project=str(folder), limit=5)
    except NotFound:
        return
    for build in builds:
        if build.status.is_open:
            raise Conflict(f"build {build.id} of {folder} still runs: wait for it, or build_cancel({build.id})")
