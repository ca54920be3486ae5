"""What is said to the monitor of a port, on every make of a host: a FIFO in a folder, read by somebody or not."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_server.errors import BadInput, HostError
from mcp_server.hosts import console
from mcp_server.hosts.base import Host
from mcp_server.hosts.ports import lock_folder

KEY = "10c4-ea60-0001"


@pytest.fixture
async def folder(host: Host) -> AsyncIterator[Path]:
    """The port's folder, there with a FIFO that this process says it reads."""
    path = Path(lock_folder(await host.directory(), KEY))
    path.mkdir(parents=True)
    os.mkfifo(path / "control")
    (path / "reader").write_text(f"{os.getpid()}\n")
    yield path


async def test_commands_arrive_whole_and_in_order(host: Host, folder: Path) -> None:
    """Ours."""
    lines = [json.dumps({"op": "send", "data": letter * 2700}).encode() + b"\n" for letter in "abc"]
    control = os.open(folder / "control", os.O_RDWR | os.O_NONBLOCK)
    async with asyncio.timeout(10):
        told = await console.say(host, KEY, b"".join(lines))
    read = os.read(control, 65_536)
    os.close(control)

    assert told
    assert read == b"".join(lines)


async def test_where_nobody_reads_that_is_known_at_once(host: Host, folder: Path) -> None:
    """Ours: a FIFO that a dead monitor left must not keep a flash waiting."""
    (folder / "reader").write_text("4194303\n")
    async with asyncio.timeout(2):
        assert not await console.say(host, KEY, b"{}\n")
        assert not await console.say(host, "another", b"{}\n")


@pytest.mark.parametrize("make", ["local", "busybox"], indirect=True)
async def test_who_lives_and_reads_nothing_is_given_up(host: Host, folder: Path) -> None:
    """Ours: after two seconds; opening a FIFO without a reader would wait for ever."""
    async with asyncio.timeout(10):
        with pytest.raises(HostError, match="takes no commands now"):
            await console.say(host, KEY, b"{}\n")


async def test_the_holder_is_who_wrote_itself_down_and_lives(host: Host, folder: Path) -> None:
    """Ours."""
    assert await console.holder(host, KEY) is None
    (folder / "holder").write_text(json.dumps({"job": 'a "b"', "pid": os.getpid(), "since": 1.5}) + "\n")
    alive = await console.holder(host, KEY)
    (folder / "holder").write_text(json.dumps({"job": "a", "pid": 4194303, "since": 1.5}) + "\n")

    assert alive == {"job": 'a "b"', "pid": os.getpid(), "since": 1.5}
    assert await console.holder(host, KEY) is None
    (folder / "holder").write_text("x" * 9000 + "\n")
    assert await console.holder(host, KEY) is None


async def test_a_name_that_is_no_key_is_refused(host: Host) -> None:
    """Ours."""
    for wrong in ("../x", "", ".ports", "a b", "a/b", "$(id)"):
        with pytest.raises(BadInput, match="no key of a port"):
            await console.say(host, wrong, b"")
    with pytest.raises(BadInput, match="4000 bytes at most"):
        await console.say(host, KEY, b"x" * 4001)
