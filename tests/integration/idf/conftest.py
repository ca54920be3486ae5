"""A board on a pty, and a host on which sessions with it are started as jobs."""

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from mcp_server.config import Server
from mcp_server.hosts.base import Exit, Host, JobSpec
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ports import lock_folder
from mcp_server.hosts.ssh import SshHost, SshOptions
from mcp_server.idf import monitor
from tests.support.pty_board import PtyBoard
from tests.support.sshd import Sshd, why_not
from tests.support.workers import end_everything

KEY = "board-1"
LIMIT_S = 15


class Bench:
    """A host with one board on it."""

    def __init__(self, host: Host, board: PtyBoard, folder: str) -> None:
        self.host, self.board, self.folder = host, board, folder
        self.far = not isinstance(host, LocalHost)

    def session(self, **more: object) -> monitor.Session:
        return monitor.Session(port=str(self.board.path), folder=self.folder, **more)  # type: ignore[arg-type]

    async def start(self, job: str = "m", text: str = "open at", **more: object) -> str:
        """A session; returns once its log says `text`."""
        argv = monitor.monitor_argv(self.session(**more), far=self.far)
        env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        await self.host.start(JobSpec(job, argv, "/", env))
        if text:
            await self.said(text, job=job)
        return job

    async def said(self, *texts: str, job: str = "m") -> bytes:
        """The log as soon as it has all of them, in this order."""
        log = b""
        async with asyncio.timeout(LIMIT_S):
            async for piece in self.host.follow(job):
                log += piece
                at = 0
                for text in texts:
                    at = log.find(text.encode(), at) + 1
                    if not at:
                        break
                else:
                    return log
        raise AssertionError(log[-3000:])

    async def log(self, job: str = "m") -> bytes:
        whole = b""
        while piece := await self.host.read_log(job, len(whole), 1 << 20):
            whole += piece
        return whole

    async def ended(self, job: str = "m") -> Exit:
        async with asyncio.timeout(LIMIT_S):
            return await self.host.wait(job)

    async def board_bytes(self, job: str = "m") -> bytes:
        """What of the log is the board's."""
        board = monitor.BoardBytes()
        return board.feed(await self.log(job)) + board.close()

    def is_locked(self) -> bool:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


@pytest.fixture
def board(tmp_path: Path) -> PtyBoard:
    return PtyBoard(tmp_path / "ttyBoard")


@pytest.fixture
async def bench(tmp_path: Path, home: Path, board: PtyBoard) -> AsyncIterator[Bench]:
    host = LocalHost(home / "jobs")
    yield Bench(host, board, lock_folder(await host.directory(), KEY))
    await clear_away(host, home)


@pytest.fixture(
    params=["local", pytest.param("ssh", marks=pytest.mark.skipif(bool(why_not()), reason=why_not() or ""))]
)
async def any_bench(
    request: pytest.FixtureRequest, tmp_path: Path, home: Path, board: PtyBoard
) -> AsyncIterator[Bench]:
    """On this machine, and on one behind a real sshd."""
    server: Sshd | None = None
    host: Host = LocalHost(home / "jobs")
    if request.param == "ssh":
        server = Sshd(tmp_path / "sshd")
        server.start()
        entry = Server(host="box", jobs_dir=str(home / "jobs"))
        host = SshHost("box", entry, options=SshOptions(ssh_config=server.ssh_config))
    yield Bench(host, board, lock_folder(await host.directory(), KEY))
    await clear_away(host, home)
    if server:
        server.kill()


async def clear_away(host: Host, home: Path) -> None:
    async with asyncio.timeout(10):
        for directory in (home / "jobs").glob("*/[!.]*"):
            await host.kill(directory.name, grace_s=0)
        await host.aclose()
    end_everything(home)


async def within(work: Awaitable[object], limit_s: float = 5) -> object:
    async with asyncio.timeout(limit_s):
        return await work
