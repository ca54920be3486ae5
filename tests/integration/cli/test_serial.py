"""`monitor` as a process in a pipe, on a pty as the board."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli.program import LIMIT_S, PROGRAM
from tests.support.pty_board import PtyBoard


@pytest.mark.timeout(60)
def test_what_is_piped_into_monitor_reaches_a_board_that_is_named_from_here(tmp_path: Path, home: Path) -> None:
    """Ours: `echo help | build-orchestrator monitor -p ./dev`. The session goes on after the pipe's end."""
    board = PtyBoard(tmp_path / "dev")
    process = subprocess.Popen(
        [*PROGRAM, "monitor", "-p", "./dev"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"BUILD_ORCHESTRATOR_HOME": str(home)},
    )
    try:
        assert process.stdin is not None
        process.stdin.write(b"help\n")
        process.stdin.close()
        process.stdin = None
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        heard = asyncio.run(board.heard(5))
        asyncio.run(board.say(b"commands: none\r\n"))
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.communicate()

    assert heard == b"help\n"
    assert b" open at 115200 baud" in lines[0]
    assert lines[1].endswith(b"] commands: none\r\n")
    assert said.decode().splitlines()[-1] == "session 1 closed"
    assert process.returncode == 0
