"""One process wakes another through a FIFO."""

import os
import subprocess
import sys
from pathlib import Path

import anyio

from mcp_server.engine import signals


async def test_a_watcher_is_woken_by_another_process(home: Path) -> None:
    """Design: never poll where an event can be had."""
    code = "import pathlib, sys; from mcp_server.engine import signals; signals.announce(pathlib.Path(sys.argv[1]))"
    async with signals.watch(home) as changed:
        await anyio.to_thread.run_sync(lambda: subprocess.run([sys.executable, "-c", code, str(home)], check=True))
        with anyio.fail_after(5):
            await changed.wait()


async def test_every_watcher_is_woken_and_none_is_left_behind(home: Path) -> None:
    """Ours. Several fronts look at one home at once."""
    async with signals.watch(home) as first, signals.watch(home) as second:
        signals.announce(home)
        with anyio.fail_after(5):
            await first.wait()
            await second.wait()

    assert list((home / signals.WATCH).iterdir()) == []


async def test_what_a_killed_watcher_left_is_swept_away(home: Path) -> None:
    """Ours. A FIFO without a reader would otherwise stay for ever."""
    (home / signals.WATCH).mkdir()
    os.mkfifo(home / signals.WATCH / "4711-dead")

    signals.announce(home)

    assert list((home / signals.WATCH).iterdir()) == []


async def test_lines_written_to_the_wake_fifo_arrive_whole_and_once(home: Path) -> None:
    """Ours. A front writes its version, so that an older worker knows to leave."""
    wake = signals.Signal(signals.open_fifo(signals.make_wake(home)))
    assert signals.write_signal(home / signals.WAKE, b"0.1.0\n")
    assert signals.write_signal(home / signals.WAKE, b"0.2.0\n")
    with anyio.fail_after(5):
        await wake.wait()

    assert wake.take_lines() == ["0.1.0", "0.2.0"]
    assert wake.take_lines() == []
    wake.close()
    assert not signals.write_signal(home / signals.WAKE, b"x")


async def test_a_full_fifo_does_not_block_the_writer(home: Path) -> None:
    """Ours. A worker that is stopped (SIGSTOP) must not stop its fronts, too."""
    wake = signals.Signal(signals.open_fifo(signals.make_wake(home)))
    for _ in range(300):
        assert signals.write_signal(home / signals.WAKE, b"!" * 511 + b"\n")
    wake.close()
