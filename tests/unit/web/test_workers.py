"""The workers over HTTP, of a home that has one of its own."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.support.web_service import web_service


@pytest.mark.sqlite_only
async def test_the_one_worker_of_a_home_is_told_from_its_lock(home: Path) -> None:
    """Issue: on SQLite the worker comes and goes with the work; elsewhere they say themselves that they are there."""
    async with web_service() as service:
        await service.orchestrator.store()
        assert (await service.ask("GET", "/api/workers")).json() == {
            "text": "no worker is running: one is started as soon as there is something to do",
            "workers": [],
        }
        lock = os.open(home / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.pwrite(lock, b"pid 7 version 1.2\n", 0)
            found = (await service.ask("GET", "/api/workers")).json()
            metrics = (await service.ask("GET", "/metrics")).text
        finally:
            os.close(lock)

    [only] = found["workers"]
    assert found["text"] == "1 worker (pid 7 version 1.2)"
    assert (only["state"], only["version"], only["builds"], only["seen_at"]) == ("serving", "1.2", 0, None)
    assert 'build_orchestrator_workers{state="serving"} 1\n' in metrics
    assert 'build_orchestrator_workers{state="away"} 0\n' in metrics
