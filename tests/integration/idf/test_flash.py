"""Boards flashed through a worker: the real esptool, and a virtual chip on a pty."""

import asyncio
import os
import pty
import tty
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_server.demo.chip.client import RunningChip, VirtualChip
from mcp_server.hosts.local import LocalHost
from mcp_server.idf import flash_log
from mcp_server.model import BuildStatus, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.orchestrator import Orchestrator
from mcp_server.report import build_report
from mcp_server.views import BuildView
from tests.support.faults import processes_with
from tests.support.flashable import lay_out, program, recorded

pytestmark = pytest.mark.worker_inside

WAIT_S = 25


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "door-lock" / "build", app=program(60_000))


async def start(orchestrator: Orchestrator, build_dir: Path, port: str | None, **params: Any) -> int:
    """The number of a build that flashes what lies there."""
    images = [artifact.model_dump(mode="json") for artifact in await recorded(build_dir)]
    given = {"project": str(build_dir.parent), "build_dir": str(build_dir), "port": port, "images": images, "build": 42}
    timeout_s = params.pop("timeout_s", 20)
    stage = StageSpec(name="flash", kind="idf.flash", params=given | params, timeout_s=timeout_s)
    started = await orchestrator.start_plan(build_dir.parent, Plan(stages=(stage,)), name="flash", agreed=True)
    return started.build.id


async def flash(orchestrator: Orchestrator, build_dir: Path, port: str | None, **params: Any) -> BuildView:
    return await orchestrator.wait(await start(orchestrator, build_dir, port, **params), WAIT_S)


def verdict_of(view: BuildView | Stage) -> Verdict:
    stage = view if isinstance(view, Stage) else view.stages[-1]
    assert stage.verdict is not None
    return stage.verdict


def holds(chip: RunningChip, build_dir: Path) -> bool:
    """Whether the flash has every image at its address, byte for byte."""
    flash = chip.flash
    app = (build_dir / "door-lock.bin").read_bytes()
    table = (build_dir / "partition_table" / "partition-table.bin").read_bytes()
    return flash[0x10000:].startswith(app) and flash[0x8000:].startswith(table)


@contextmanager
def mute_port() -> Generator[str]:
    """A port behind which nothing ever answers."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    os.close(slave)
    try:
        yield name
    finally:
        os.close(master)


async def test_every_image_is_written_verified_and_read_back_the_same(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. The real esptool; pass only with each hash verified."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)

        verdict = verdict_of(view)
        assert view.build.status is BuildStatus.SUCCESS, verdict
        assert holds(chip, build_dir)
    assert [image["verified"] for image in verdict.details["images"]] == [True] * 3
    assert verdict.details["board"] == "written"
    assert verdict.details["mac"]
    assert verdict.summary.startswith("3 images of build 42, ")
    assert verdict.summary.endswith(f" kB written to {chip.port} and verified")
    assert len(view.stages) == 1


async def test_a_wrong_chip_is_named_and_not_touched_and_not_tried_again(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", chip="esp32s3").running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)
        assert set(chip.flash) == {0xFF}

    verdict = verdict_of(view)
    assert len(view.stages) == 1
    assert verdict.details["cause"] == "wrong_chip"
    assert "the board has an ESP32-S3, the build is for ESP32-C3" in verdict.summary
    assert verdict.summary.endswith("the board was not touched")
    assert "last lines" not in build_report(view)


async def test_a_board_with_less_flash_than_the_build_is_for_is_no_success(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. The images fit, but what the firmware takes for its flash is not there; esptool only warns."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", flash_size="1MB").running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)

    verdict = verdict_of(view)
    assert (verdict.result, verdict.details["cause"], len(view.stages)) == ("fail", "flash_size", 1)
    assert verdict.summary == (
        "the board has 1MB of flash, the build is for 2MB: set CONFIG_ESPTOOLPY_FLASHSIZE_1MB and build again; "
        "all was written and verified"
    )


async def test_a_write_that_fails_is_made_again_without_the_loader_and_both_are_kept(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. A stub may fail where the chip's own loader does not."""
    faults = ("stub-write-fails=20000",)
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", faults=faults).running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)
        assert view.build.status is BuildStatus.SUCCESS, verdict_of(view)
        assert holds(chip, build_dir)

    first, second = (verdict_of(stage) for stage in view.stages)
    assert (first.result, first.details["again"], first.details["board"]) == ("fail", True, "partly written")
    assert second.result == "pass"
    assert second.details["without_loader"]
    assert (view.stages[1].resolved or {})["careful"] is True


