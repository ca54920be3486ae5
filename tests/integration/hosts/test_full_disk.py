"""A disk that is full, here or there, while files travel."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.errors import HostFull
from mcp_server.hosts.base import Host
from mcp_server.hosts.files import fetch, list_files, put
from mcp_server.hosts.sync import pull_tree, push_tree
from tests.integration.hosts.test_transfer_faults import is_part_of, left_over
from tests.support.small_disk import mounted


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "2m")


def room(folder: Path) -> int:
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize


async def test_no_space_there_is_said_and_given_back(host: Host, source: Path, small: Path) -> None:
    """Issue: after the answer there is as much space as before, and what fits is brought."""
    files = await list_files(host, str(source), ["**"])
    async with asyncio.timeout(15):
        with pytest.raises(HostFull, match=r"no space left"):
            await push_tree(host, source, str(small / "push"))
        assert is_part_of(small / "push", source)
        with pytest.raises(HostFull, match="nothing was placed"):
            await put(host, str(small / "put"), source, files)
        assert list((small / "put").iterdir()) == []
        assert room(small) > 1_800_000
        (source / "d" / "big").write_text("small")
        await push_tree(host, source, str(small / "push"))
    assert (small / "push" / "d" / "big").read_text() == "small"


async def test_no_space_for_what_is_remembered_is_said_too(host: Host, source: Path, small: Path) -> None:
    """Ours: a disk without a byte left, which a shell calls an `I/O error`. Afterwards there is room for a push."""
    (source / "d" / "big").write_text("small")
    (small / "push" / ".build-orchestrator-sync" / "tmp").mkdir(parents=True)
    filler = small / "filler"
    filler.write_bytes(bytes(room(small)))
    assert room(small) == 0
    files = await list_files(host, str(source), ["**"])
    async with asyncio.timeout(15):
        with pytest.raises(HostFull, match=r"no space left"):
            await push_tree(host, source, str(small / "push"))
        with pytest.raises(HostFull, match="nothing was placed"):
            await put(host, str(small / "put"), source, files)
        assert [path for path in small.rglob("*") if path.is_file()] == [filler]
        filler.unlink()
        await push_tree(host, source, str(small / "push"))
    assert (small / "push" / "d" / "big").read_text() == "small"


async def test_a_last_file_written_in_part_is_no_space(host: Host, source: Path, small: Path) -> None:
    """Ours: of a write cut short a tar may say only how far it came."""
    (small / "filler").write_bytes(bytes(1 << 20))
    (source / "d" / "big").write_bytes(os.urandom((1 << 20) + 1))
    files = await list_files(host, str(source), ["d"])
    async with asyncio.timeout(15):
        with pytest.raises(HostFull, match="nothing was placed"):
            await put(host, str(small / "put"), source, files)


async def test_no_space_here_names_this_machine(host: Host, source: Path, small: Path) -> None:
    """Ours."""
    files = await list_files(host, str(source), ["**"])
    async with asyncio.timeout(15):
        with pytest.raises(HostFull, match=r"^host local: no space left"):
            await fetch(host, str(source), files, small / "fetch")
        with pytest.raises(HostFull, match=r"^host local: no space left"):
            await pull_tree(host, str(source), small / "pull")
        assert list((small / "pull").iterdir()) == []
        (small / "filler").write_bytes(bytes(room(small)))
        with pytest.raises(HostFull, match=r"^host local: no space left"):
            await pull_tree(host, str(source), small / "pull")
    assert list((small / "pull").iterdir()) == []
    assert left_over(small) == []
