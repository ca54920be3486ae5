"""A pipeline's flash writes what its own build stage recorded, and nothing that took its place since."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.demo.chip import VirtualChip
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageSpec, StageStatus, Verdict
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds
from tests.support.flashable import lay_out, recorded
from tests.support.workers import end_everything

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
WAIT_S = 25


@pytest_asyncio.fixture
async def orchestrator(home: Path) -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(load_config())
    yield orchestrator
    await orchestrator.aclose()
    end_everything(home)


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "door-lock" / "build")


async def built_and_not_flashed(orchestrator: Orchestrator, plan: Plan, build_dir: Path) -> int:
    """A build as a worker leaves it whose first stage passed and whose flash failed."""
    artifacts, store = tuple(await recorded(build_dir)), await orchestrator.store()

    def statements(c: builds.sa.Connection) -> Build:
        project = builds.ensure_project(c, str(build_dir.parent), "door-lock", NOW)
        build, _ = builds.insert_build(c, project, plan, name="p", args_key="k", now=NOW)
        row = Stage(
            build=build.id,
            stage="build",
            kind="idf.build",
            host="local",
            status=StageStatus.SUCCESS,
            resolved={"build_dir": str(build_dir)},
            verdict=Verdict(result="pass", artifacts=artifacts),
        )
        builds.put_stage(c, row, NOW)
        builds.end_build(c, build.id, BuildStatus.FAILED, "exit", NOW)
        return build

    return (await store.write(statements)).id


@pytest.mark.parametrize("changed", [False, True])
async def test_a_retried_flash_writes_what_the_first_build_made_or_nothing(
    changed: bool, orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Issue: never from a stale build. The plan names no images: only the record of the stage before does."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        params = {"project": str(build_dir.parent), "build_dir": str(build_dir), "port": chip.port}
        build = StageSpec(name="build", kind="idf.build", params=params)
        flash = StageSpec(name="flash", kind="idf.flash", params=params, depends_on=("build",), timeout_s=20)
        number = await built_and_not_flashed(orchestrator, Plan(stages=(build, flash)), build_dir)
        if changed:
            (build_dir / "door-lock.bin").write_bytes(b"another build's")
        started = await orchestrator.retry(number, agreed=True)
        view = await orchestrator.wait(started.build.id, WAIT_S)
        written = set(chip.flash) != {0xFF}

    verdict = view.stages[-1].verdict
    assert verdict is not None
    assert [stage.stage for stage in view.stages] == ["flash"]
    if changed:
        assert (written, view.build.status) == (False, BuildStatus.FAILED)
        assert verdict.summary == f"build/door-lock.bin is not what build {number} made: build again"
    else:
        assert (written, view.build.status) == (True, BuildStatus.SUCCESS), verdict


async def test_a_flash_that_comes_after_nothing_writes_the_last_recorded_build_or_nothing(
    orchestrator: Orchestrator, build_dir: Path, tmp_path: Path
) -> None:
    """Ours. A file of a pipeline without a build stage is no way around the record."""
    async with asyncio.timeout(WAIT_S), VirtualChip(tmp_path / "flash").running() as chip:
        params = {"project": str(build_dir.parent), "build_dir": str(build_dir), "port": chip.port}
        plan = Plan(stages=(StageSpec(name="flash", kind="idf.flash", params=params, timeout_s=20),))

        async def flashed() -> tuple[BuildStatus, str]:
            started = await orchestrator.start_plan(build_dir.parent, plan, name="flash", agreed=True)
            view = await orchestrator.wait(started.build.id, WAIT_S)
            assert view.stages[0].verdict is not None
            return view.build.status, view.stages[0].verdict.summary

        status, summary = await flashed()
        assert status is BuildStatus.FAILED
        assert summary == f"no build in {build_dir} is recorded: build it first, in this pipeline or by idf_build"
        assert set(chip.flash) == {0xFF}

        number = await built_and_not_flashed(orchestrator, plan, build_dir)
        status, summary = await flashed()
        assert (status, f"images of build {number}, " in summary) == (BuildStatus.SUCCESS, True)
