"""The seed's own configuration and pipeline on three real machines, with a real worker between."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.model import BuildStatus, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.orders import RemoteAsk
from mcp_server.views import BuildView
from tests.support.far_machine import why_not
from tests.support.farm import SERVERS, Farm
from tests.support.seed_config import SEED
from tests.support.workers import end_everything, end_worker

PIPELINE = Path(__file__).parents[3] / "examples" / "ccu2-full-build.yaml"

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def farm(tmp_path: Path, home: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path / "farm", tmp_path / "user")
    (home / "config.yaml").write_text(SEED)
    farm.start()
    yield farm
    farm.power_off()


@pytest.fixture
async def far(farm: Farm, home: Path) -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(load_config())
    yield orchestrator
    await orchestrator.aclose()
    end_everything(home)


def told(view: BuildView) -> dict[str, tuple[str, str]]:
    return {row.stage: (row.host, row.status) for row in view.stages}


async def test_the_seeds_pipeline_runs_unchanged_on_three_servers(far: Orchestrator, farm: Farm, home: Path) -> None:
    """Seed. config.yaml and pipeline are the user's own text."""
    async with asyncio.timeout(60):
        pipeline = await far.read_pipeline(path=str(PIPELINE))
        started = await far.start_pipeline(pipeline, PIPELINE.parent)
        view = await far.wait(started.build.id, 50)

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert told(view) == {
        "yocto-image": ("yocto-builder", "success"),
        "host-build": ("ccu2-builder", "success"),
        "integration-test": ("test-runner", "success"),
    }
    built = farm.machines["yocto-builder"].path(SERVERS["yocto-builder"][2]) / "out" / "image.bin"
    assert built.read_text() == "image\n"
    log = (await far.log(view.build.id, "yocto-image")).text.splitlines()
    assert log[0] == "build.py -ncpb -j 16 -p 16"
    assert log[2] == "build"
    assert log[3].split()[0] == "/home/build"
    manifest = json.loads((Path(view.build.artifacts_path or "") / "manifest.json").read_text())
    assert manifest["status"] == "success"


async def test_a_failed_stage_is_run_once_more_and_its_error_is_named(far: Orchestrator, farm: Farm) -> None:
    """Seed: on_failure: retry: 1; defaults: retry: 1. A diagnosed error is not retried for itself."""
    script = farm.machines["ccu2-builder"].path(SERVERS["ccu2-builder"][2]) / "build.py"
    script.write_text(
        '#!/bin/sh\necho "CMake Error at container-manager/CMakeLists.txt:3 (add_library):"\necho\nexit 1\n'
    )
    async with asyncio.timeout(60):
        pipeline = await far.read_pipeline(path=str(PIPELINE))
        started = await far.start_pipeline(pipeline, PIPELINE.parent)
        view = await far.wait(started.build.id, 50)

    assert view.build.status is BuildStatus.FAILED
    rows = [row for row in view.stages if row.stage == "host-build"]
    assert [row.status for row in rows] == [StageStatus.FAILED, StageStatus.FAILED]
    assert rows[-1].verdict
    assert rows[-1].verdict.diagnosis
    assert rows[-1].verdict.diagnosis.errors[0].file == "container-manager/CMakeLists.txt"
    assert [row.status for row in view.stages if row.stage == "integration-test"] == [StageStatus.SKIPPED] * 2


async def test_a_server_that_is_restarted_loses_its_job_and_the_record_says_so(far: Orchestrator, farm: Farm) -> None:
    """Issue: server rebooted. While it is down nothing is claimed; then the job is lost, never running for ever."""
    async with asyncio.timeout(60):
        started = await far.start_remote(RemoteAsk("yocto-builder", command="echo begun; sleep 600"))
        await far.wait(started.build.id, 0)
        # A job that was not seen there may never have begun, and is started again.
        while not any((row.resolved or {}).get("started") for row in (await far.get(started.build.id)).stages):
            await far.wait(started.build.id, 0.2)
        farm.machines["yocto-builder"].power_off()
        while not any(row.unreachable_since for row in (await far.get(started.build.id)).stages):
            await far.wait(started.build.id, 0.5)
        farm.machines["yocto-builder"].start()
        view = await far.wait(started.build.id, 50)

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "lost")


async def test_a_job_goes_on_while_its_worker_is_killed(far: Orchestrator, farm: Farm, home: Path) -> None:
    """Design. Another worker finds the far job and has its exact end, once."""
    async with asyncio.timeout(60):
        started = await far.start_remote(RemoteAsk("ccu2-builder", command="echo $$; sleep 3; echo over; exit 7"))
        while not any(row.status is StageStatus.RUNNING for row in (await far.get(started.build.id)).stages):
            await far.wait(started.build.id, 0.2)
        end_worker(home, 9)
        view = await far.wait(started.build.id, 50)

    assert [(row.exit_code, row.attempt) for row in view.stages] == [(7, 1)]
    lines = (await far.log(view.build.id)).text.split()
    assert lines[1:] == ["over"]


async def test_a_tree_is_brought_and_what_was_built_comes_back(far: Orchestrator, farm: Farm, tmp_path: Path) -> None:
    """Issue: remote build, local files."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "main.c").write_text("int main(void) { return 0; }\n")
    async with asyncio.timeout(60):
        ask = RemoteAsk(
            "test-runner",
            command="mkdir out && cp main.c out/main.bin && echo $TOKEN",
            workdir="/home/test/tree",
            project=str(project),
            artifacts=("out/*.bin",),
            env={"TOKEN": "a b'c"},
        )
        started = await far.start_remote(ask)
        view = await far.wait(started.build.id, 50)

    assert view.build.status is BuildStatus.SUCCESS, view.build.build_output
    assert [artifact.path for artifact in view.artifacts] == ["out/main.bin"]
    kept = far.config.artifacts_dir / "builds" / str(view.build.id) / "build" / "out" / "main.bin"
    assert kept.read_text() == "int main(void) { return 0; }\n"
    assert (await far.log(view.build.id)).text.strip() == "a b'c"


async def test_hosts_are_looked_at_together_and_one_that_is_down_says_so(far: Orchestrator, farm: Farm) -> None:
    """Issue: the tool `hosts`."""
    farm.machines["test-runner"].power_off()
    async with asyncio.timeout(30):
        views = {view.name: view for view in await far.look_at_hosts()}

    assert list(views) == ["local", *SERVERS]
    assert views["yocto-builder"].facts
    assert views["yocto-builder"].facts.cpus > 0
    assert views["test-runner"].facts is None
    assert "refuses the connection" in views["test-runner"].trouble
