"""The pty of a virtual chip where the system does not tell who opens it, and the line's speed and noise."""

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcp_server.demo.chip import pty_port
from mcp_server.demo.chip.faults import Faults, parse_faults
from mcp_server.demo.chip.pty_port import PtyPort
from mcp_server.demo.chip.uart import MAX_WAITING, Uart


class Taker:
    """A port whose client never takes anything, or takes all."""

    def __init__(self, *, takes: bool = True) -> None:
        self.got = bytearray()
        self.takes = takes
        self.speed: int | None = None

    def write(self, data: bytes) -> None:
        self.got += data

    def waiting(self) -> int:
        return 0 if self.takes else len(self.got)

    def discard(self) -> None:
        self.got.clear()

    def baud(self) -> int | None:
        return self.speed


@pytest.mark.parametrize("platform", ["linux", "other"])
async def test_port_knows_who_has_it_open(platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ours. By inotify or by asking: opened, bytes both ways, closed, and the same again."""
    if platform != "linux":
        monkeypatch.setattr(pty_port, "sys", SimpleNamespace(platform=platform))
    came: asyncio.Queue[bytes | str] = asyncio.Queue()
    uart = Uart(Faults(), came.put_nowait)
    port = uart.port = PtyPort(
        uart, lambda: came.put_nowait("opened"), lambda: came.put_nowait("closed"), tmp_path / "link"
    )
    try:
        async with asyncio.timeout(5):
            for _ in range(2):
                uart.send(b"nobody is there")
                client = os.open(tmp_path / "link", os.O_RDWR | os.O_NOCTTY)
                assert await came.get() == "opened"
                os.write(client, b"to the chip")
                assert await came.get() == b"to the chip"
                uart.send(b"from the chip")
                assert await asyncio.to_thread(os.read, client, 100) == b"from the chip"
                os.write(client, b"last words")
                os.close(client)
                assert await came.get() == b"last words"
                assert await came.get() == "closed"
    finally:
        port.close()
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of each opening")
async def test_who_comes_while_another_has_it_open_is_told_of_and_only_the_last_close_counts(tmp_path: Path) -> None:
    """Ours. A loader that comes while another program looks in has its whole time, and is not cut short by that one."""
    came: asyncio.Queue[str] = asyncio.Queue()
    uart = Uart(Faults(), lambda _: None)
    port = PtyPort(uart, lambda: came.put_nowait("opened"), lambda: came.put_nowait("closed"), tmp_path / "link")

    def open_it() -> int:
        return os.open(tmp_path / "link", os.O_RDWR | os.O_NOCTTY)

    try:
        async with asyncio.timeout(5):
            for _ in range(2):
                first = open_it()
                assert await came.get() == "opened"
                second = open_it()
                assert await came.get() == "opened"
                os.close(first)
                third, fourth = open_it(), open_it()  # in the same moment: told as one
                assert await came.get() == "opened"
                for client in (second, third, fourth):
                    os.close(client)
                assert await came.get() == "closed"
                assert came.empty()
    finally:
        port.close()


@pytest.mark.parametrize(
    ("rate", "theirs", "clear"),
    [(115200, 115200, True), (115200, 112800, True), (115200, 9600, False), (None, 300, True)],
)
def test_another_speed_is_garbage(rate: int | None, theirs: int, clear: bool) -> None:
    """Issue. Both ways, and never empty; a chip whose rate is unknown understands all."""
    came: list[bytes] = []
    uart, port = Uart(Faults(), came.append), Taker()
    uart.port, uart.rate, port.speed = port, rate, theirs
    uart.send(b"hello")
    uart.received(b"world")

    assert (bytes(port.got) == b"hello", came == [b"world"]) == (clear, clear)
    assert (len(port.got), len(came[0])) == (5, 5)


def test_noise_hits_every_so_many_bytes() -> None:
    """Issue. Counted over all that was sent, however it was cut."""
    uart, port = Uart(parse_faults(["noise=10"]), lambda _: None), Taker()
    uart.port = port
    for _ in range(25):
        uart.send(b"\0" * 4)

    assert [at for at, byte in enumerate(port.got) if byte] == list(range(9, 100, 10))


def test_reader_who_sleeps_costs_bounded_memory() -> None:
    """Ours. Beyond the bound output is lost."""
    uart, port = Uart(Faults(), lambda _: None), Taker(takes=False)
    uart.port = port
    for _ in range(2 * MAX_WAITING // 65536):
        uart.send(bytes(65536))

    assert uart.congested
    assert len(port.got) <= MAX_WAITING + 65536


async def test_slow_line_keeps_order_and_time() -> None:
    """Issue. 1000 bytes at 100 kbit/s take a tenth of a second."""
    uart, port = Uart(parse_faults(["slow=100000"]), lambda _: None), Taker()
    uart.port = port
    loop = asyncio.get_running_loop()
    began = loop.time()
    data = bytes(range(250)) * 4
    uart.send(data[:300])
    uart.send(data[300:])
    async with asyncio.timeout(5):
        while uart.waiting():  # noqa: ASYNC110  # a line tells nobody that it is empty
            await asyncio.sleep(0.005)
    uart.close()

    assert bytes(port.got) == data
    assert loop.time() - began > 0.09
