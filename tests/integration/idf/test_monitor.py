"""The serial monitor's job on real ptys: what it logs and obeys, and how it is read."""

import asyncio
import json
import random
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.hosts.base import JobSpec
from mcp_server.idf import monitor
from tests.integration.idf.conftest import KEY, LIMIT_S, Bench, within
from tests.support.rfc2217_board import Rfc2217Board

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
    await bench.said("this port has no lines to reset the board with: press its button", "now at 921600 baud")
    await bench.board.say(b"hello\n")  # not before: what comes while the rate changes may be dropped

    await bench.said("] hello")


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
