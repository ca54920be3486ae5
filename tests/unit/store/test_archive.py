"""The archive of results."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcp_server.errors import ArchiveError, BadInput, NotFound
from mcp_server.hosts.files import FileInfo
from mcp_server.store.archive import Archive
from tests.support.small_disk import mounted

LATE = datetime(2100, 1, 1, tzinfo=UTC)
CENTURY_S = 3.2e9


def staged(folder: Path, path: str, text: str, mode: int = 0o644) -> FileInfo:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    (folder / path).chmod(mode)
    return FileInfo(path, len(text), hashlib.sha256(text.encode()).hexdigest(), mode, 0)


async def with_builds(archive: Archive, staging: Path, *texts: str) -> None:
    """Builds 1, 2, … of one file each; the first is the oldest."""
    for build, text in enumerate(texts, 1):
        await archive.add(build, "build", staging, [staged(staging, "a.bin", text)])
        manifest = await archive.write_manifest(build, {})
        os.utime(manifest, (build * 100, build * 100))


def asides(root: Path) -> list[Path]:
    return [*root.rglob(".new.*"), *root.rglob(".gone.*")]


async def test_the_same_content_is_kept_once_and_leaves_with_its_last_build(tmp_path: Path) -> None:
    """Ours."""
    archive = Archive(tmp_path / "archive")
    for build in (1, 2):
        await archive.add(build, "build", tmp_path, [staged(tmp_path, "build/a.bin", "x" * 1000)])
        await archive.write_manifest(build, {"host": "fast"})
    assert (archive.folder(2, "build") / "build/a.bin").read_text() == "x" * 1000
    assert await archive.size() < 2000
    swept = await archive.sweep(0, LATE, spare=[2])
    assert swept.builds == (1,)
    assert (archive.folder(2, "build") / "build/a.bin").exists()
    await archive.sweep(0, LATE)
    assert await archive.size() == 0


async def test_a_path_out_of_the_archive_is_refused(tmp_path: Path) -> None:
    """Ours."""
    archive = Archive(tmp_path / "archive")
    info = staged(tmp_path, "a", "x")
    with pytest.raises(BadInput):
        await archive.add(1, "build", tmp_path, [FileInfo("../a", 1, info.sha256, 0o644, 0)])
    with pytest.raises(BadInput):
        archive.folder(1, "../x")
    with pytest.raises(NotFound):
        await archive.add(1, "build", tmp_path, [FileInfo("no", 1, info.sha256, 0o644, 0)])


async def test_one_content_is_executable_here_and_not_there(tmp_path: Path) -> None:
    """Ours: the bit is the file's, not the content's."""
    archive = Archive(tmp_path / "archive")
    await archive.add(1, "build", tmp_path, [staged(tmp_path, "run", "x", 0o755), staged(tmp_path, "data", "x", 0o640)])
    modes = [(archive.folder(1, "build") / name).stat().st_mode & 0o777 for name in ("run", "data")]
    assert modes == [0o700, 0o600]


async def test_a_log_and_a_manifest_name_what_is_kept(tmp_path: Path) -> None:
    """Ours: and not what is only on its way."""
    archive = Archive(tmp_path / "archive")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a line\n"

    await archive.add(1, "build", tmp_path, [staged(tmp_path, "d/a", "x")])
    log = await archive.add_log(1, "build", chunks())
    (archive.folder(1, "build") / "d" / (".new." + "0" * 16)).write_text("half")
    facts = json.loads((await archive.write_manifest(1, {"host": "fast"})).read_text())
    assert [(kept["stage"], kept["path"]) for kept in facts["files"]] == [("build", "d/a"), ("logs", "build.gz")]
    assert facts["files"][0]["sha256"] == hashlib.sha256(b"x").hexdigest()
    assert (facts["host"], facts["build"], log.name) == ("fast", 1, "build.gz")


async def test_the_oldest_leave_until_the_rest_fits(tmp_path: Path) -> None:
    """Ours: none that is spared, and none more than needed."""
    archive = Archive(tmp_path / "archive")
    await with_builds(archive, tmp_path, "a" * 9000, "b" * 9000, "c" * 9000, "d" * 9000)
    limit = await archive.size() - 10_000
    assert (await archive.sweep(CENTURY_S * 2, LATE, max_bytes=limit, spare=[1])).builds == (2, 3)
    assert await archive.size() <= limit
    assert (await archive.sweep(CENTURY_S * 2, LATE, max_bytes=limit, spare=[1])).builds == ()


async def test_content_that_a_younger_build_holds_frees_nothing(tmp_path: Path) -> None:
    """Ours: so the next one leaves, too, and shared content with its last holder."""
    archive = Archive(tmp_path / "archive")
    await with_builds(archive, tmp_path, "a" * 9000, "b" * 9000, "a" * 9000)
    swept = await archive.sweep(CENTURY_S * 2, LATE, max_bytes=10_000)
    assert swept.builds == (1, 2)
    assert swept.bytes >= 9000
    assert (archive.folder(3, "build") / "a.bin").read_text() == "a" * 9000


# A crash at any step. The child counts what it changes on the disk, and ends instead of the n-th change.
CRASH = """
import asyncio, hashlib, os, sys
from pathlib import Path
from types import SimpleNamespace
from mcp_server.store.archive import Archive

