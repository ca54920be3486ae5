"""Nothing is lost whatever dies: fronts, workers and supervisors are killed at seeded random moments."""

from pathlib import Path

import pytest

from tests.support.faults import torment


@pytest.mark.timeout(150)
async def test_twenty_kills_lose_no_build_and_start_no_job_twice(tmp_path: Path) -> None:
    """Design. The long run, a thousand kills, is benchmarks/faults.py."""
    report = await torment(tmp_path / "home", kills=20, count=12, seed=1, longest_s=2.5, limit_s=120)

    assert report.broken == []
    assert sum(report.kills.values()) == 20
    assert set(report.kills) == {"front", "worker", "supervisor"}
