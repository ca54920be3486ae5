"""Faults of the link to a host: no log byte is lost or doubled, the exit is exact, and nobody guesses meanwhile."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcp_server.config import Server
from mcp_server.errors import HostUnreachable
from mcp_server.hosts.base import ExitReason, JobSpec, JobState
from mcp_server.hosts.ssh import SshHost, SshOptions
from tests.integration.hosts.conftest import NO_SSHD, running
from tests.support.cuts import TICKS, Relay, Seen, follow_through, ticked
from tests.support.sshd import Sshd

pytestmark = NO_SSHD

Sh = Callable[..., JobSpec]
LINES = 300


@pytest.fixture
def server(tmp_path: Path) -> Any:
    yield from running(Sshd(tmp_path / "sshd"))


@pytest.fixture
async def relay(server: Sshd) -> AsyncIterator[Relay]:
    async with Relay(server.port).listening() as relay:
        server.configure(port=relay.port, HostKeyAlias="box")
        server.known_hosts.write_text("box " + server.known_hosts.read_text().split(" ", 1)[1])
        yield relay


@pytest.fixture
async def host(relay: Relay, server: Sshd, jobs_dir: Path) -> AsyncIterator[SshHost]:
    """Through the relay, with little patience."""
    options = SshOptions(
        ssh_config=server.ssh_config, keepalive_s=0.1, keepalives=2, connect_s=2, backoff_s=(0.02, 0.05)
    )
    host = SshHost("box", Server(host="box", jobs_dir=str(jobs_dir)), options=options)
    yield host
    relay.restore()
    async with asyncio.timeout(10):
        with suppress(HostUnreachable):
            for directory in jobs_dir.glob("*/[!.]*"):
                await host.kill(directory.name, grace_s=0)
        await host.aclose()


@pytest.fixture
def ticks(tmp_path: Path) -> JobSpec:
    """A job that writes for about a second, and ends with 7."""
    program = TICKS.format(count=LINES, pause=0.003, code=7)
    return JobSpec("a", [sys.executable, "-c", program], str(tmp_path))


async def began(seen: Seen) -> None:
    """Until the follower has seen something."""
    while not seen.size:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def through(host: SshHost, job: JobSpec, *steps: Callable[[], None], pause_s: float = 0.3) -> Seen:
    """Start the job, follow it, do the steps meanwhile."""
    seen = Seen()
    async with asyncio.timeout(20):
        await host.start(job)
        following = asyncio.create_task(follow_through(host, job.id, seen))
        await began(seen)
        for step in steps:
            step()
            await asyncio.sleep(pause_s)  # the length of the cut
        await following
    return seen


def exact(seen: Seen) -> None:
    assert (seen.size, seen.crc) == ticked(LINES)
    assert seen.end and (seen.end.reason, seen.end.code, seen.end.log_size) == (ExitReason.EXIT, 7, seen.size)


async def test_a_link_that_is_reset_costs_nothing(host: SshHost, relay: Relay, ticks: JobSpec) -> None:
    """Issue. Four times in a row."""
    exact(await through(host, ticks, *[relay.reset] * 4, pause_s=0.1))
    assert relay.connections > 3


async def test_a_short_cut_is_survived_by_the_same_connection(host: SshHost, relay: Relay, ticks: JobSpec) -> None:
    """Ours: shorter than the keepalives' patience."""
    exact(await through(host, ticks, relay.silence, relay.resume, pause_s=0.1))
    assert relay.connections == 1


async def test_a_nat_that_forgets_is_noticed(host: SshHost, relay: Relay, ticks: JobSpec) -> None:
    """Issue: no RST, nothing but silence; the keepalive ends it, and nothing is said of the job meanwhile."""
    seen = await through(host, ticks, relay.silence, relay.restore, pause_s=0.8)
    exact(seen)
    assert relay.connections >= 2


async def test_silence_alone_ends_a_wait(host: SshHost, relay: Relay, sh: Sh, gate: Any) -> None:
    """Issue: the keepalive, and nothing else, tells that the link is dead."""
    up = gate()
    async with asyncio.timeout(5):
        await host.start(sh("a", 'echo up >"$1"; sleep 3100', up.path))
        await up.line()
        waiting = asyncio.create_task(host.wait("a"))
        await host.status("a")
        relay.silence()
        with pytest.raises(HostUnreachable):
            await waiting
        relay.restore()
        assert (await host.status("a")).state is JobState.RUNNING


