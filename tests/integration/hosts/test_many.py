"""Many jobs at once through one multiplexer."""

import asyncio
from collections.abc import Callable
from typing import Any

from mcp_server.hosts.base import Host, JobSpec

Sh = Callable[..., JobSpec]
Processes = Callable[[], dict[int, str]]


async def test_forty_jobs_at_once(host: Host, sh: Sh, gate: Any) -> None:
    """Ours: all codes exact, all awaited before the first ends. Two hundred: python -m benchmarks.ssh."""
    go = gate()
    jobs = [sh(f"a{number}", 'read x <"$1"; exit "$2"', go.path, number) for number in range(40)]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(host.start(job) for job in jobs)) == [True] * 40
        waits = [asyncio.create_task(host.wait(job.id)) for job in jobs]
        await host.status("a0")
        go.open(40)
        assert [(await wait).code for wait in waits] == list(range(40))


async def test_one_process_serves_them_all(host: Host, sh: Sh, gate: Any, processes: Processes) -> None:
    """Ours: one multiplexer, and one sleeping helper for each job that is waited for, however many wait for it."""
    go = gate()
    async with asyncio.timeout(10):
        for number in range(10):
            await host.start(sh(f"a{number}", 'read x <"$1"', go.path))
        waits = [asyncio.create_task(host.wait(f"a{number}")) for number in range(10) for _ in range(7)]
        await host.status("a0")
        helpers = [line for line in processes().values() if line.endswith(" serve ")]
        go.open(10)
        assert {(await wait).code for wait in waits} == {0}
    assert len(helpers) <= 1 + 10 + 1  # the last may still be forking
