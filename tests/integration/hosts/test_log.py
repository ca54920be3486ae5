"""Logs: read in pieces, followed live; every byte once."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import BadInput
from mcp_server.hosts.base import Host, JobSpec

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]
Processes = Callable[[], dict[int, str]]
Gone = Callable[[int], Awaitable[bool]]


async def followed(host: Host, job_id: str, offset: int = 0) -> bytes:
    async with asyncio.timeout(8):
        return b"".join([piece async for piece in host.follow(job_id, offset)])


async def test_a_log_read_in_pieces_has_every_byte_once(host: Host, sh: Sh) -> None:
    """Ours: pieces of 7 bytes cut lines and letters in two; none may be lost or seen twice."""
    await host.start(sh("a", "printf 'é%s\\n' 1 2 3; echo err >&2"))
    await host.wait("a")
    log = b""
    while piece := await host.read_log("a", offset=len(log), max_bytes=7):
        log += piece
    assert log == "é1\né2\né3\nerr\n".encode()


async def test_a_negative_offset_counts_from_the_end(host: Host, sh: Sh) -> None:
    """Ours: more than there is means all."""
    await host.start(sh("a", "printf 0123456789"))
    await host.wait("a")
    assert await host.read_log("a", -3) == b"789"
    assert await host.read_log("a", -3, max_bytes=2) == b"78"
    assert await host.read_log("a", -100) == b"0123456789"
    assert await host.read_log("a", 10) == await host.read_log("a", 999) == b""


async def test_a_running_jobs_log_can_be_read(host: Host, sh: Sh, gate: Any) -> None:
    """Ours: nothing yet is not the end."""
    up, go = gate(), gate()
    await host.start(sh("a", 'echo up >"$1"; read x <"$2"; echo said; echo up >"$1"; read x <"$2"', up.path, go.path))
    await up.line()
    assert await host.read_log("a", 0) == b""
    go.open()
    await up.line()
    assert await host.read_log("a", 0) == b"said\n"
    go.open()
    await host.wait("a")


async def test_following_gives_what_is_written_while_it_is_written(host: Host, sh: Sh, gate: Any) -> None:
    """Ours: and ends with the job."""
    go = gate()
    await host.start(sh("a", 'echo one; read x <"$1"; echo two; read x <"$1"; printf three', go.path))
    seen = b""
    async with asyncio.timeout(8):
        async for piece in host.follow("a"):
            seen += piece
            if seen.endswith(b"\n"):
                go.open()
    assert seen == b"one\ntwo\nthree"


async def test_binary_output_is_followed_exactly(host: Host, sh: Sh, tmp_path: Path, gate: Any) -> None:
    """Ours: NUL, 0xff, CR, escape sequences, no newline at the end; three followers at once, from three offsets."""
    data = os.urandom(300_000) + b"\x1b[31mred\x1b[0m\r\n\x00\xff\xfe end"
    (tmp_path / "data").write_bytes(data)
    go = gate()
    await host.start(sh("a", 'head -c 100001 data; read x <"$1"; tail -c +100002 data', go.path))
    offsets = (0, 77_777, 150_000)
    tasks = [asyncio.create_task(followed(host, "a", offset)) for offset in offsets]
    await host.status("a")
    go.open()
    assert [await task for task in tasks] == [data[offset:] for offset in offsets]


async def test_a_flood_is_followed_exactly(host: Host, sh: Sh, log: Log) -> None:
    """Ours: the tail is stopped before it has told all; what it left out is fetched."""
    await host.start(sh("a", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"))
    assert await followed(host, "a") == b"".join(b"line %d\n" % number for number in range(20_000))


async def test_the_log_of_an_ended_job_is_followed_to_its_end(host: Host, sh: Sh) -> None:
    """Ours: also from its very end, and beyond."""
    await host.start(sh("a", "echo hello"))
    await host.wait("a")
    assert [await followed(host, "a", offset) for offset in (0, 2, 6, 60)] == [b"hello\n", b"llo\n", b"", b""]
    with pytest.raises(BadInput):
        await followed(host, "a", -1)


async def test_a_follower_that_leaves_takes_its_helpers_along(
    host: Host, sh: Sh, gate: Any, processes: Processes, gone: Gone
) -> None:
    """Ours: no tail stays on the host, whether the task is cancelled or the loop is left."""
    up = gate()
    await host.start(sh("a", 'echo up; echo up >"$1"; exec sleep 3200', up.path))
    await up.line()
    before = set(processes())

    async with asyncio.timeout(8):
        async for piece in host.follow("a"):
            assert piece == b"up\n"
            assert len(set(processes()) - before) >= 2
            break

    for moment in range(10):
        task = asyncio.create_task(followed(host, "a", 3))
        await asyncio.sleep(moment / 1000)  # not to wait for anything, but to leave at any point of its start
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [line for pid, line in processes().items() if pid not in before and not await gone(pid)] == []


async def test_followers_and_waiters_of_a_dead_client_end(
    host: Host, sh: Sh, gate: Any, processes: Processes, gone: Gone, jobs_dir: Path, tmp_path: Path
) -> None:
    """Ours: kill -9 of the client leaves the job and nothing else."""
    up = gate()
    await host.start(sh("a", 'echo up; echo up >"$1"; exec sleep 3200', up.path))
    await up.line()
    before = set(processes())
    program = f"""
import asyncio, pathlib
from mcp_server.hosts.local import LocalHost
async def main():
    host = LocalHost(pathlib.Path({str(jobs_dir)!r}))
    waiting = asyncio.create_task(host.wait("a"))
    async for piece in host.follow("a"):
        print(piece, flush=True)
asyncio.run(main())
"""
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert client.stdout
    async with asyncio.timeout(8):
        await client.stdout.readline()
    helpers = set(processes()) - before - {client.pid}
    assert len(helpers) >= 3
    client.kill()
    await client.wait()
    assert [pid for pid in helpers if not await gone(pid)] == []
    await client.communicate()
    await host.kill("a", 0)
