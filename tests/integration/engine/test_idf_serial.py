"""Sessions and boot watches as stages of builds, on a pty as the board."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine.worker import Worker, take_lock
from mcp_server.hosts.base import JobState
from mcp_server.hosts.local import LocalHost
from mcp_server.idf import monitor
from mcp_server.model import BuildStatus, Plan, Stage, StageSpec, Verdict
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.database import Store
from tests.support.flashable import lay_out, recorded
from tests.support.pty_board import PtyBoard
from tests.support.workers import end_everything

LIMIT_S = 20
BOOT = (
    b"ESP-ROM:esp32c3-api1-20210207\r\nrst:0x1 (POWERON),boot:0xd (SPI_FAST_FLASH_BOOT)\r\n"
    b"I (24) boot: ESP-IDF v6.0.2 2nd stage bootloader\r\nI (220) main_task: Calling app_main()\r\n"
)


@pytest_asyncio.fixture
async def orchestrator(home: Path) -> AsyncIterator[Orchestrator]:
    """With its worker in this process, where a call that blocks the event loop is an error."""
    config = load_config()
    config.make_home()
    store = Store(config.database_url, home)
    store.migrate()
    lock = take_lock(home, None)
    assert lock is not None  # no other worker is started by the orchestrator
    orchestrator = Orchestrator(config)
    with blockbuster_ctx("mcp_server") as blocked:
        blocked.functions["os.unlink"].can_block_in("engine/signals.py", "watch")
        serving = asyncio.create_task(Worker(config, store, SystemClock()).serve())
        yield orchestrator
        serving.cancel()
        await asyncio.wait({serving})
    await orchestrator.aclose()
    await store.aclose()
    os.close(lock)  # or this process would be ended as that worker
    end_everything(home)


@pytest.fixture
def board(tmp_path: Path) -> PtyBoard:
    return PtyBoard(tmp_path / "ttyBoard")


async def session(orchestrator: Orchestrator, folder: Path, board: PtyBoard, **more: object) -> tuple[int, Stage]:
    """A session that has the port open: the number of its build, and its stage."""
    params = {"project": str(folder), "port": str(board.path), **more}
    spec = StageSpec(name="monitor", kind="idf.monitor", params=params, timeout_s=0)
    started = await orchestrator.start_plan(folder, Plan(stages=(spec,)), name="session")
    stage = await running(orchestrator, started.build.id)
    await logged(orchestrator, stage, "open at")
    return started.build.id, stage


async def watch(orchestrator: Orchestrator, folder: Path, board: PtyBoard, limit_s: float, **more: object) -> int:
    params = {"project": str(folder), "port": str(board.path), **more}
    spec = StageSpec(name="boot", kind="idf.boot", params=params, timeout_s=limit_s)
    return (await orchestrator.start_plan(folder, Plan(stages=(spec,)), name="boot")).build.id


async def running(orchestrator: Orchestrator, build: int) -> Stage:
    """The build's only stage, once its job was started."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for stage in (await orchestrator.get(build)).stages:
                if stage.job_id is not None and stage.resolved:
                    return stage
                assert stage.status.is_open, stage.verdict
            await orchestrator.wait(build, 0.05)


async def logged(orchestrator: Orchestrator, stage: Stage, text: str) -> None:
    """Return when the log of the stage's job has `text`."""
    host = orchestrator.host(stage.host)
    async with asyncio.timeout(LIMIT_S):
        while (await host.status(str(stage.job_id))).state is JobState.ABSENT:  # its row is written first
            await orchestrator.wait(stage.build, 0.05)
        log = b""
        async for piece in host.follow(str(stage.job_id)):
            log += piece
            if text.encode() in log:
                return
    raise AssertionError(log)


async def verdict(orchestrator: Orchestrator, build: int) -> Verdict:
    async with asyncio.timeout(LIMIT_S):
        view = await orchestrator.wait(build, LIMIT_S)
    assert not view.build.status.is_open
    (stage,) = view.stages
    assert stage.verdict
    return stage.verdict


