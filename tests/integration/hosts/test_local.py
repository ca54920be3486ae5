"""What only this machine's make of the Host port has."""

import asyncio
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
