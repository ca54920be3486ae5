"""Files of a host: found, fetched, put."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_server.errors import BadInput, HostError, NotFound
from mcp_server.hosts import files as files_module
from mcp_server.hosts.base import Host
from mcp_server.hosts.files import describe, fetch, list_files, put
from mcp_server.hosts.globs import matcher
from mcp_server.store.archive import Archive

NAMES = ["a b", "new\nline", "q'uo\"te", "back\\slash", "-dash", ".dot", "$x`id`", "\udcff\udc81.bin", "#hash"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "ro ot"
    (folder / "build" / "sub").mkdir(parents=True)
    for name in NAMES:
        (folder / "build" / name).write_bytes(os.fsencode(name))
    (folder / "build" / "sub" / "x.bin").write_text("x")
    return folder


async def test_awkward_names_come_and_go_unharmed(host: Host, root: Path, tmp_path: Path) -> None:
    """Ours."""
    files = await list_files(host, str(root), ["build"])
    assert {info.path for info in files} == {f"build/{name}" for name in NAMES} | {"build/sub/x.bin"}
    await fetch(host, str(root), files, tmp_path / "into")
    assert await put(host, str(tmp_path / "th\nere"), tmp_path / "into", files) == len(files)
    assert await put(host, str(tmp_path / "th\nere"), tmp_path / "into", files) == 0
    assert all((tmp_path / "th\nere" / info.path).read_bytes() == (root / info.path).read_bytes() for info in files)
    assert not list(tmp_path.rglob(".build-orchestrator-*"))


async def test_a_link_out_of_the_tree_is_not_listed(host: Host, root: Path) -> None:
    """Ours."""
    (root / "build" / "out").symlink_to("/etc/passwd")
    (root / "build" / "in.bin").symlink_to("sub/x.bin")
    assert [info.path for info in await list_files(host, str(root), ["build/out", "build/in.bin"])] == ["build/in.bin"]


async def test_an_executable_stays_one_through_the_archive(host: Host, root: Path, tmp_path: Path) -> None:
    """Ours: also where a file of the same content is none, and where the other was there before."""
    for name, mode in (("run", 0o755), ("data", 0o640)):
        (root / "build" / name).write_text("same")
        (root / "build" / name).chmod(mode)
    files = await list_files(host, str(root), ["build/run", "build/data"])
    fetched = await fetch(host, str(root), files, tmp_path / "staged")
    archive = Archive(tmp_path / "archive")
    artifacts = await archive.add(1, "make", tmp_path / "staged", fetched)
    kept = archive.folder(1, "make")
    there = tmp_path / "there" / "build"
    there.mkdir(parents=True)
    (there / "run").write_text("same")
    (there / "run").chmod(0o600)
    assert await put(host, str(there.parent), kept, await describe(kept, artifacts)) == 2
    assert [(there / name).stat().st_mode & 0o777 for name in ("run", "data")] == [0o755, 0o644]
    (kept / "build" / "run").unlink()
    with pytest.raises(NotFound, match="build/run"):
        await describe(kept, artifacts)


async def test_a_file_that_changed_is_named(host: Host, root: Path, tmp_path: Path) -> None:
    """Ours: and it does not arrive."""
    files = await list_files(host, str(root), ["build/**/*.bin"])
    (root / "build" / "sub" / "x.bin").write_text("y")
    with pytest.raises(HostError, match=r"'build/sub/x.bin' .* changed"):
        await fetch(host, str(root), files, tmp_path / "into")
    assert not (tmp_path / "into/build/sub/x.bin").exists()
    with pytest.raises(HostError, match="changed here"):
        await put(host, str(tmp_path / "there"), root, files)


async def test_nothing_is_written_outside(host: Host, root: Path, tmp_path: Path) -> None:
    """Ours: neither by a path nor through a link."""
    [info] = await list_files(host, str(root), ["build/sub/x.bin"])
    with pytest.raises(BadInput):
        await fetch(host, str(root), [replace(info, path="../x")], tmp_path / "into")
    (tmp_path / "outside").mkdir()
    (tmp_path / "into").mkdir(exist_ok=True)
    (tmp_path / "into" / "build").symlink_to(tmp_path / "outside")
    with pytest.raises(HostError, match="link"):
        await fetch(host, str(root), [info], tmp_path / "into")
    assert list((tmp_path / "outside").iterdir()) == []


async def test_an_absent_root_is_said(host: Host, tmp_path: Path) -> None:
    """Ours."""
    with pytest.raises(NotFound):
        await list_files(host, str(tmp_path / "no"), ["*"])


@pytest.mark.parametrize("make", ["local"], indirect=True)
async def test_names_are_matched_beside_the_loop(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: a hundred thousand names and a few patterns hold up nobody; none is lost where a piece is full."""
    names = {f"{number}.bin" for number in range(4100)}
    for name in names | {"other"}:
        (tmp_path / name).touch()
    threads: set[int] = set()

    def seen(patterns: Sequence[str]) -> Callable[[str], bool]:
        is_named = matcher(patterns)

        def look(path: str) -> bool:
            threads.add(threading.get_ident())
            return is_named(path)

        return look

    monkeypatch.setattr(files_module, "matcher", seen)
    assert {info.path for info in await list_files(host, str(tmp_path), ["*.bin"])} == names
    assert threads
    assert threading.get_ident() not in threads
