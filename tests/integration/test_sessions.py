"""What a serial session answers, on a pty and behind RFC 2217: that it was done, or why not."""

import asyncio
import json
from pathlib import Path

import pytest

from mcp_server.errors import Conflict
from mcp_server.idf import board_reset
from mcp_server.model import Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from tests.support.pty_board import PtyBoard
from tests.support.rfc2217_board import Rfc2217Board

pytestmark = pytest.mark.worker_inside

LIMIT_S = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def board(tmp_path: Path) -> PtyBoard:
    return PtyBoard(tmp_path / "ttyBoard")


async def opened(orchestrator: Orchestrator, port: str, *, baud: int | None = None) -> tuple[int, str]:
    """A session's number and its log's first line, once it has its port."""
    number = (await orchestrator.devices.open_session(port, baud=baud)).build.id
    first = await orchestrator.devices.read(number, wait_for=None, timeout_s=10, max_bytes=4000)
    assert " open at " in first.text
    return number, first.text


async def watched(orchestrator: Orchestrator, folder: Path, port: str, **more: object) -> None:
    """A boot watch that had its port; the board says nothing in it."""
    params = {"project": str(folder), "port": port, "seconds": 0.2, **more}
    spec = StageSpec(name="boot", kind="idf.boot", params=params, timeout_s=20)
    started = await orchestrator.start_plan(folder, Plan(stages=(spec,)), name="boot")
    view = await orchestrator.wait(started.build.id, LIMIT_S)
    assert view.stages[-1].exit_code == 0, view.stages[-1].verdict


async def test_a_reset_is_said_to_be_done_once_it_is(orchestrator: Orchestrator) -> None:
    """Ours: `reset` was said as soon as it was asked for. What is sent with it comes after it."""
    async with asyncio.timeout(LIMIT_S), Rfc2217Board().listening() as board:
        number, _ = await opened(orchestrator, board.url)
        before = len(board.states)
        said = [await orchestrator.devices.send(number, "", reset=True)]
        states = board.states[before:]
        said += [await orchestrator.devices.send(number, "help\n", reset=True)]
        log = (await orchestrator.devices.read(number, wait_for=None, timeout_s=0, max_bytes=4000)).text
        await orchestrator.devices.close_session(number)

    assert said == [f"session {number}: board reset", f"session {number}: board reset, then 5 bytes sent"]
    assert (False, True) in states
    assert states[-1] == (False, False)
    assert log.count("board reset") == 2


async def test_a_reset_that_cannot_be_done_is_said_so_and_nothing_is_sent(
    orchestrator: Orchestrator, board: PtyBoard
) -> None:
    """Ours: the text is for a board that has just begun. A port may have no lines, be away, or be lent."""
    devices = orchestrator.devices
    async with asyncio.timeout(LIMIT_S):
        number, _ = await opened(orchestrator, str(board.path))
        for _ in range(2):
            with pytest.raises(
                Conflict, match=r"was not reset: this port has no lines .* its button; nothing was sent"
            ):
                await devices.send(number, "help\n", reset=True)
        await devices.send(number, "mine\n")
        heard = await board.heard(5)
        board.unplug()
        await devices.read(number, wait_for=None, timeout_s=10, max_bytes=4000)
        with pytest.raises(Conflict, match=r"the board was not reset: the port is away$"):
            await devices.send(number, "", reset=True)
        await devices.close_session(number)

    assert heard == b"mine\n"


