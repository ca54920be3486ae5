"""Trees brought to a host and from it: by rsync, and in another way where it is missing (the busybox makes)."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from mcp_server.errors import BadInput, HostError, NotFound
from mcp_server.hosts import rsync
from mcp_server.hosts.base import Host
from mcp_server.hosts.sync import pull_tree, push_tree
from tests.integration.hosts.conftest import BOTH, MAKES

NO_RSYNC = pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed")
EVERYWHERE = pytest.mark.parametrize("make", [*MAKES, BOTH, "bash"], indirect=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "sour ce"
    for path in ("a b", "#hash", "d/new\nline", "\udcff", "gone/x", "build/out", ".git/config", "cm/CMakeCache.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("old")
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "d" / "run").write_text("#!/bin/sh")
    (folder / "d" / "run").chmod(0o755)
    (folder / "empty").mkdir()
    return folder


SOURCE = {"a b", "#hash", "d", "d/new\nline", "d/run", "\udcff", "gone", "gone/x", "link", "empty"}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if ".build-orch" not in str(path)}


@EVERYWHERE
async def test_a_push_brings_the_source_and_no_builds(host: Host, source: Path, tmp_path: Path) -> None:
    """Issue."""
    target = tmp_path / "tar\nget"
    report = await push_tree(host, source, str(target))
    assert names(target) == SOURCE
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "d" / "run").stat().st_mode & 0o777 == 0o755
    assert report.files_sent == 6


@EVERYWHERE
async def test_what_vanished_is_deleted_and_what_a_build_made_stays(host: Host, source: Path, tmp_path: Path) -> None:
    """Issue: also where a folder becomes a file, and where a change keeps size and second."""
    target = tmp_path / "target"
    await push_tree(host, source, str(target))
    (target / "made").write_text("by the build")
    (target / "empty" / "made").write_text("by the build")
    (source / "gone" / "x").unlink()
    (source / "gone").rmdir()
    (source / "gone").write_text("a file now")
    (source / "a b").write_text("new")
    (source / "d").chmod(0o700)
    assert (await push_tree(host, source, str(target))).deleted == 1
    assert (target / "made").exists()
    assert (target / "empty" / "made").exists()
    assert (target / "gone").read_text() == "a file now"
    assert (target / "a b").read_text() == "new"
    assert (target / "d").stat().st_mode & 0o777 == 0o700
    assert not list((target / ".build-orchestrator-sync").glob("tmp/*"))


async def test_a_link_that_a_build_made_is_replaced_not_written_through(
    host: Host, source: Path, tmp_path: Path
) -> None:
    """Ours: whether it took the place of a folder or of a file."""
    target, outside = tmp_path / "target", tmp_path / "outside"
    await push_tree(host, source, str(target))
    outside.mkdir()
    shutil.rmtree(target / "d")
    (target / "d").symlink_to(outside)
    (target / "a b").unlink()
    (target / "a b").symlink_to(outside)
    for path in ("a b", "d/run"):
        (source / path).write_text("new, and longer")
    (source / "d").chmod(0o711)
    await push_tree(host, source, str(target))
    assert list(outside.iterdir()) == []
    assert outside.stat().st_mode & 0o777 != 0o711
    assert (target / "a b").read_text() == (target / "d" / "run").read_text() == "new, and longer"


async def test_a_foreign_folder_is_refused(host: Host, source: Path, tmp_path: Path) -> None:
    """Ours: unless it lies within the workdir."""
    target = tmp_path / "foreign"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(HostError, match="no sync brought"):
        await push_tree(host, source, str(target))
    await push_tree(host, source, str(target), within=str(tmp_path))
    assert (target / "mine").read_text() == "mine"


# From a host


@EVERYWHERE
async def test_a_pull_brings_what_a_push_would(host: Host, source: Path, tmp_path: Path) -> None:
    """Ours: links stay links, modes and times stay, nothing of ours is left over."""
    target = tmp_path / "here"
    seen: list[tuple[int, int]] = []
    report = await pull_tree(host, str(source), target, on_progress=lambda files, size: seen.append((files, size)))
    assert {str(path.relative_to(target)) for path in target.rglob("*")} == SOURCE
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "d" / "run").stat().st_mode & 0o777 == 0o755
    assert int((target / "a b").stat().st_mtime) == int((source / "a b").stat().st_mtime)
    assert report.files_sent == 6 == seen[-1][0]
    assert report.bytes_sent == seen[-1][1] > 0


async def test_a_pull_leaves_out_what_is_excluded_there(host: Host, source: Path, tmp_path: Path) -> None:
    """Ours: a pattern of a folder, of a name, and one that `find` could misread."""
    await pull_tree(host, str(source), tmp_path / "here", exclude=["d/", "/a*", "[#]hash", ".git", "build"])
    assert names(tmp_path / "here") == {"\udcff", "gone", "gone/x", "link", "empty"}


async def test_a_pull_takes_an_empty_folder_only(host: Host, source: Path, tmp_path: Path) -> None:
    """Ours: what is here is never mixed up with what comes."""
    (tmp_path / "here").mkdir()
    await pull_tree(host, str(source), tmp_path / "here")
    with pytest.raises(BadInput, match="empty"):
        await pull_tree(host, str(source), tmp_path / "here")
    with pytest.raises(NotFound):
        await pull_tree(host, str(source / "no"), tmp_path / "none")


# What goes wrong


@NO_RSYNC
@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_an_rsync_that_asks_for_something_else_is_ended(
    host: Host, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: a wrapper or an alias may add what we would not run there."""
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "rsync").write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || exec {shutil.which("rsync")} --version\n'
        'while [ "$1" != -e ]; do shift; done\neval "$2 there rsync --server --log-file=/tmp/x ."\n'
    )
    (odd / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{odd}:{os.environ['PATH']}")
    rsync.local_version.cache_clear()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(HostError, match="--log-file=/tmp/x"):
                await push_tree(host, source, str(tmp_path / "target"))
    finally:
        rsync.local_version.cache_clear()
    assert not names(tmp_path / "target")