async def test_while_the_host_is_away_nothing_is_guessed(host: SshHost, relay: Relay, sh: Sh, gate: Any) -> None:
    """Issue: unreachable is neither lost nor running."""
    up = gate()
    async with asyncio.timeout(10):
        await host.start(sh("a", 'echo up >"$1"; sleep 3100', up.path))
        await up.line()
        waiting = asyncio.create_task(host.wait("a"))
        await asyncio.sleep(0)
        relay.refuse()
        relay.reset()
        for call in (host.status("a"), host.start(sh("b", "true")), host.read_log("a", 0), waiting):
            with pytest.raises(HostUnreachable):
                await call
        relay.restore()
        assert (await host.status("a")).state is JobState.RUNNING
        assert (await host.status("b")).state is JobState.ABSENT


async def test_a_server_killed_and_started_again_costs_nothing(
    host: SshHost, server: Sshd, ticks: JobSpec, relay: Relay
) -> None:
    """Issue: kill -9 of sshd and all its children."""
    exact(await through(host, ticks, server.kill, server.start))


async def test_a_rebooted_server_means_lost(host: SshHost, server: Sshd, sh: Sh, jobs_dir: Path) -> None:
    """Issue: sshd and every process of the job gone at once, then the server is back."""
    async with asyncio.timeout(10):
        await host.start(sh("a", "echo said; sleep 3100"))
        seen = Seen()
        following = asyncio.create_task(follow_through(host, "a", seen))
        await began(seen)
        server.kill()
        record = next(jobs_dir.glob("*/a"))
        for name, word in (("spec", 1), ("pid", 0)):
            os.kill(int((record / name).read_text().split()[word]), signal.SIGKILL)
        with pytest.raises(HostUnreachable):
            await host.status("a")
        server.start()
        await following
        assert seen.end and (seen.end.reason, seen.end.code) == (ExitReason.LOST, None)
        assert seen.size == len(b"said\n")
        assert (await host.status("a")).state is JobState.LOST


async def test_when_dns_is_gone_running_links_go_on(
    host: SshHost, server: Sshd, relay: Relay, sh: Sh, gate: Any
) -> None:
    """Issue: and after a cut it is said, until it is back."""
    up = gate()
    async with asyncio.timeout(10):
        await host.start(sh("a", 'echo up >"$1"; sleep 3100', up.path))
        await up.line()
        server.configure(HostName="no-such-host.invalid", HostKeyAlias="box")
        assert (await host.status("a")).state is JobState.RUNNING
        relay.reset()
        with pytest.raises(HostUnreachable, match="DNS"):
            await host.status("a")
        server.configure(port=relay.port, HostKeyAlias="box")
        assert (await host.status("a")).state is JobState.RUNNING


async def test_a_start_whose_answer_is_lost_is_not_a_second_one(
    host: SshHost, relay: Relay, sh: Sh, tmp_path: Path
) -> None:
    """Ours: the link goes at any moment of a start; asked again, the same call has started it once."""
    async with asyncio.timeout(20):
        for number in range(8):
            await host.status("warm-up")
            starting = asyncio.create_task(host.start(sh(f"a{number}", f"echo ran >>ran{number}")))
            await asyncio.sleep(number * 0.002)  # any moment
            relay.reset()
            assert await starting is True
            assert (await host.wait(f"a{number}")).code == 0
            assert (tmp_path / f"ran{number}").read_text() == "ran\n"


async def test_nothing_untrusted_stands_on_a_command_line(host: SshHost, sh: Sh, gate: Any) -> None:
    """Issue: neither the command nor the environment is seen by other users' ps, on either side of the link."""
    up, go = gate(), gate()
    secret = "hunter2hunter2"
    async with asyncio.timeout(10):
        await host.start(sh("a", f'echo up >"$1"; read x <"$2" # {secret[::-1]}', up.path, go.path, env={"T": secret}))
        await up.line()
        waiting = asyncio.create_task(host.wait("a"))
        await host.status("a")
        lines = [line for line in _command_lines() if str(secret) in line]
        assert lines == []
        own = [line for line in _command_lines() if secret[::-1] in line]
        assert all(line.startswith("/bin/sh -c echo up") for line in own), "the job's own process shows its arguments"
        go.open()
        assert (await waiting).code == 0


def _command_lines() -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
