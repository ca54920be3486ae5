"""The serial monitor's job on real ptys: what it logs, obeys, lends, survives."""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mcp_server.config import Server
from mcp_server.errors import BadInput, HostError
from mcp_server.hosts.base import Exit, Host, JobSpec
from mcp_server.hosts.local import LocalHost
from mcp_server.hosts.ports import lock_folder
from mcp_server.hosts.ssh import SshHost, SshOptions
from mcp_server.idf import monitor
from tests.support.pty_board import PtyBoard
from tests.support.rfc2217_board import Rfc2217Board
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


# -- what it logs ------------------------------------------------------------------------------------------------------


async def test_each_line_of_the_board_stands_in_the_log_with_its_time(any_bench: Bench) -> None:
    """Issue: a job that owns the port and writes a time-stamped log."""
    bench = any_bench
    await bench.start()
    await bench.board.say(b"I (31) boot: ESP-IDF\r\nI (45) main: up\r\n> ")
    log = (await bench.said("main: up", "> ")).decode()
    assert await monitor.close(bench.host, KEY)
    assert (await bench.ended()).code == 0

    opened, *lines = log.replace("\r", "").split("\n")
    assert opened.startswith(f"--- [0.000] {bench.board.path} open at 115200 baud, 20")
    assert [line.partition("] ")[2] for line in lines] == ["I (31) boot: ESP-IDF", "I (45) main: up", "> "]
    assert all(line.startswith("[") and line[1].isdigit() for line in lines)
    assert await bench.board_bytes() == b"I (31) boot: ESP-IDF\r\nI (45) main: up\r\n> \n"


async def test_any_bytes_come_through_unchanged(bench: Bench) -> None:
    """Issue: binary-safe. Garbage, NULs, a megabyte without a newline, lines that look like the log's own marks."""
    chance = random.Random(4)
    data = b"\0\0\xff\xfe[1.000] x\n--- [2.000] open\n\\\n[3.000]+y\n\n\\\\\n" + chance.randbytes(200_000)
    data += b"x" * 1_000_000 + b"\\" * 5000 + b"\nlast line\n"
    await bench.start()
    await bench.board.say(data)
    log = await bench.said("] last line\n")
    await monitor.close(bench.host, KEY)
    await bench.ended()

    assert await bench.board_bytes() == data
    assert max(map(len, log.split(b"\n"))) <= 4096 + 20


