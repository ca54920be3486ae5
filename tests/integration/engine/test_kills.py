"""Nothing is lost whatever dies: fronts, workers and supervisors are killed at seeded random moments."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.faults import processes_with, torment
from tests.support.workers import end_worker


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    """The timer of a killed supervisor still waits for the end of its job's time, two hours: it is not waited for."""
    yield
    end_worker(home)
    for pid in processes_with(str(home / "jobs")):
        with suppress(psutil.NoSuchProcess):
            timer = psutil.Process(pid)
            for process in (timer, *timer.children(recursive=True)):
                process.kill()


@pytest.mark.timeout(100)
async def test_kills_lose_no_build_and_start_no_job_twice(home: Path) -> None:
    """Design. A few of each; the long run, a thousand kills, is benchmarks/faults.py."""
    report = await torment(home, kills=8, count=7, seed=1, longest_s=1.5, limit_s=60)

    assert report.broken == []
    assert sum(report.kills.values()) == 8
    assert set(report.kills) == {"front", "worker", "supervisor"}
