"""The serial monitor's port: held, lent to a flash, pulled out, not there."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.errors import HostError
from mcp_server.hosts.base import JobSpec
from mcp_server.idf import monitor
from tests.integration.idf.conftest import KEY, Bench, within

# -- who has the port --------------------------------------------------------------------------------------------------


async def test_a_second_session_is_told_who_has_the_port(bench: Bench) -> None:
    """Issue: a second session is told who holds the port."""
    await bench.start()
    await bench.start("second", text="")
    end = await bench.ended("second")
    owner = await monitor.owner(bench.host, KEY)

    assert end.code == 3
    assert owner is not None
    assert (owner.job, owner.purpose, owner.lent) == ("m", "monitor", "")
    said = (await bench.log("second")).decode()
    assert "is held by a monitor since" in said
    assert f"(process {owner.pid}, job m): close it first" in said
    assert await monitor.close(bench.host, KEY)
    assert (await bench.ended()).code == 0


async def test_a_program_that_is_not_ours_is_named(bench: Bench) -> None:
    """Issue: ports of processes that are not ours are recognised and named."""
    descriptor = os.open(bench.board.path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    await bench.start(text="")
    end = await bench.ended()
    os.close(descriptor)

    assert end.code == 3
    assert f"(process {os.getpid()}): close it first" in (await bench.log()).decode()


async def test_a_monitor_that_was_killed_leaves_the_port_to_the_next(bench: Bench) -> None:
    """Issue: a crashed holder frees it."""
    await bench.start()
    owner = await monitor.owner(bench.host, KEY)
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    await bench.ended()

    assert not bench.is_locked()
    assert await monitor.owner(bench.host, KEY) is None
    assert not await within(monitor.keep(bench.host, KEY), 1)
    await bench.start("next")
    assert await monitor.close(bench.host, KEY)
    assert (await bench.ended("next")).code == 0


async def test_one_that_does_not_read_its_commands_is_told_apart(bench: Bench) -> None:
    """Ours: bounded, also where the process is stopped. Two seconds."""
    await bench.start()
    owner = await monitor.owner(bench.host, KEY)
    assert owner is not None
    os.kill(owner.pid, signal.SIGSTOP)
    try:
        for _ in range(20):  # 64 kB until the FIFO is full
            with contextlib.suppress(HostError):
                await within(monitor.send(bench.host, KEY, b"x" * 6000))
                continue
            break
        else:
            raise AssertionError("nobody was told that it does not read")
    finally:
        os.kill(owner.pid, signal.SIGCONT)


# -- lending -----------------------------------------------------------------------------------------------------------

FLASH = 'echo flashing; cat >>"$1" </dev/null; IFS= read -r x <"$2"; echo done'


def gate(path: Path) -> Callable[[], None]:
    """A FIFO that a job reads; what opens it."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)

    def go() -> None:
        os.write(descriptor, b"go\n")

    return go


