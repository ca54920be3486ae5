"""Boards of another machine: the images go there, that machine's esptool writes them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.demo.chip.client import VirtualChip
from mcp_server.model import BuildStatus, Plan, StageSpec, Verdict
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from tests.support.flashable import lay_out, program, recorded
from tests.support.workers import end_everything, worker_inside

WAIT_S = 25


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Programs of the other machine's user."""
    (folder := tmp_path / "there" / "bin").mkdir(parents=True)
    return folder


@pytest_asyncio.fixture
async def orchestrator(home: Path, tools: Path) -> AsyncIterator[Orchestrator]:
    """With the host `lab-pi`: a command channel into another home of this machine."""
    channel = ["env", "-i", f"HOME={tools.parent}", f"PATH={tools}:/usr/bin:/bin"]
    (home / "config.yaml").write_text(json.dumps({"servers": {"lab-pi": {"exec": channel}}}))
    orchestrator = Orchestrator(load_config())
    async with worker_inside(home):
        yield orchestrator
        await orchestrator.aclose()
    end_everything(home)
    end_everything(tools.parent / ".build-orchestrator")


def put_tool(tools: Path, text: str) -> None:
    (tools / "esptool").write_text(text)
    (tools / "esptool").chmod(0o755)


async def flash(orchestrator: Orchestrator, build_dir: Path, port: str) -> tuple[BuildView, Verdict]:
    images = [artifact.model_dump(mode="json") for artifact in await recorded(build_dir)]
    params: dict[str, Any] = {"project": str(build_dir.parent), "build_dir": str(build_dir), "port": port}
    stage = StageSpec(name="flash", kind="idf.flash", host="lab-pi", params={**params, "images": images}, timeout_s=20)
    started = await orchestrator.start_plan(build_dir.parent, Plan(stages=(stage,)), name="flash", agreed=True)
    view = await orchestrator.wait(started.build.id, WAIT_S)
    assert view.stages[-1].verdict is not None
    return view, view.stages[-1].verdict


async def test_a_board_of_another_machine_is_flashed_from_what_was_brought_there(
    orchestrator: Orchestrator, tools: Path, tmp_path: Path
) -> None:
    """Issue. Built here, flashed there: by flasher_args.json, no rebuild; the images are checked by hash there."""
    put_tool(tools, f'#!/bin/sh\nexec {sys.executable} -m esptool "$@"\n')
    build_dir = lay_out(tmp_path / "door-lock" / "build", app=program(40_000))
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        view, verdict = await flash(orchestrator, build_dir, chip.port)
        assert view.build.status is BuildStatus.SUCCESS, verdict
        app = (build_dir / "door-lock.bin").read_bytes()
        assert chip.flash[0x10000:].startswith(app)

    cwd = Path((view.stages[0].resolved or {})["cwd"])
    assert (cwd / "door-lock.bin").read_bytes() == app
    assert cwd.is_relative_to(tools.parent)
    assert cwd != build_dir


async def test_a_machine_with_an_old_esptool_says_its_version_and_what_installs_a_new_one(
    orchestrator: Orchestrator, tools: Path, tmp_path: Path
) -> None:
    """Issue. Commands of esptool 4 have other names and other output."""
    put_tool(tools, '#!/bin/sh\n[ "$1" = version ] && echo "esptool.py v4.8.1" && echo 4.8.1\n')
    build_dir = lay_out(tmp_path / "door-lock" / "build")
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        view, verdict = await flash(orchestrator, build_dir, chip.port)
        assert set(chip.flash) == {0xFF}

    assert verdict.summary == (
        "esptool 4.8.1 is too old, 5 or newer is needed: pipx install 'esptool>=5'; the board was not touched"
    )
    assert verdict.details["cause"] == "environment"
    assert len(view.stages) == 1


async def test_a_machine_without_esptool_says_what_installs_it(
    orchestrator: Orchestrator, tools: Path, tmp_path: Path
) -> None:
    """Issue."""
    build_dir = lay_out(tmp_path / "door-lock" / "build")
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        _, verdict = await flash(orchestrator, build_dir, chip.port)

    assert verdict.summary == "no esptool here: pipx install 'esptool>=5'; the board was not touched"
