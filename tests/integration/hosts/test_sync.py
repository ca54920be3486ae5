"""Trees brought to a host: by rsync, and by tar where it is missing (the busybox make)."""

from pathlib import Path

import pytest

from mcp_server.errors import HostError
from mcp_server.hosts.base import Host
from mcp_server.hosts.sync import push_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "sour ce"
    for path in ("a b", "#hash", "d/new\nline", "\udcff", "gone/x", "build/out", ".git/config", "cm/CMakeCache.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("old")
    (folder / "link").symlink_to("/etc/passwd")
    return folder


async def test_a_push_brings_the_source_and_no_builds(host: Host, source: Path, tmp_path: Path) -> None:
    """Issue."""
    target = tmp_path / "tar\nget"
    report = await push_tree(host, source, str(target))
    found = {str(path.relative_to(target)) for path in target.rglob("*") if ".build-orch" not in str(path)}
    assert found == {"a b", "#hash", "d", "d/new\nline", "\udcff", "gone", "gone/x", "link"}
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert report.files_sent == 5


async def test_what_vanished_is_deleted_and_what_a_build_made_stays(host: Host, source: Path, tmp_path: Path) -> None:
    """Issue: also where a folder becomes a file, and where a change keeps size and second."""
    target = tmp_path / "target"
    await push_tree(host, source, str(target))
    (target / "made").write_text("by the build")
    (source / "gone" / "x").unlink()
    (source / "gone").rmdir()
    (source / "gone").write_text("a file now")
    (source / "a b").write_text("new")
    assert (await push_tree(host, source, str(target))).deleted == 1
    assert (target / "made").exists()
    assert (target / "gone").read_text() == "a file now"
    assert (target / "a b").read_text() == "new"


async def test_a_foreign_folder_is_refused(host: Host, source: Path, tmp_path: Path) -> None:
    """Ours: unless it lies within the workdir."""
    target = tmp_path / "foreign"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(HostError, match="no sync brought"):
        await push_tree(host, source, str(target))
    await push_tree(host, source, str(target), within=str(tmp_path))
    assert (target / "mine").read_text() == "mine"
