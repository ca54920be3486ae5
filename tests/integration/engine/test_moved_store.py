"""A home that moves to another database while a job runs: the job is found again, and runs once."""

import asyncio
from pathlib import Path

import pytest

from mcp_server.backup.bring_back import restore
from mcp_server.backup.take import take
from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from tests.support.workers import end_everything, end_worker

pytestmark = pytest.mark.timeout(90)

PIPELINE = """
pipeline:
  name: long
  stages:
  - name: make
    server: local
    workdir: FOLDER
    command: "echo began >> began; while [ ! -e go ]; do sleep 0.05; done"
"""


async def test_a_job_that_runs_is_found_again_by_the_store_that_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    """Issue. `--resume`: the same store at another place; nothing is begun twice."""
    first = Orchestrator(load_config())
    text = PIPELINE.replace("FOLDER", str(tmp_path))
    try:
        started = await first.start_pipeline(await first.read_pipeline(text=text), tmp_path)
        while not (tmp_path / "began").exists():  # noqa: ASYNC110 - a job tells nobody
            await asyncio.sleep(0.02)
        end_worker(home)
        await take(first.config, await first.store(), SystemClock(), tmp_path / "b.tar.gz")
        await first.aclose()
        monkeypatch.setenv("BUILD_ORCHESTRATOR_DATABASE_URL", postgres_url)
        config = load_config()
        await restore(config, SystemClock(), tmp_path / "b.tar.gz", resume=True)
        second = Orchestrator(config)
        (tmp_path / "go").touch()
        view = await second.wait(started.build.id, 40)
        await second.aclose()
    finally:
        end_everything(home)

    assert (view.build.status, view.stages[0].attempt) == ("success", 1)
    assert (tmp_path / "began").read_text() == "began\n"
