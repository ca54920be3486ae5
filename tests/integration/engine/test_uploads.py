"""What a worker brings to the object store: behind a build's end, again after a failure, until it is old."""

import asyncio
import shutil
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mcp_server.backup.bring_back import restore
from mcp_server.backup.take import take
from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.engine.housekeeping import clean
from mcp_server.engine.services import Services
from mcp_server.errors import NotFound
from mcp_server.hosts.registry import Hosts
from mcp_server.orchestrator import Orchestrator
from mcp_server.secret_store import set_secret
from mcp_server.views import BuildView
from tests.support import extras
from tests.support.web_service import web_service

extras.need("obstore", "team")
extras.need("moto", "test")

from tests.support.s3 import S3, s3_server  # noqa: E402

pytestmark = [pytest.mark.timeout(60), pytest.mark.worker_inside]


class Later(SystemClock):
    """So many seconds on."""

    seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


PIPELINE = """
pipeline:
  name: pack
  stages:
  - {name: make, server: local, workdir: FOLDER, command: "echo firmware > a.bin", artifacts: [a.bin]}
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def home(home: Path, s3: S3) -> Path:
    """With an object store."""
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text(s3.config(", keep: 30d, keep_here: 1h"))
    set_secret(home / "secrets", "s3", "of-the-bucket")
    return home


async def packed(orchestrator: Orchestrator, folder: Path) -> BuildView:
    """A build that left one file."""
    pipeline = await orchestrator.read_pipeline(text=PIPELINE.replace("FOLDER", str(folder)))
    started = await orchestrator.start_pipeline(pipeline, folder)
    view = await orchestrator.wait(started.build.id, 30)
    assert view.build.status == "success"
    return view


async def stored(orchestrator: Orchestrator, build: int) -> None:
    """Once it is there: the worker notes it."""
    note = orchestrator.config.artifacts_dir / "stored" / str(build)
    while not note.exists():  # noqa: ASYNC110 - a worker tells nobody
        await asyncio.sleep(0.01)


async def test_a_build_is_stored_behind_its_end_and_read_from_there_when_it_is_gone_here(
    orchestrator: Orchestrator, tmp_path: Path, home: Path
) -> None:
    """Issue. Results outlive this machine's disk."""
    view = await packed(orchestrator, tmp_path)
    async with asyncio.timeout(20):
        await stored(orchestrator, view.build.id)
    shutil.rmtree(orchestrator.config.artifacts_dir / "builds")
    (tmp_path / "a.bin").unlink()

    assert await orchestrator.kept.content(view, "a.bin", 100) == b"firmware\n"
    async with web_service() as service:
        answer = await service.ask("GET", f"/api/builds/{view.build.id}/artifacts/make/a.bin")
        assert answer.status_code == 307
        read = await asyncio.to_thread(lambda: urllib.request.urlopen(answer.headers["location"]).read())
        assert read == b"firmware\n"
        assert (await service.ask("GET", f"/api/builds/{view.build.id}/artifacts/other")).status_code == 404
    assert "of-the-bucket" not in answer.headers["location"]
    checks = [check for check in await orchestrator.doctor() if check.name == "artifacts"]
    assert [check.found for check in checks] == ["s3://results/builds takes results"]


@pytest.mark.sqlite_only
async def test_a_restored_store_reads_results_of_the_one_it_was_restored_from(
    orchestrator: Orchestrator, tmp_path: Path, home: Path
) -> None:
    """Ours. It has a uuid of its own, and a place of its own in the bucket."""
    view = await packed(orchestrator, tmp_path)
    async with asyncio.timeout(20):
        await stored(orchestrator, view.build.id)
    await take(orchestrator.config, await orchestrator.store(), SystemClock(), tmp_path / "b.tar.gz", secrets=True)
    elsewhere = Orchestrator(load_config({"BUILD_ORCHESTRATOR_HOME": str(tmp_path / "other")}), environment={})
    await restore(elsewhere.config, SystemClock(), tmp_path / "b.tar.gz")

    assert await elsewhere.kept.content(view, "a.bin", 100) == b"firmware\n"
    with pytest.raises(NotFound):
        await elsewhere.kept.content(view, "b.bin", 100)
    await elsewhere.aclose()