top, texts = Path(sys.argv[1]), {"run": "x" * 500, "d/data": "y" * 500}

def crash_at(step):
    left = step
    def counted(real):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return real(*args, **kwargs)
        return call
    for name in ("link", "replace", "rename", "unlink", "mkdir", "chmod", "utime"):
        setattr(os, name, counted(getattr(os, name)))

for step in range(1, 100):
    staging = top / str(step) / "staging"
    (staging / "d").mkdir(parents=True)
    infos = []
    for path, text in texts.items():
        (staging / path).write_text(text)
        infos.append(SimpleNamespace(path=path, size=len(text), sha256=hashlib.sha256(text.encode()).hexdigest()))
    child = os.fork()
    if child == 0:
        crash_at(step)
        archive = Archive(top / str(step) / "archive")
        archive._add(archive.folder(1, "make"), staging, infos)
        archive._write_manifest(1, {})
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(step)
        break
"""


async def test_a_crash_at_any_step_leaves_whole_files_and_can_be_made_up_for(tmp_path: Path) -> None:
    """Ours: nothing that it left over outlives the next sweep of that build."""
    command = [sys.executable, "-c", CRASH, str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    steps = int(done.stdout)
    assert steps > 15
    for step in range(1, steps):
        archive = Archive(tmp_path / str(step) / "archive")
        kept, staging = archive.folder(1, "make"), tmp_path / str(step) / "staging"
        for path, text in (("run", "x" * 500), ("d/data", "y" * 500)):
            assert (kept / path).read_text() == text if (kept / path).exists() else (staging / path).exists()
        files = [staged(staging, "run", "x" * 500), staged(staging, "d/data", "y" * 500)]
        await archive.add(1, "make", staging, files)
        assert (kept / "run").read_text() == "x" * 500
        await archive.sweep(0, LATE)
        assert await archive.size() == 0
        assert asides(tmp_path / str(step) / "archive") == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "1m")


async def test_a_full_disk_is_said_and_leaves_nothing_half(small: Path, tmp_path: Path) -> None:
    """Ours: the staged file stays, so that it can be kept later."""
    archive = Archive(small / "archive")
    big = staged(tmp_path, "big", "x" * 2_000_000)
    with pytest.raises(ArchiveError, match="no space left"):
        await archive.add(1, "make", tmp_path, [big])
    assert (tmp_path / "big").exists()
    assert await archive.size() == 0

    async def flood() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield os.urandom(65_536)

    with pytest.raises(ArchiveError, match="no space left"):
        await archive.add_log(1, "make", flood())
    assert asides(small) == []
    await archive.add(1, "make", tmp_path, [staged(tmp_path, "a", "fits")])
    assert (archive.folder(1, "make") / "a").read_text() == "fits"
