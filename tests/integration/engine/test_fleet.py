"""Fifty simulated hosts, a thousand stages, workers that die in the middle of anything: a small fleet benchmark."""

import argparse
import asyncio
from pathlib import Path

import pytest

from benchmarks.fleet import LIMIT, run

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("seed", [1])
async def test_a_fleet_that_breaks_all_the_time_loses_nothing_and_does_nothing_twice(home: Path, seed: int) -> None:
    """Issue: lost and doubled are 0, and the makespan is at most 1.1 times the bound; hosts, jobs and workers fail."""
    options = argparse.Namespace(hosts=50, stages=1000, hours=4, seed=seed, load=0.85, kills=12, burst=False)
    async with asyncio.timeout(100):
        found = await run(options, home / "fleet")

    assert not any(found.wrong.values()), found.wrong
    assert found.deaths >= 8
    assert found.ends["success"] > 100
    assert found.ends["failed"]
    assert found.ratio <= LIMIT


async def test_of_builds_that_come_in_at_once_the_urgent_go_first(home: Path) -> None:
    """Issue: priorities; a worker that dies in between forgets none."""
    options = argparse.Namespace(hosts=30, stages=500, hours=3, seed=1, load=0.85, kills=3, burst=True)
    async with asyncio.timeout(100):
        found = await run(options, home / "fleet")

    assert not any(found.wrong.values()), found.wrong
    assert found.ends == {"success": 84}
    assert found.ratio <= LIMIT
    assert found.urgent < 0.1
