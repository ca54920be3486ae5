"""The virtual chip as a process: how it ends, what it costs, what it refuses."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mcp_server.errors import BadInput
from tests.support.chip import ECHO, chip, flash_file, listening

# pyserial's own client starts a thread in a way that Python has deprecated.
pytestmark = [pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"), pytest.mark.timeout(30)]


async def cost_ms(pid: int) -> float:
    """Processor time that a process takes in a second, once it has come to rest."""
    account = Path(f"/proc/{pid}/schedstat")
    if not account.exists():
        pytest.skip("this system tells no processor time finer than its clock")
    await asyncio.sleep(0.2)
    before = int(account.read_text().split()[0])
    await asyncio.sleep(1)
    return (int(account.read_text().split()[0]) - before) / 1e6


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, None], ids=["SIGTERM", "SIGKILL", "stdin"])
async def test_nothing_is_left_however_it_ends(tmp_path: Path, how: signal.Signals | None) -> None:
    """Issue. Neither the chip nor its program, which ignores hang-ups, nor its folder; the link only after SIGKILL."""
    script = (
        b"#!/usr/bin/env python3\nimport signal, time\nsignal.signal(1, signal.SIG_IGN)\nprint('up')\ntime.sleep(60)\n"
    )
    flash_file(tmp_path / "flash.bin", script)
    link = tmp_path / "port"
    async with chip(tmp_path, link=link).running() as board:
        async with listening(str(link)) as listener:
            await listener.until("up\r\n")
        [program] = psutil.Process(board.pid).children(recursive=True)
        folder = Path(program.cwd())
        if how:
            os.kill(board.pid, how)
        else:
            await board.stop()
        await asyncio.to_thread(psutil.wait_procs, [program], 5)
        assert not program.is_running()
        await board.stop()
        assert not psutil.pid_exists(board.pid)
        assert folder.exists() == (how is signal.SIGKILL)
        assert os.path.lexists(link) == (how is signal.SIGKILL)
    async with chip(tmp_path, link=link).running() as board:
        assert str(link.readlink()) == board.port


async def test_two_chips_do_not_share_a_flash(tmp_path: Path) -> None:
    """Ours. The second is refused in one sentence; so are a wrong size and a link that is a file."""
    (tmp_path / "file").write_text("mine")
    async with chip(tmp_path).running():
        with pytest.raises(BadInput, match="is the flash of another virtual chip that runs now"):
            async with chip(tmp_path).running():
                pass
    with pytest.raises(BadInput, match="has 4194304 bytes, the flash only 2097152"):
        async with chip(tmp_path, flash_size="2MB").running():
            pass
    with pytest.raises(BadInput, match="is there and no symbolic link"):
        async with chip(tmp_path, link=tmp_path / "file").running():
            pass
    assert (tmp_path / "file").read_text() == "mine"


async def test_idle_chip_costs_next_to_nothing(tmp_path: Path) -> None:
    """Issue. Under 0.5 ms of processor time a second, with the port closed and with it open."""
    flash_file(tmp_path / "flash.bin", ECHO)
    async with chip(tmp_path).running() as board:
        async with listening(board.port) as listener:
            await listener.until("app: started")
            opened = await cost_ms(board.pid)
        await board.wait_for("closed")
        closed = await cost_ms(board.pid)

    assert max(opened, closed) < 0.5


async def test_command_line_prints_the_port_first(tmp_path: Path) -> None:
    """Issue. The path alone on stdout, events on stderr; it ends with its stdin when told to."""
    argv = [sys.executable, "-m", "mcp_server.demo.chip", "--pty", "--flash", str(tmp_path / "f.bin"), "--while-stdin"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    port = (await process.stdout.readline()).decode().strip()
    assert Path(port).is_char_device()
    process.stdin.close()
    _, errors = await process.communicate()

    assert process.returncode == 0, errors
    assert (tmp_path / "f.bin").stat().st_size == 4 << 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--fault", "no-such"], "fault: no-such is no fault; these are: silent"),
        (["--fault", "vanish=x"], "vanish=x: a number of bytes is missing"),
        (["--chip", "esp8266"], "chip: esp8266 is not simulated; these are: esp32c3"),
        (["--flash-size", "3MB"], "flash-size: 3MB is no flash size"),
        (["--mac", "1:2"], "mac: 1:2 is no MAC address"),
        (["--revision", "9"], "revision: 9 is no revision of ESP32-C3"),
        (["--play", "/nowhere"], "play: /nowhere is no file"),
    ],
)
async def test_wrong_options_are_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    """Ours. Exit code 2, no traceback."""
    argv = [sys.executable, "-m", "mcp_server.demo.chip", "--pty", "--flash", str(tmp_path / "f.bin"), *words]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
