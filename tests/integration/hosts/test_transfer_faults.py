"""What goes wrong while files travel: cut links, cancelled callers, sources that change, two at once."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from mcp_server.errors import Conflict, HostError, HostUnreachable
from mcp_server.hosts.base import Channel, Host
from mcp_server.hosts.files import FileInfo, fetch, list_files, put
from mcp_server.hosts.script import Script
from mcp_server.hosts.sync import pull_tree, push_tree
from tests.support.sshd import Sshd

FAR_IN = 300_000  # bytes; in the midst of the big file

See = Callable[[str, Literal["read", "write"], bytes], Awaitable[None]]
Listen = Callable[[See], None]


@dataclass
class Tapped:
    """A channel that lets somebody see what passes, before it passes."""

    channel: Channel
    op: str
    see: See

    async def write(self, data: bytes) -> None:
        await self.see(self.op, "write", data)
        await self.channel.write(data)

    async def end_input(self) -> None:
        await self.channel.end_input()

    async def read(self, max_bytes: int) -> bytes:
        data = await self.channel.read(max_bytes)
        await self.see(self.op, "read", data)
        return data

    async def readline(self) -> bytes:
        return await self.channel.readline()

    async def close(self) -> tuple[int | None, str]:
        return await self.channel.close()


@pytest.fixture
def listen(host: Host, monkeypatch: pytest.MonkeyPatch) -> Listen:
    """Let a function see all that passes through the channels of `host` from now on."""
    real = host.channel

    def start(see: See) -> None:
        @asynccontextmanager
        async def channel(script: Script, op: str, *args: str) -> AsyncGenerator[Channel]:
            async with real(script, op, *args) as bare:
                yield Tapped(bare, op, see)

        tapped: Callable[..., AbstractAsyncContextManager[Channel]] = channel
        monkeypatch.setattr(host, "channel", tapped)

    return start


@pytest.fixture
def cut(request: pytest.FixtureRequest, host: Host, jobs_dir: Path) -> Callable[[], None]:
    """End what serves the channels of `host`: the connection of an ssh one, the script of any other."""
    make = request.node.callspec.params["make"]
    server: Sshd | None = None
    if make.startswith("ssh"):
        server = request.getfixturevalue(make.replace("ssh", "sshd").replace("-", "_"))

    def act() -> None:
        for pid in server.serving() if server else scripts(jobs_dir):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return act


def scripts(jobs_dir: Path) -> list[int]:
    """Processes that run one of our scripts of files, with what they have started."""
    groups: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(os.fsencode(jobs_dir / stem) in word for stem in (".files-", ".sync-") for word in words):
                groups.add(os.getpgid(int(path.parent.name)))
    members: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(path.name)) in groups - {os.getpgrp()}:
                members.append(int(path.name))
    return members


def after(size: int, act: Callable[[], None], ops: tuple[str, ...]) -> See:
    """Calls `act` once, when `size` bytes have passed in one direction."""
    passed = {"read": 0, "write": 0}
    done = False

    async def see(op: str, way: Literal["read", "write"], data: bytes) -> None:
        nonlocal done
        passed[way] += len(data) if op in ops else 0
        if not done and max(passed.values()) > size:
            done = True
            act()

    return see


def is_part_of(folder: Path, source: Path) -> bool:
    """Whether each file of it is whole."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".build-orch" not in str(path)]
    return all(path.read_bytes() == (source / path.relative_to(folder)).read_bytes() for path in files)


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".build-orchestrator-*") if path.name != ".build-orchestrator-sync"]


# A cut link


async def test_a_push_that_is_cut_leaves_no_half_file_and_is_made_up_for(
    host: Host, source: Path, tmp_path: Path, listen: Listen, cut: Callable[[], None]
) -> None:
    """Issue."""
    target = tmp_path / "target"
    listen(after(FAR_IN, cut, ("push",)))
    async with asyncio.timeout(15):
        with pytest.raises(HostUnreachable):
            await push_tree(host, source, str(target))
        assert is_part_of(target, source)
        assert not (target / "d" / "big").exists()
        await push_tree(host, source, str(target))
    assert (target / "d" / "big").read_bytes() == (source / "d" / "big").read_bytes()


async def test_a_pull_that_is_cut_leaves_nothing(
    host: Host, source: Path, tmp_path: Path, listen: Listen, cut: Callable[[], None]
) -> None:
    """Issue."""
    target = tmp_path / "here"
    listen(after(FAR_IN, cut, ("pull", "fetch")))
    async with asyncio.timeout(15):
        with pytest.raises(HostUnreachable):
            await pull_tree(host, str(source), target)
        assert list(target.iterdir()) == []
        await pull_tree(host, str(source), target)
    assert is_part_of(target, source)
    assert (target / "d" / "big").exists()


async def test_a_put_that_is_cut_places_nothing(
    host: Host, source: Path, tmp_path: Path, listen: Listen, cut: Callable[[], None]
) -> None:
    """Issue: what was on its way is removed by the next one."""
    target = tmp_path / "target"
    files = await list_files(host, str(source), ["**"])
    listen(after(FAR_IN, cut, ("put",)))
    async with asyncio.timeout(15):
        with pytest.raises(HostUnreachable):
            await put(host, str(target), source, files)
        assert [path for path in target.rglob("*") if ".build-orch" not in str(path)] == []
        assert await put(host, str(target), source, files) == 3
    assert is_part_of(target, source)


