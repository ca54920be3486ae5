"""The port that a board is flashed through: gone, mute, held by somebody, behind TCP, lent by a monitor."""

import asyncio
import socket
from pathlib import Path

import pytest

from mcp_server.demo.chip.client import VirtualChip
from mcp_server.hosts.base import JobSpec
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ports import find_port, lock_folder
from mcp_server.idf.monitor import Session, monitor_argv
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.integration.idf.test_flash import WAIT_S, flash, holds, mute_port, verdict_of
from tests.support.flashable import lay_out, program

pytestmark = pytest.mark.worker_inside


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "door-lock" / "build", app=program(60_000))


@pytest.fixture
def impatient(tmp_path: Path) -> None:
    """The user's own esptool.cfg, as esptool documents it: it gives up sooner than by itself."""
    (folder := tmp_path / "user" / ".config" / "esptool").mkdir(parents=True)
    settings = ("connect_attempts = 2", "open_port_attempts = 1", "write_block_attempts = 1", "timeout = 1")
    (folder / "esptool.cfg").write_text("\n".join(["[esptool]", *settings, "serial_write_timeout = 2", ""]))


@pytest.mark.usefixtures("impatient")
async def test_a_port_that_goes_away_in_mid_write_is_said_to_have_gone(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. esptool itself waits some seconds for it; a link, lest it comes upon another test's new port."""
    link = tmp_path / "ttyBoard"
    faults = ("vanish=30000",)
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", link=link, faults=faults).running():
        view = await flash(orchestrator, build_dir, str(link))

    verdict = verdict_of(view)
    assert verdict.details["cause"] == "port_gone", verdict
    assert "went away while door-lock.bin was written" in verdict.summary
    assert verdict.details["board"] == "partly written"
    assert len(view.stages) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_port_where_nothing_answers_says_which_buttons_to_press(
    orchestrator: Orchestrator, build_dir: Path
) -> None:
    """Issue."""
    with mute_port() as port:
        async with asyncio.timeout(WAIT_S):
            view = await flash(orchestrator, build_dir, port)

    verdict = verdict_of(view)
    assert verdict.details["cause"] == "no_answer"
    assert "hold BOOT, press RESET" in verdict.summary
    assert verdict.summary.endswith("the board was not touched")
    assert len(view.stages) == 1


async def test_a_port_that_is_open_in_a_program_of_the_user_is_refused_by_its_name(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. Ports of processes that are not ours are recognised and named."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        screen = await asyncio.create_subprocess_exec("sh", "-c", f"exec cat {chip.port} >/dev/null")
        try:
            await chip.wait_for("opened")
            view = await flash(orchestrator, build_dir, chip.port)
        finally:
            screen.kill()
            await screen.wait()

    assert f"(pid {screen.pid}): close it" in verdict_of(view).summary
    assert len(view.stages) == 1


async def test_a_board_behind_a_tcp_port_is_flashed(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. Without reset lines: it waits in its loader already."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", way="socket").running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)
        assert view.build.status is BuildStatus.SUCCESS, verdict_of(view)
        assert holds(chip, build_dir)


async def test_a_flash_that_hangs_ends_at_its_time_limit(orchestrator: Orchestrator, build_dir: Path) -> None:
    """Issue. The verdict says what was done last and what the board is worth."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        async with asyncio.timeout(WAIT_S):
            view = await flash(orchestrator, build_dir, port, timeout_s=1)

    verdict = verdict_of(view)
    assert verdict.result == "timeout"
    assert verdict.summary == "stopped at its time limit while connecting: the board was not touched"


async def test_a_monitor_lets_the_flash_have_the_port_and_hears_the_board_boot_after_it(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. One log before and after; the flash does not wait for the end of the session."""
    host = LocalHost(orchestrator.config.jobs_dir)
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        key = (await find_port(host, chip.port)).key
        session = Session(port=chip.port, folder=lock_folder(await host.directory(), key))
        job = JobSpec(id="aaaaaaaa-1-monitor-1-1", argv=monitor_argv(session, far=False), cwd="/")
        await host.start(job)
        log = host.follow(job.id)
        try:
            heard = b""
            while b" open at " not in heard:
                heard += await anext(log)
            view = await flash(orchestrator, build_dir, chip.port)
            assert view.build.status is BuildStatus.SUCCESS, verdict_of(view)
            while b"] up" not in heard or b"port is back" not in heard:
                heard += await anext(log)
        finally:
            await log.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            await host.kill(job.id, grace_s=0)
            await host.aclose()
    assert verdict_of(view).details["board"] == "written"


async def test_a_loader_that_never_starts_is_done_without_when_the_time_is_over(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Ours. esptool itself waits for it for minutes and says nothing."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", faults=("stub-silent",)).running() as chip:
        view = await flash(orchestrator, build_dir, chip.port, timeout_s=4)
        assert view.build.status is BuildStatus.SUCCESS, verdict_of(view)
        assert holds(chip, build_dir)

    first = verdict_of(view.stages[0])
    assert (first.result, first.details["board"]) == ("timeout", "untouched")
    assert "while starting esptool's loader on the chip" in first.summary