async def lent(bench: Bench, tmp_path: Path, then_s: float = 0) -> Callable[[], None]:
    """The port is with a job that holds the lock, as a flash does; returns what ends that job."""
    assert await monitor.yield_port(bench.host, KEY, "build 7", then_s=then_s)
    go = gate(tmp_path / "gate")
    argv = ["/bin/sh", "-c", FLASH, "sh", str(tmp_path / "x"), str(tmp_path / "gate")]
    await bench.host.start(JobSpec("flash", argv, "/", lock=bench.folder))
    await bench.said("flashing", job="flash")
    return go


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock of util-linux is not installed")
async def test_a_flash_takes_the_port_and_the_monitor_has_it_back(bench: Bench, tmp_path: Path) -> None:
    """Issue: a flash takes the port, and the monitor has it back after, in the same log."""
    await bench.start()
    await bench.board.say(b"before\n")
    await bench.said("] before")
    go = await lent(bench, tmp_path)
    owner = await monitor.owner(bench.host, KEY)
    free = os.open(bench.board.path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as esptool opens it
    os.close(free)
    go()
    await bench.said("the port is lent to build 7", "the port is back after")
    await bench.board.say(b"after\n")
    await bench.said("] before", "] after")

    assert owner is not None
    assert owner.lent == "build 7"
    assert bench.is_locked()
    assert (await bench.ended("flash")).code == 0
    assert await monitor.close(bench.host, KEY)
    assert (await bench.ended()).code == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock of util-linux is not installed")
async def test_the_monitor_has_it_back_also_from_a_flash_that_was_killed(bench: Bench, tmp_path: Path) -> None:
    """Issue: a crashed holder frees it."""
    await bench.start()
    await lent(bench, tmp_path)
    await bench.host.kill("flash", grace_s=0)

    await bench.said("the port is lent to build 7", "the port is back after")


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock of util-linux is not installed")
async def test_what_a_board_says_between_a_flash_and_its_watch_is_left_for_the_watch(
    bench: Bench, tmp_path: Path
) -> None:
    """Ours. A board that cannot be reset boots once: a session that reads its words leaves none to be judged."""
    await bench.start()
    go = await lent(bench, tmp_path, then_s=30)
    go()
    await bench.ended("flash")
    await bench.board.say(b"booted\n")
    assert await monitor.yield_port(bench.host, KEY, "the watch", wait_s=0.3)
    await bench.said("the port is lent to the watch")
    free = os.open(bench.board.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    heard = os.read(free, 100)
    os.close(free)

    await bench.said("nobody came for the port", "the port is back after")
    assert heard.rstrip() == b"booted"


async def test_nobody_comes_for_a_lent_port(bench: Bench) -> None:
    """Ours: a flash that never began."""
    await bench.start()
    assert await monitor.yield_port(bench.host, KEY, "build 7", wait_s=0.3)

    await bench.said("the port is lent to build 7", "nobody came for the port", "the port is back after")
    assert bench.is_locked()


async def test_a_lent_session_can_be_closed(bench: Bench, tmp_path: Path) -> None:
    """Ours: it need not wait for the flash."""
    await bench.start()
    go = await lent(bench, tmp_path)
    assert await monitor.close(bench.host, KEY)

    assert (await bench.ended()).code == 0
    assert bench.is_locked()
    go()


async def test_it_is_lent_again_to_who_asks_meanwhile(bench: Bench, tmp_path: Path) -> None:
    """Ours: else the second one might wait for ever."""
    await bench.start()
    go = await lent(bench, tmp_path)
    assert await monitor.yield_port(bench.host, KEY, "build 8", wait_s=1)
    await bench.host.start(JobSpec("second", ["/bin/echo", "mine"], "/", lock=bench.folder))
    go()

    assert (await bench.ended("second")).code == 0
    await bench.said("the port is lent to build 7", "the port is lent to build 8", "the port is back after")


async def test_a_boot_watch_waits_for_a_session_that_has_not_let_go_yet(bench: Bench) -> None:
    """Ours: a port behind an URL takes 0.3 s to close, and a session may be asleep; a second session does not wait."""
    await bench.start()
    await bench.start("boot", text="", purpose="boot", commands=False, wait_s=10, seconds=0.2)
    with pytest.raises(TimeoutError):
        await within(bench.host.wait("boot"), 1)
    assert await monitor.yield_port(bench.host, KEY, "build 7")

    assert (await bench.ended("boot")).code == 0
    await bench.said("the port is lent to build 7", "the port is back after")


async def test_a_borrower_that_is_gone_is_not_waited_for(bench: Bench, tmp_path: Path) -> None:
    """Ours: a flash that was cancelled on its way to the port, and one that asks after its end."""
    await bench.start()
    gate(tmp_path / "gate")
    await bench.host.start(JobSpec("flash", ["/bin/sh", "-c", 'read x <"$1"', "sh", str(tmp_path / "gate")], "/"))
    assert await monitor.yield_port(bench.host, KEY, "build 7", job="flash")
    await bench.said("the port is lent to build 7")
    await bench.host.kill("flash", grace_s=0)
    async with asyncio.timeout(3):
        await bench.said("nobody came for the port", "the port is back after")
    assert await monitor.yield_port(bench.host, KEY, "build 8", job="flash")
    assert await monitor.yield_port(bench.host, KEY, "build 9", job="never-begun")
    await monitor.reset(bench.host, KEY)

    assert b"lent to build 7" in (log := await bench.said("press its button"))
    assert b"lent to build 8" not in log
    assert b"lent to build 9" not in log


# -- the port goes -----------------------------------------------------------------------------------------------------


async def test_a_board_that_is_plugged_in_again_goes_on_in_the_same_log(bench: Bench) -> None:
    """Issue: reconnect after unplug; the port may be another device then, behind the same link."""
    await bench.start()
    await bench.board.say(b"one\ncut off")
    await bench.said("cut off")
    bench.board.unplug()
    await bench.said("port gone")
    bench.board.plug()
    await bench.said("the port is back after")
    await bench.board.say(b"two\n")

    log = await bench.said("] one\n", "] cut off\n", "--- ", "port gone", "the port is back", "] two\n")
    assert b"cut off\n--- " in log


async def test_a_board_that_stays_away_ends_the_session(bench: Bench) -> None:
    """Issue: port that vanishes."""
    await bench.start(gone_s=0.5)
    bench.board.unplug()

    assert (await bench.ended()).code == 5
    assert b"is not there: is the board plugged in?" in await bench.log()


async def test_a_port_that_is_not_there_is_said_so(bench: Bench) -> None:
    """Issue: no port."""
    bench.board.unplug()
    await bench.start(text="", gone_s=0.3)

    assert (await bench.ended()).code == 5
    assert b"is not there" in await bench.log()


async def test_a_machine_without_pyserial_says_what_brings_it(bench: Bench, tmp_path: Path) -> None:
    """Ours: exit code 6. The Pythons here are stand-ins that know no module."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text("#!/bin/sh\nexit 1\n")
    (folder / "python3").chmod(0o755)
    for name in ("sh", "echo"):
        (folder / name).symlink_to(str(shutil.which(name)))
    argv = monitor.monitor_argv(bench.session(), far=True)
    if Path("/opt/esp/python_env").exists():
        pytest.skip("an ESP-IDF lies in /opt/esp")
    await bench.host.start(JobSpec("m", argv, "/", {"PATH": str(folder), "HOME": str(tmp_path)}))

    assert (await bench.ended()).code == 6
    assert b"sudo apt install python3-serial" in await bench.log()