async def test_a_session_passes_with_what_it_counted_when_it_is_closed(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Ours."""
    build, stage = await session(orchestrator, folder, board)
    await board.say(BOOT)
    await logged(orchestrator, stage, "Calling app_main")
    host = orchestrator.host(stage.host)
    assert await monitor.close(host, str((stage.resolved or {})["key"]))
    said = await verdict(orchestrator, build)

    assert said.result == "pass"
    assert said.summary == f"4 lines of {board.path}; closed"


async def test_a_second_session_is_told_whose_the_port_is(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Issue. At once, and with the number of the build to read on in."""
    build, _ = await session(orchestrator, folder, board)
    params = {"project": str(folder), "port": str(board.path), "baud": 9600}
    plan = Plan(stages=(StageSpec(name="monitor", kind="idf.monitor", params=params, timeout_s=0),))
    second = await orchestrator.start_plan(folder, plan, name="second")
    said = await verdict(orchestrator, second.build.id)
    await orchestrator.cancel(build)

    assert said.result == "fail"
    assert f"is held by the session of build {build}" in said.summary
    assert (await orchestrator.wait(build, LIMIT_S)).build.status is BuildStatus.CANCELLED


async def test_a_boot_passes_at_the_expected_line_and_the_session_goes_on(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Issue: the port is taken from the session and given back; the watch ends as soon as it is decided."""
    _, stage = await session(orchestrator, folder, board)
    boot = await watch(orchestrator, folder, board, 15, expect=["hello from .*"])
    await logged(orchestrator, await running(orchestrator, boot), "open at")
    await board.say(BOOT + b"hello from esp32c3\r\n")
    said = await verdict(orchestrator, boot)
    await logged(orchestrator, stage, "the port is back after")

    assert said.result == "pass"
    assert said.summary == "hello from esp32c3"
    assert said.details["port"] == str(board.path)
    assert "notes" not in said.details  # it did boot: nobody needs to press the button that a pty cannot press


async def test_a_watch_that_ends_in_time_is_judged_by_what_was_not_said(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Issue: timeout is a verdict; the job itself has not failed. The rate is the project's own."""
    build_dir = folder / "build"
    (build_dir / "config").mkdir(parents=True)
    (build_dir / "config" / "sdkconfig.json").write_text(json.dumps({"ESP_CONSOLE_UART_BAUDRATE": 921600}))
    boot = await watch(orchestrator, folder, board, 20, seconds=1.5, expect=["never"], build_dir=str(build_dir))
    stage = await running(orchestrator, boot)
    await logged(orchestrator, stage, "open at 921600")
    await board.say(BOOT)
    said = await verdict(orchestrator, boot)
    (row,) = (await orchestrator.get(boot)).stages

    assert said.result == "timeout"
    assert "not printed in 1.5 s: 'never'" in said.summary
    assert (row.exit_code, row.reason) == (0, "exit")


@pytest.mark.parametrize("kind", ["idf.boot", "idf.flash"])
async def test_what_is_cancelled_before_its_job_takes_no_port_from_a_session(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: else nobody would come for the port for half a minute."""
    number, stage = await session(orchestrator, folder, board)
    starts = asyncio.Event()

    async def start(*_: object) -> None:
        starts.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(LocalHost, "start", start)
    images = [image.model_dump(mode="json") for image in await recorded(lay_out(folder / "build"))]
    params = {"project": str(folder), "build_dir": str(folder / "build"), "port": str(board.path), "images": images}
    plan = Plan(stages=(StageSpec(name="it", kind=kind, params=params, timeout_s=9),))
    build = (await orchestrator.start_plan(folder, plan, name="it", agreed=True)).build.id
    async with asyncio.timeout(LIMIT_S):
        await starts.wait()
        await orchestrator.cancel(build)
        await orchestrator.wait(build, LIMIT_S)
    host = orchestrator.host(stage.host)
    await monitor.reset(host, str((stage.resolved or {})["key"]))
    await logged(orchestrator, stage, "press its button")

    assert b"lent" not in await host.read_log(str(stage.job_id), 0)
    await orchestrator.cancel(number)


async def test_a_panic_fails_the_boot_with_its_addresses(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Issue: the panic, decoded as far as there is an ELF; here there is none, and that is said."""
    boot = await watch(orchestrator, folder, board, 15, build_dir=str(folder / "build"), target="esp32c3")
    await logged(orchestrator, await running(orchestrator, boot), "open at")
    await board.say(
        BOOT + b"abort() was called at PC 0x4200a1b2 on core 0\r\n"
        b"Core  0 register dump:\r\nMEPC    : 0x40380836  RA      : 0x4200a1b2\r\n\r\n"
        b"Stack memory:\r\n3fc8f000: 0x00000000 0x4200a1b2\r\n\r\nRebooting...\r\n"
    )
    said = await verdict(orchestrator, boot)
    view = await orchestrator.get(boot)

    assert (said.result, view.build.status) == ("fail", BuildStatus.FAILED)
    assert "abort" in said.summary
    assert "not decoded" in " ".join(said.details["panic"]["notes"])
    assert said.details["panic_report"][0].startswith("panic: ")
    assert said.details["notes"] == ["this port has no lines to reset the board with: press its button"]
    assert view.stages[0].exit_code is None  # the watch was ended because all was said: 143 would tell of nothing


async def test_a_panic_of_a_project_whose_elf_never_ends_is_judged_all_the_same(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Ours. What is named as the ELF is the project's word: here a FIFO that nobody writes to."""
    os.mkfifo(folder / "door.elf")
    (folder / "project_description.json").write_text(json.dumps({"target": "esp32c3", "app_elf": "door.elf"}))
    number = await watch(orchestrator, folder, board, 12, build_dir=str(folder))
    await logged(orchestrator, await running(orchestrator, number), "open at")
    await board.say(BOOT + b"abort() was called at PC 0x4200a1b2 on core 0\r\n\r\nRebooting...\r\n")

    said = await verdict(orchestrator, number)

    assert (said.result, said.summary) == ("fail", "abort() was called")
    assert "it is no file" in said.details["panic"]["notes"][-1]


async def test_a_board_that_is_pulled_out_fails_the_boot(
    orchestrator: Orchestrator, folder: Path, board: PtyBoard
) -> None:
    """Issue: port that vanishes. In the time of the watch only what was said before counts."""
    boot = await watch(orchestrator, folder, board, 20, seconds=1, expect=["x"])
    await logged(orchestrator, await running(orchestrator, boot), "open at")
    board.unplug()
    said = await verdict(orchestrator, boot)

    assert said.result in ("fail", "unknown")
    assert any("port gone" in note for note in said.details["notes"])


async def test_a_port_that_is_none_is_refused(orchestrator: Orchestrator, folder: Path) -> None:
    """Issue: no port. A pattern that is none, too, and before anything is touched."""
    plain = folder / "plain"
    plain.write_text("")
    params = {"project": str(folder), "port": str(plain)}
    wrong = StageSpec(name="boot", kind="idf.boot", params=params, timeout_s=10)
    bad = StageSpec(name="boot", kind="idf.boot", params={**params, "expect": ["("]}, timeout_s=10)
    first = await orchestrator.start_plan(folder, Plan(stages=(wrong,)), name="wrong")
    second = await orchestrator.start_plan(folder, Plan(stages=(bad,)), name="bad")

    assert "no serial port" in (await verdict(orchestrator, first.build.id)).summary
    assert "no regular expression" in (await verdict(orchestrator, second.build.id)).summary
    assert plain.stat().st_size == 0
