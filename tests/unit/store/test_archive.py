"""The archive of results."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.hosts.files import FileInfo
from mcp_server.store.archive import Archive


def staged(folder: Path, path: str, text: str) -> FileInfo:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    return FileInfo(path, len(text), hashlib.sha256(text.encode()).hexdigest(), 0o644, 0)


async def test_the_same_content_is_kept_once_and_leaves_with_its_last_build(tmp_path: Path) -> None:
    """Ours."""
    archive = Archive(tmp_path / "archive")
    for build in (1, 2):
        await archive.add(build, "build", tmp_path, [staged(tmp_path, "build/a.bin", "x" * 1000)])
        await archive.write_manifest(build, {"host": "fast"})
    assert (archive.folder(2, "build") / "build/a.bin").read_text() == "x" * 1000
    assert await archive.size() < 2000
    swept = await archive.sweep(0, datetime(2100, 1, 1, tzinfo=UTC), spare=[2])
    assert swept.builds == (1,)
    assert (archive.folder(2, "build") / "build/a.bin").exists()
    await archive.sweep(0, datetime(2100, 1, 1, tzinfo=UTC))
    assert await archive.size() == 0


async def test_a_path_out_of_the_archive_is_refused(tmp_path: Path) -> None:
    """Ours."""
    archive = Archive(tmp_path / "archive")
    info = staged(tmp_path, "a", "x")
    with pytest.raises(BadInput):
        await archive.add(1, "build", tmp_path, [FileInfo("../a", 1, info.sha256, 0o644, 0)])
    with pytest.raises(BadInput):
        archive.folder(1, "../x")