async def test_a_second_attempt_that_may_not_be_made_keeps_what_the_first_one_left_of_the_board(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Ours. For programs, too: a board is in some state, whatever the last attempt was refused for."""
    faults = ("stub-write-fails=20000",)
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", faults=faults).running() as chip:
        number = await start(orchestrator, build_dir, chip.port)
        await chip.wait_for("opened")
        (build_dir / "door-lock.bin").write_bytes(b"another build's")
        view = await orchestrator.wait(number, WAIT_S)

    assert len(view.stages) == 2
    verdict = verdict_of(view)
    assert "is not what build 42 made: build again; from the attempt before, the board is partly" in verdict.summary
    assert verdict.details == {"board": "partly written"}


async def test_a_silence_in_mid_write_is_not_waited_out_and_the_board_is_written_without_the_loader(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. Here sooner than esptool's own limit of 3 s for an answer, as that does not always come."""
    monkeypatch.setattr(flash_log, "SILENT_S", 1)
    faults = ("stub-write-stalls=20000",)
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", faults=faults).running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)
        assert view.build.status is BuildStatus.SUCCESS, verdict_of(view)
        assert holds(chip, build_dir)

    first, second = view.stages
    assert verdict_of(first).summary.startswith(
        "esptool said nothing for 1 s while writing door-lock.bin; the board is"
    )
    assert verdict_of(second).details["without_loader"]


async def test_a_board_that_cannot_be_written_fails_after_two_attempts_and_is_not_to_be_trusted(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue."""
    async with (
        asyncio.timeout(WAIT_S),
        VirtualChip(tmp_path / "flash", faults=("write-fails=20000",)).running() as chip,
    ):
        view = await flash(orchestrator, build_dir, chip.port)

    assert len(view.stages) == 2
    assert "the board is partly written: do not trust what it runs" in verdict_of(view).summary
    assert view.build.status is BuildStatus.FAILED


async def test_what_is_read_back_differently_is_no_success(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. All images verified, or it is a failure."""
    faults = ("md5-mismatch=2", "md5-mismatch=5")
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", faults=faults).running() as chip:
        view = await flash(orchestrator, build_dir, chip.port)

    assert [verdict_of(stage).details["cause"] for stage in view.stages] == ["md5", "md5"]
    assert "do not trust what it runs" in verdict_of(view).summary


async def mid_write(orchestrator: Orchestrator, number: int) -> BuildView:
    """Returns while the app is being written."""
    seen: asyncio.Future[BuildView] = asyncio.get_running_loop().create_future()

    async def look(view: BuildView) -> None:
        told = view.stages[-1].progress if view.stages else None
        if told and told.message.startswith("writing door-lock.bin") and told.done > 40 and not seen.done():
            seen.set_result(view)

    watching = asyncio.create_task(orchestrator.wait(number, WAIT_S, look))
    try:
        return await seen
    finally:
        watching.cancel()
        await asyncio.wait({watching})


@pytest.mark.parametrize("by", ["cancel", "a kill of its job"])
async def test_a_flash_ended_in_mid_write_leaves_no_esptool_and_the_next_one_makes_the_board_whole(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path, by: str
) -> None:
    """Issue. Where a verdict is given, it says that the board is partly written."""
    lay_out(build_dir, app=program(300_000))
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash", faults=("slow=2000000",)).running() as chip:
        number = await start(orchestrator, build_dir, chip.port)
        job_id = (await mid_write(orchestrator, number)).stages[-1].job_id
        assert job_id is not None
        if by == "cancel":
            await orchestrator.cancel(number)
        else:
            host = LocalHost(orchestrator.config.jobs_dir)
            await host.kill(job_id)
            await host.aclose()
        view = await orchestrator.wait(number, WAIT_S)
        assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []
        assert view.stages[-1].status is StageStatus.CANCELLED
        summary = verdict_of(view).summary
        assert summary.startswith("cancelled while writing door-lock.bin: the board is partly written"), summary

        whole = await flash(orchestrator, build_dir, chip.port)
        assert whole.build.status is BuildStatus.SUCCESS, verdict_of(whole)
        assert holds(chip, build_dir)


async def test_a_file_that_changed_since_the_build_is_never_flashed(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. Checked by hash before the port is opened."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        images = [artifact.model_dump(mode="json") for artifact in await recorded(build_dir)]
        app = build_dir / "door-lock.bin"
        app.write_bytes(app.read_bytes()[:-1] + b"?")
        view = await flash(orchestrator, build_dir, chip.port, images=images)
        assert set(chip.flash) == {0xFF}

    assert verdict_of(view).summary == "build/door-lock.bin is not what build 42 made: build again"
    assert view.stages[0].job_id is None


async def test_a_file_that_is_replaced_while_esptool_starts_is_not_written(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. What is called verified is what was built."""
    app = build_dir / "door-lock.bin"
    good, other = app.read_bytes(), (lay_out(tmp_path / "other", app=program(90_000, seed=9)) / app.name).read_bytes()
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        number = await start(orchestrator, build_dir, chip.port)
        await chip.wait_for("opened")
        app.write_bytes(other)
        view = await orchestrator.wait(number, WAIT_S)
        assert view.build.status is BuildStatus.SUCCESS, verdict_of(view)
        assert chip.flash[0x10000:].startswith(good)
    assert list((orchestrator.config.jobs_dir).glob("*/.ports/*/images")) == []


async def test_erase_leaves_nothing_of_what_was_there(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue. Only when asked; without it other parts of the flash stay."""
    flash_file = tmp_path / "flash"
    flash_file.write_bytes(b"\x5a" * (4 << 20))
    async with asyncio.timeout(WAIT_S), VirtualChip(flash_file).running() as chip:
        kept = await flash(orchestrator, build_dir, chip.port)
        assert chip.flash[-4096:] == b"\x5a" * 4096
        erased = await flash(orchestrator, build_dir, chip.port, erase=True)
        assert chip.flash[-4096:] == b"\xff" * 4096
        assert holds(chip, build_dir)

    assert [view.build.status for view in (kept, erased)] == [BuildStatus.SUCCESS] * 2