async def test_a_fetch_that_is_cut_leaves_no_half_file(
    host: Host, source: Path, tmp_path: Path, listen: Listen, cut: Callable[[], None]
) -> None:
    """Issue."""
    target = tmp_path / "target"
    files = await list_files(host, str(source), ["**"])
    listen(after(FAR_IN, cut, ("fetch",)))
    async with asyncio.timeout(15):
        with pytest.raises(HostUnreachable):
            await fetch(host, str(source), files, target)
        assert left_over(target) == []
        assert is_part_of(target, source)
        await fetch(host, str(source), files, target)
    assert is_part_of(target, source)


# A cancelled caller


@pytest.mark.parametrize("what", ["push", "pull", "put", "fetch"])
async def test_a_cancelled_caller_leaves_no_half_file(
    host: Host, source: Path, tmp_path: Path, listen: Listen, what: str
) -> None:
    """Ours: and the next call completes. That no process stays is seen by the fixture of the host."""
    target = tmp_path / "target"
    files = await list_files(host, str(source), ["**"])
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "push": lambda: push_tree(host, source, str(target)),
        "pull": lambda: pull_tree(host, str(source), target),
        "put": lambda: put(host, str(target), source, files),
        "fetch": lambda: fetch(host, str(source), files, target),
    }
    begun = asyncio.Event()
    listen(after(FAR_IN, begun.set, (what, "fetch")))
    call = asyncio.ensure_future(calls[what]())
    async with asyncio.timeout(15):
        await begun.wait()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert is_part_of(target, source)
        assert not (target / "d" / "big").exists()
        await calls[what]()
    assert (target / "d" / "big").read_bytes() == (source / "d" / "big").read_bytes()


# Two at once, and a source that changes


async def test_two_pushes_into_one_target_come_one_after_the_other(
    host: Host, make: Callable[[], Host], source: Path, tmp_path: Path, listen: Listen
) -> None:
    """Ours: the second says once that it waits, and goes on when the first has ended."""
    target, other = tmp_path / "target", make()
    (source / "a").write_text("first")
    hold, held, waits = asyncio.Event(), asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def tell(who: str) -> None:
        told.append(who)
        waits.set()

    async def see(op: str, way: str, data: bytes) -> None:
        if way == "write" and data.startswith((b"'rsync'", b"'tar'")) and not held.is_set():
            held.set()
            await hold.wait()

    listen(see)
    try:
        async with asyncio.timeout(15):
            first = asyncio.create_task(push_tree(host, source, str(target), on_wait=lambda: tell("first")))
            await held.wait()
            second = asyncio.create_task(push_tree(host, source, str(target), on_wait=lambda: tell("second")))
            await waits.wait()
            assert not (target / "a").exists()
            hold.set()
            assert (await first).files_sent == 3
            await second
            assert (await push_tree(other, source, str(target))).files_sent == 0
    finally:
        await other.aclose()
    assert (target / "a").read_text() == "first"
    assert told == ["second"]


def restless(folder: Path, times: int) -> See:
    """Each time when the tree has been read, but not yet its content, one file vanishes and another appears."""
    number = 0
    (folder / "z0").write_text("z")

    async def see(op: str, way: str, data: bytes) -> None:
        nonlocal number
        asks = data.startswith((b"'rsync'", b"'tar'")) or (op == "fetch" and data.startswith(b"'/"))
        if way == "write" and asks and number < times:
            (folder / f"z{number}").unlink()
            number += 1
            (folder / f"z{number}").write_text("z")

    return see


@pytest.mark.parametrize("way", ["push", "pull"])
async def test_a_source_that_changes_is_read_once_more(
    host: Host, source: Path, tmp_path: Path, listen: Listen, way: str
) -> None:
    """Ours: once. One that never rests is a Conflict that names what changed."""
    listen(restless(source, times=1))
    async with asyncio.timeout(15):
        if way == "push":
            await push_tree(host, source, str(tmp_path / "target"))
        else:
            await pull_tree(host, str(source), tmp_path / "target")
    assert not (tmp_path / "target" / "z0").exists()
    assert (tmp_path / "target" / "z1").exists()
    assert is_part_of(tmp_path / "target", source)


@pytest.mark.parametrize("way", ["push", "pull"])
async def test_a_source_that_never_rests_is_a_conflict(
    host: Host, source: Path, tmp_path: Path, listen: Listen, way: str
) -> None:
    """Ours: what changed is named."""
    listen(restless(source, times=9))
    async with asyncio.timeout(15):
        with pytest.raises(Conflict, match=r"keeps changing .*\bz1\b"):
            if way == "push":
                await push_tree(host, source, str(tmp_path / "target"))
            else:
                await pull_tree(host, str(source), tmp_path / "target")


async def test_a_source_that_cannot_be_read_is_named(host: Host, source: Path, tmp_path: Path) -> None:
    """Ours: a file that lies about its hash, one that is gone, one that is a folder there."""
    [info] = await list_files(host, str(source), ["zz"])
    target = tmp_path / "target"
    (target / "zz").mkdir(parents=True)
    with pytest.raises(HostError, match="is a folder"):
        await put(host, str(target), source, [info])
    with pytest.raises(HostError, match=r"'zz' changed here .* nothing was placed"):
        await put(host, str(tmp_path / "new"), source, [replace(info, sha256="0" * 64)])
    with pytest.raises(HostError, match="gone"):
        await fetch(host, str(source), [FileInfo("no", 1, "0" * 64, 0o644, 0)], tmp_path / "here")