async def test_a_reset_of_which_nothing_is_said_is_waited_for_in_vain_only_so_long(
    orchestrator: Orchestrator, board: PtyBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: a session that is asleep."""

    async def told(*_: object) -> bool:
        return True

    async with asyncio.timeout(LIMIT_S):
        number, _ = await opened(orchestrator, str(board.path))
        stage = (await orchestrator.get(number)).stages[-1]
        monkeypatch.setattr(board_reset.monitor, "reset", told)
        host, key = orchestrator.host(stage.host), str((stage.resolved or {})["key"])
        end = await board_reset.reset_board(host, str(stage.job_id), key, 0.2)
        await orchestrator.devices.close_session(number)

    assert end == (False, "the session has said nothing of it for 0.2 s, and may do it yet")


async def test_what_is_sent_to_a_lent_port_is_refused(
    orchestrator: Orchestrator, board: PtyBoard, folder: Path
) -> None:
    """Ours: it was said to be sent, and was thrown away."""
    async with asyncio.timeout(LIMIT_S):
        number, _ = await opened(orchestrator, str(board.path))
        watching = asyncio.create_task(watched(orchestrator, folder, str(board.path), seconds=3))
        lent = await orchestrator.devices.read(number, wait_for=None, timeout_s=10, max_bytes=4000)
        with pytest.raises(Conflict, match=rf"session {number} has lent its port to (a boot watch|build \d+, which)"):
            await orchestrator.devices.send(number, "help\n")
        await orchestrator.devices.close_session(number)
        watching.cancel()
        await asyncio.wait({watching})

    assert "the port is lent to build" in lent.text


@pytest.mark.parametrize("link", ["path", "rfc2217", "socket"])
async def test_a_boot_watch_is_lent_the_port_of_a_session(
    orchestrator: Orchestrator, board: PtyBoard, folder: Path, link: str
) -> None:
    """Issue: the watch is not refused, and the session goes on after it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    raw = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with asyncio.timeout(LIMIT_S), Rfc2217Board().listening() as far, raw:
        at = raw.sockets[0].getsockname()[1]
        port = {"path": str(board.path), "rfc2217": far.url, "socket": f"socket://127.0.0.1:{at}"}[link]
        number, _ = await opened(orchestrator, port)
        await watched(orchestrator, folder, port.replace("127.0.0.1", "localhost"))
        back = await orchestrator.devices.read(number, wait_for=None, timeout_s=0, max_bytes=4000)
        while "the port is back" not in back.text:
            back = await orchestrator.devices.read(number, wait_for=None, timeout_s=10, max_bytes=4000)
        closed = await orchestrator.devices.close_session(number)

    assert closed == f"session {number} closed"


async def test_a_session_listens_at_the_rate_that_was_last_said(
    orchestrator: Orchestrator, board: PtyBoard, folder: Path
) -> None:
    """Ours: of the firmware's configuration, or of a person; not one that was taken for want of another."""
    port, devices, build_dir = str(board.path), orchestrator.devices, folder / "build"
    (build_dir / "config").mkdir(parents=True)
    (build_dir / "config" / "sdkconfig.json").write_text(json.dumps({"ESP_CONSOLE_UART_BAUDRATE": 921_600}))
    seen: list[str] = []

    async def listened(baud: int | None = None) -> None:
        number, first = await opened(orchestrator, port, baud=baud)
        seen.append(first.partition(" open at ")[2].partition(" baud")[0])
        await devices.close_session(number)

    async with asyncio.timeout(LIMIT_S):
        await listened()
        await watched(orchestrator, folder, port, build_dir=str(build_dir))
        await listened()
        await watched(orchestrator, folder, port)
        await listened()
        await listened(9600)
        await listened()

    assert seen == ["115200", "921600", "921600", "9600", "9600"]


async def test_a_session_that_has_stopped_is_said_to_have_stopped(orchestrator: Orchestrator, board: PtyBoard) -> None:
    """Ours: it was said to have been closed, whatever had become of it, and to be `success`."""
    devices = orchestrator.devices
    async with asyncio.timeout(LIMIT_S):
        closed, _ = await opened(orchestrator, str(board.path))
        said = [await devices.close_session(closed), await devices.close_session(closed)]
        with pytest.raises(Conflict, match=f"^session {closed} is closed: open one with serial_monitor"):
            await devices.send(closed, "x")
        cancelled, _ = await opened(orchestrator, str(board.path))
        await orchestrator.cancel(cancelled)
        await orchestrator.wait(cancelled, 10)
        said.append(await devices.close_session(cancelled))
        board.unplug()
        (board.path).write_text("no port\n")
        lost = StageSpec(name="monitor", kind="idf.monitor", params={"port": str(board.path), "key": "x"}, timeout_s=0)
        number = (await orchestrator.start_plan(board.path.parent, Plan(stages=(lost,)), name="monitor")).build.id
        await orchestrator.wait(number, 10)
        said.append(await devices.close_session(number))

    assert said[:3] == [
        f"session {closed} closed",
        f"session {closed} is closed already",
        f"session {cancelled} was cancelled already",
    ]
    assert said[3].startswith(f"session {number} has ended (")
    assert "is a file, no serial port" in said[3]
