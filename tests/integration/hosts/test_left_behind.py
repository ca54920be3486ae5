"""What a job leaves running, and hosts without /proc."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.hosts import job as protocol
from mcp_server.hosts.base import ExitReason, Host, JobSpec, JobState
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.script import JOB, Script

Sh = Callable[..., JobSpec]
Log = Callable[[str], Awaitable[bytes]]

needs_flock = pytest.mark.skipif(shutil.which("flock") is None, reason="flock of util-linux is not installed")


@needs_flock
@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_a_daemon_does_not_keep_the_lock(host: Host, sh: Sh, gate: Any, tmp_path: Path) -> None:
    """Ours. A build starts a server for the next builds; it holds our descriptor and has a session of its own."""
    up = gate()
    build = str(tmp_path / "build")
    await host.start(sh("a", '(setsid sh -c "echo up >$1; exec sleep 3100" &); exit 4', up.path, lock=build))
    await up.line()
    async with asyncio.timeout(8):
        assert (await host.wait("a")).code == 4
        await host.start(sh("b", "echo ran", lock=build))
        assert (await host.wait("b")).code == 0
    carriers = 'grep -lszxF "BO_JOB=${BO_JOB%/*}/a" /proc/[0-9]*/environ | cut -d/ -f3'  # not another test's job a
    await host.start(sh("end", f"kill $({carriers})"))
    assert (await host.wait("end")).code == 0


@needs_flock
@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_a_forgotten_compiler_keeps_the_lock_and_is_named(
    host: Host, sh: Sh, gate: Any, log: Log, tmp_path: Path
) -> None:
    """Ours. The command forks away: its code is told at once and exactly; the folder stays locked until it is over."""
    up, go, build = gate(), gate(), str(tmp_path / "build")
    await host.start(sh("a", '(echo up >"$1"; read x <"$2"; echo late) & exit 4', up.path, go.path, lock=build))
    await up.line()
    async with asyncio.timeout(8):
        end = await host.wait("a")
        said = (await log("a")).decode()
        await host.start(sh("b", "echo ran", lock=build))
        async for piece in host.follow("b"):
            if b"waiting for" in piece:
                break
        assert (await host.status("b")).state is JobState.RUNNING
        go.open()
        assert (await host.wait("b")).code == 0
    assert (end.reason, end.code) == (ExitReason.EXIT, 4)
    assert said.startswith("build-orchestrator: the command has ended; left running in the background: ")


async def test_a_command_that_needs_a_terminal_is_told_by_its_own_error(host: Host, sh: Sh, log: Log) -> None:
    """Issue. There is none, and input is at its end: nothing waits for a person who is not there."""
    await host.start(sh("a", "tty; cat; read answer || echo no answer; exec 3</dev/tty"))
    async with asyncio.timeout(5):
        assert (await host.wait("a")).code != 0
    text = (await log("a")).decode()
    assert "not a tty" in text
    assert "no answer" in text
    assert "/dev/tty" in text


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch, jobs_dir: Path) -> LocalHost:
    """A host whose script finds no /proc, as on macOS."""
    blind = Script("job")
    blind.__dict__["text"] = JOB.text.replace(b"/proc/", b"/nonexistent/")
    monkeypatch.setattr(protocol, "JOB", blind)
    return LocalHost(jobs_dir)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_without_proc_jobs_run_end_and_are_cancelled(
    host: Host, without_proc: LocalHost, sh: Sh, gate: Any, tmp_path: Path
) -> None:
    """Issue. Known by their process group; macOS itself is not tested."""
    up = gate()
    async with asyncio.timeout(15):
        job = sh("a", "echo out; exit 7")
        assert await without_proc.start(job) is True
        assert (await without_proc.wait("a")).code == 7
        assert await without_proc.start(job) is False
        assert b"".join([piece async for piece in without_proc.follow("a")]) == b"out\n"
        await without_proc.start(sh("b", 'trap "" TERM; sleep 3100 & echo up >"$1"; wait', up.path))
        await up.line()
        assert (await without_proc.status("b")).state is JobState.RUNNING
        end = (await without_proc.kill("b", 0.2)).exit
        assert end and (end.reason, end.code) == (ExitReason.CANCELLED, 137)
        await without_proc.start(sh("c", "sleep 3100", timeout_s=0.5, grace_s=0.2))
        assert (await without_proc.wait("c")).reason is ExitReason.TIMEOUT
        await without_proc.remove("a")
        assert (await without_proc.kill("d")).state is JobState.ENDED
    await without_proc.aclose()