async def test_a_store_that_is_away_costs_no_build_and_gets_everything_when_it_is_back(
    orchestrator: Orchestrator, tmp_path: Path, home: Path, s3: S3
) -> None:
    """Issue. A full or unreachable store, expired credentials: builds end all the same, and nothing is forgotten."""
    working = (home / "config.yaml").read_text()
    (home / "config.yaml").write_text(working.replace(s3.endpoint, "http://127.0.0.1:9"))
    view = await packed(orchestrator, tmp_path)
    await orchestrator.refresh()
    config = orchestrator.config
    services = Services(config, await orchestrator.store(), orchestrator.clock, Hosts(config, {}), {})
    assert list(services.uploads.waiting()) == [view.build.id]
    checks = [check for check in await orchestrator.doctor() if check.name == "artifacts"]
    assert "cannot be used to write results: it does not answer" in checks[0].found

    (home / "config.yaml").write_text(working)
    await services.refresh()
    assert await services.uploads.bring() == 1
    assert not services.uploads.waiting()
    assert await services.uploads.bring() == 0
    await services.aclose()


async def test_a_build_of_which_a_file_is_gone_stays_here_and_holds_up_no_other(
    orchestrator: Orchestrator, tmp_path: Path, home: Path, s3: S3
) -> None:
    """Ours. It is nowhere else, so `keep_here` does not take away what is left of it."""
    working = (home / "config.yaml").read_text()
    (home / "config.yaml").write_text(working.replace(s3.endpoint, "http://127.0.0.1:9"))
    broken, whole = await packed(orchestrator, tmp_path), await packed(orchestrator, tmp_path)
    builds = orchestrator.config.artifacts_dir / "builds"
    (builds / str(broken.build.id) / "make" / "a.bin").unlink()
    (home / "config.yaml").write_text(working)
    await orchestrator.refresh()
    clock = Later()
    clock.seconds = 2 * 3600
    services = Services(orchestrator.config, await orchestrator.store(), clock, Hosts(orchestrator.config, {}), {})
    assert await services.uploads.bring() == 1
    assert list(services.uploads.waiting()) == [broken.build.id]

    await clean(services)
    assert (builds / str(broken.build.id) / "manifest.json").exists()
    assert not (builds / str(whole.build.id)).exists()
    await services.aclose()


async def compared_with_one_that_is_here(orchestrator: Orchestrator, stored: int, folder: Path) -> None:
    """Issue. Any two builds, also where the files of one are in the object store only."""
    text = PIPELINE.replace("FOLDER", str(folder)).replace("echo firmware", "echo another firmware")
    started = await orchestrator.start_pipeline(await orchestrator.read_pipeline(text=text), folder)
    number = (await orchestrator.wait(started.build.id, 30)).build.id
    change = {"path": "a.bin", "change": "changed", "size": 17, "was": 9}
    async with web_service() as service:
        for one, other, file in (
            (number, stored, change),
            (stored, number, {**change, "size": 9, "was": 17}),
        ):
            told = (await service.ask("GET", f"/api/builds/{one}/compare?to={other}")).json()
            assert told == {"build": one, "to": other, "unchanged": 0, "files": [file], "sizes": []}
        same = (await service.ask("GET", f"/api/builds/{stored}/compare?to={stored}")).json()
        assert (same["unchanged"], same["files"]) == (1, [])
        assert (await service.ask("GET", f"/api/builds/{stored}/compare?to=99")).status_code == 404
        assert (await service.ask("GET", f"/api/builds/{stored}/compare?to=x")).status_code == 422
        assert (await service.ask("GET", f"/api/builds/{stored}/compare")).status_code == 422


async def test_what_is_old_goes_first_here_then_there_and_never_what_is_nowhere_else(
    orchestrator: Orchestrator, tmp_path: Path, home: Path
) -> None:
    """Ours. `keep_here` takes away only what is stored."""
    view = await packed(orchestrator, tmp_path)
    archive, number = orchestrator.config.artifacts_dir, view.build.id
    async with asyncio.timeout(20):
        await stored(orchestrator, number)
    (archive / "stored" / str(number)).unlink()
    clock = Later()
    clock.seconds = 2 * 3600
    services = Services(orchestrator.config, await orchestrator.store(), clock, Hosts(orchestrator.config, {}), {})
    services.leads = True  # also of several workers

    await clean(services)
    assert (archive / "builds" / str(number)).is_dir()
    await services.uploads.bring()
    await clean(services)
    assert not (archive / "builds" / str(number)).exists()
    assert await orchestrator.kept.content(view, "a.bin", 100) == b"firmware\n"
    await compared_with_one_that_is_here(orchestrator, number, tmp_path)

    clock.seconds = 31 * 86_400
    await clean(services)
    assert await services.uploads.clean(()) == 0
    async with web_service() as service:
        answer = await service.ask("GET", f"/api/builds/{number}/artifacts/make/a.bin")
    assert answer.status_code == 404
    await services.aclose()
