"""Boards and emulators through the orchestrator, as every front asks for them: a real worker, a pty as the board."""

import asyncio
from pathlib import Path

import pytest

from mcp_server.demo.chip import VirtualChip
from mcp_server.demo.place import lay_out
from mcp_server.errors import BadInput, Conflict, NotFound
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.pty_board import PtyBoard

pytestmark = pytest.mark.worker_inside

LIMIT_S = 40


@pytest.fixture
def board(tmp_path: Path) -> PtyBoard:
    return PtyBoard(tmp_path / "ttyBoard")


async def test_a_session_is_read_on_spoken_to_joined_and_closed(orchestrator: Orchestrator, board: PtyBoard) -> None:
    """Issue: a monitor session stays open in the background; cursor reads, wait_for, send."""
    devices = orchestrator.devices
    async with asyncio.timeout(LIMIT_S):
        opened = await devices.open_session(str(board.path))
        number = opened.build.id
        first = await devices.read(number, wait_for=None, timeout_s=10, max_bytes=4000)
        await board.say(b"I (1) boot: hello\r\nready> ")
        found = await devices.read(number, wait_for="ready>", timeout_s=10, max_bytes=4000)
        said = await devices.send(number, "help\n")
        heard = await board.heard(5)
        await board.say(b"\r\ncommands: none\r\n")
        more = await devices.read(number, wait_for=None, timeout_s=10, max_bytes=4000)
        again = await devices.open_session(str(board.path))
        nothing = await devices.read(number, wait_for="never", timeout_s=0, max_bytes=4000)
        closed = await devices.close_session(number)
        view = await orchestrator.wait(number, 10)

    assert "open at 115200 baud" in first.text
    assert found.found == "ready> "
    assert "I (1) boot: hello" in found.text
    assert said == f"session {number}: 5 bytes sent"
    assert heard.endswith(b"help\n")
    assert "commands: none" in more.text
    assert "hello" not in more.text
    assert (again.build.id, again.joined) == (number, True)
    assert nothing.failed
    assert "no line matched 'never'" in nothing.summary()
    assert closed == f"session {number} closed"
    assert view.build.status is BuildStatus.SUCCESS


async def test_what_is_no_session_is_refused(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """Issue: no port, a port that is none."""
    with pytest.raises(BadInput, match="is not there"):
        await orchestrator.devices.open_session(str(tmp_path / "ttyUSB9"))
    with pytest.raises(BadInput, match="baud"):
        await orchestrator.devices.open_session("socket://127.0.0.1:9", baud=3)
    with pytest.raises(NotFound):
        await orchestrator.devices.read(99, wait_for=None, timeout_s=0, max_bytes=100)


async def test_only_what_was_built_is_flashed_and_only_where_that_is_allowed(
    orchestrator: Orchestrator, home: Path, tmp_path: Path
) -> None:
    """Issue: never flash after a failed build; security.allow_flash."""
    project = lay_out(tmp_path / "demo")
    devices = orchestrator.devices
    async with asyncio.timeout(LIMIT_S), VirtualChip(flash=tmp_path / "flash").running() as chip:
        with pytest.raises(NotFound, match="idf_build first"):
            await devices.flash(str(project), port=chip.port)
        failed = (await orchestrator.start_build(str(project))).build.id
        await orchestrator.wait(failed, LIMIT_S)
        with pytest.raises(Conflict, match=r"the last build \(1\) failed: build first"):
            await devices.flash(str(project), port=chip.port)
        source = project / "main" / "thermostat.c"
        source.write_text(source.read_text().replace("valve_opne", "valve_open"))
        built = (await orchestrator.start_build(str(project))).build.id
        await orchestrator.wait(built, LIMIT_S)
        with pytest.raises(BadInput, match="build 2 is for the linux target, which runs on no board"):
            await devices.flash(str(project), port=chip.port)
        emulated = await devices.emulate(str(project), expect=["SELF TEST PASSED"], seconds=20)
        view = await orchestrator.wait(emulated.build.id, LIMIT_S)
        (home / "config.yaml").write_text("security: {allow_flash: never}\n")
        await orchestrator.look_at_hosts(check=False)  # the file is read again
        with pytest.raises(Conflict, match="allow_flash"):
            await devices.flash(str(project), port=chip.port)

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert view.build.test_results is not None


async def test_a_pattern_that_is_none_is_refused_before_anything(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """Issue: bad input is met at the door."""
    with pytest.raises(BadInput, match="expect"):
        await orchestrator.devices.emulate(str(tmp_path), expect=["("])