async def test_ten_megabytes_at_full_speed_lose_nothing(bench: Bench) -> None:
    """Issue: keeps up with 3 Mbaud, which is 0.3 MB/s."""
    line = b"I (%07d) wifi: state: run -> run, rssi -61, channel 11, bssid 0011\r\n"
    data = b"".join(line % number for number in range(10_000_000 // len(line)))
    await bench.start(baud=3_000_000)
    began = asyncio.get_running_loop().time()
    await bench.board.say(data + b"done\n")
    await bench.said("] done\n")
    took_s = asyncio.get_running_loop().time() - began
    await monitor.close(bench.host, KEY)
    await bench.ended()

    assert await bench.board_bytes() == data + b"done\n"
    assert took_s < len(data) / 300_000 / 2


# -- what it obeys -----------------------------------------------------------------------------------------------------


async def test_what_is_sent_reaches_the_board_in_order(any_bench: Bench) -> None:
    """Issue: send. Also more than one command holds, and bytes that are no text."""
    bench = any_bench
    data = bytes(range(256)) * 40
    await bench.start()
    assert await monitor.send(bench.host, KEY, b"help\r\n")
    assert await monitor.send(bench.host, KEY, data)

    assert await within(bench.board.heard(6 + len(data))) == b"help\r\n" + data


async def test_a_port_without_lines_says_so_and_goes_on(bench: Bench) -> None:
    """Ours. A pty, and a raw TCP port."""
    await bench.start(reset=True)
    await monitor.set_baud(bench.host, KEY, 921_600)
    await bench.board.say(b"hello\n")

    await bench.said(
        "this port has no lines to reset the board with: press its button", "now at 921600 baud", "] hello"
    )


async def test_a_terminal_servers_board_is_reset_and_never_by_opening(bench: Bench) -> None:
    """Issue: through rfc2217://. DTR off while RTS is on pulls EN down: only the reset may do that, once."""
    async with Rfc2217Board().listening() as board:
        argv = monitor.monitor_argv(monitor.Session(board.url, bench.folder, baud=3_000_000), far=False)
        await bench.host.start(JobSpec("m", argv, "/"))
        await bench.said("open at 3000000")
        opened = list(board.states)
        board.say(b"I (1) one\xff\n")
        await bench.said("] I (1) one")
        assert await monitor.reset(bench.host, KEY)
        await bench.said("board reset")
        after = board.states[len(opened) :]
        assert await monitor.send(bench.host, KEY, b"hi\xff\n")
        board.hang_up()
        await bench.said("port gone", "the port is back after")
        board.say(b"I (2) two\n")
        await bench.said("] I (2) two")
        assert await monitor.close(bench.host, KEY)
        assert (await bench.ended()).code == 0

        assert (False, True) not in opened
        assert opened[-1] == (False, False)
        assert after.count((False, True)) == board.states.count((False, True)) == 1
        assert after[-1] == (False, False)
        assert board.baud == 3_000_000
        assert board.heard == b"hi\xff\n"


async def test_nonsense_on_the_control_fifo_harms_nothing(bench: Bench) -> None:
    """Ours."""
    await bench.start()
    control = Path(bench.folder) / "control"
    wrong = [
        b"junk",
        b'{"op": "dance"}',
        b'{"op": "send", "data": "***"}',
        b'{"op": "baud", "baud": "x"}',
        b"[1]",
        b"7",
    ]
    await asyncio.to_thread(control.write_bytes, b"\n".join(wrong) + b"\n" + b"{" * 70_000 + b"\n")
    await bench.board.say(b"still here\n")

    await bench.said("dance cannot be done", "send cannot be done", "baud cannot be done")
    await bench.said("] still here")
    assert await monitor.close(bench.host, KEY)


async def test_it_closes_when_nobody_asks_for_it_any_more(bench: Bench) -> None:
    """Issue: closes after idle; what the board says does not count, `keep` does."""
    await bench.start(idle_s=0.8)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.4)
    assert await monitor.keep(bench.host, KEY)
    await bench.board.say(b"noise\n")
    end = await bench.ended()

    assert end.code == 0
    assert asyncio.get_running_loop().time() - began > 1.1
    assert b"nobody asked for it any more: closed" in await bench.log()
    assert not await monitor.keep(bench.host, KEY)


async def test_it_ends_well_when_its_time_is_over(bench: Bench) -> None:
    """Ours: a watch that came to its end is no failed job."""
    await bench.start(seconds=0.3)

    assert (await bench.ended()).code == 0
    assert b"its time is over" in await bench.log()


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


async def lent(bench: Bench, tmp_path: Path) -> Callable[[], None]:
    """The port is with a job that holds the lock, as a flash does; returns what ends that job."""
    assert await monitor.yield_port(bench.host, KEY, "build 7")
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


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_waiting_for_a_line_that_comes_later(any_bench: Bench) -> None:
    """Issue: wait_for."""
    bench = any_bench
    job = await bench.start()
    waiting = asyncio.create_task(monitor.wait_for(bench.host, job, 0, r"main: (up|down)", 10))
    await bench.board.say(b"I (31) boot: x\r\n")
    await bench.said("boot: x")
    await bench.board.say(b"I (45) main: up\r\nmore\r\n")
    async with asyncio.timeout(LIMIT_S):
        line, offset = await waiting
    rest = await bench.host.read_log(job, offset)

    assert line == "I (45) main: up"
    assert rest == b"" or rest.endswith(b"] more\r\n")


async def test_a_prompt_is_found_once(bench: Bench) -> None:
    """Ours: it has no newline; the same one is not found again, its successor is."""
    job = await bench.start()
    await bench.board.say(b"esp> ")
    line, offset = await monitor.wait_for(bench.host, job, 0, r"esp> ", 5)
    again, same = await monitor.wait_for(bench.host, job, offset, r"esp> ", 0.2)
    await bench.board.say(b"help\r\nnothing\r\nesp> ")
    answer, end = await monitor.wait_for(bench.host, job, same, r"esp> $", 5)

    assert (line, again, answer) == ("esp> ", None, "esp> ")
    assert offset <= same < end
    spanning, _ = await monitor.wait_for(bench.host, job, offset, r"> help", 5)
    assert spanning == "esp> help"


async def test_a_wait_without_a_match_ends_in_time(bench: Bench) -> None:
    """Ours: also of none, which looks at what is there."""
    job = await bench.start()
    await bench.board.say(b"hello\n")
    await bench.said("] hello")

    assert (await monitor.wait_for(bench.host, job, 0, "hello", 0))[0] == "hello"
    assert (await within(monitor.wait_for(bench.host, job, 0, "open at", 0.1)))[0] is None  # type: ignore[index]
    await monitor.close(bench.host, KEY)
    await bench.ended()
    assert (await within(monitor.wait_for(bench.host, job, 0, "never", 30)))[0] is None  # type: ignore[index]


async def test_a_pattern_that_explodes_is_refused(bench: Bench) -> None:
    """Issue: regexes that explode (bounded)."""
    job = await bench.start()
    await bench.board.say((b"a" * 4000 + b"!\n") * 30 + b"end\n")
    await bench.said("] end")

    with pytest.raises(BadInput, match="wait_for"):
        await within(monitor.wait_for(bench.host, job, 0, r"^(a+)+$", 30))
    with pytest.raises(BadInput, match="wait_for"):
        await monitor.wait_for(bench.host, job, 0, r"(", 1)


async def test_a_cursor_sees_every_byte_once(bench: Bench) -> None:
    """Issue: cursor reads, at byte offsets."""
    job = await bench.start()
    await bench.board.say(b"".join(b"line %d\n" % number for number in range(500)) + b"$ ")
    await bench.said("line 499", "$ ")
    pieces: list[bytes] = []
    offset = 0
    while True:
        piece, offset = await monitor.read(bench.host, job, offset, 1000)
        if not piece:
            break
        pieces.append(piece)

    assert b"".join(pieces) == await bench.log()
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])


def test_a_command_is_one_line_of_json() -> None:
    """Ours."""
    assert json.loads(monitor.command_bytes("yield", who='a"b', wait_s=1)) == {"op": "yield", "who": 'a"b', "wait_s": 1}
