"""What only this machine's make of the Host port has."""

import asyncio
import gc
from pathlib import Path

from mcp_server.hosts.local import LocalShell
from mcp_server.hosts.script import JOB


async def test_a_cancelled_close_leaves_the_channel_to_who_closes_it_too(jobs_dir: Path) -> None:
    """Ours. The end of the process was a future, and one waiter's cancellation took it from everybody."""
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    shell = LocalShell(jobs_dir, "local", ("sh",), "/usr/bin:/bin")
    await shell.install(JOB)
    channel = await shell.open(JOB, "serve")
    assert (await channel.readline()).startswith(b"ready")

    first, second = (asyncio.create_task(channel.close()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(5):
        await second

    assert first.cancelled()
    assert errors == []


async def test_nothing_of_a_closed_channel_waits_for_a_search_for_garbage(jobs_dir: Path) -> None:
    """Ours. Each job's follower left its pipes in a ring: thousands of them lay about in a worker's memory."""
    shell = LocalShell(jobs_dir, "local", ("sh",), "/usr/bin:/bin")
    await shell.install(JOB)
    gc.collect()
    gc.disable()
    try:
        before = pipes()
        channel = await shell.open(JOB, "serve")
        assert (await channel.readline()).startswith(b"ready")
        assert pipes() > before
        await channel.end_input()
        await channel.close()
        del channel
        async with asyncio.timeout(5):
            while pipes() > before:  # noqa: ASYNC110 - the loop still has to tell each pipe of its end
                await asyncio.sleep(0)
    finally:
        gc.enable()


def pipes() -> int:
    kinds = (asyncio.SubprocessTransport, asyncio.ReadTransport, asyncio.StreamReader, asyncio.StreamWriter)
    return sum(isinstance(one, kinds) for one in gc.get_objects())
