"""Results of builds, kept after their jobs are gone: files by their hash, and readable trees of links to them.

    <root>/blobs/ab/<sha256>            each content once; <sha256>.x is one that may be executed
    <root>/builds/<id>/<stage>/<path>   hard links to them
    <root>/builds/<id>/logs/<name>.gz
    <root>/builds/<id>/manifest.json    what the build was, and every file's stage, size and hash

Every step is a rename or a link, so a crash leaves whole files, at worst some without a reference; `sweep` ends those.
"""

import asyncio
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from mcp_server.errors import ArchiveError, BadInput, NotFound
from mcp_server.model import Artifact

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")

LOGS = "logs"
MANIFEST = "manifest.json"
_STAGE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_ASIDE = re.compile(r"\.new\.[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FRESH_S = 3600  # a blob without a link may be on its way into a tree; nothing takes an hour between the two
_CHUNK = 1 << 20  # bytes


class File(Protocol):
    """A file of a staging folder, whose hash has been checked on its way there."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed: builds by their ids, blobs that no build refers to, and the bytes that came free."""

    builds: tuple[int, ...]
    blobs: int
    bytes: int


class Archive:
    """The archive below `root`, on a local file system. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, build: int, stage: str) -> Path:
        """Where the files of a stage lie; it need not exist."""
        return self._build(build) / _checked("stage", stage)

    async def add(self, build: int, stage: str, folder: Path, files: Sequence[File]) -> Sequence[Artifact]:
        """Take these files of `folder` in; they leave it. What the stage left there before stays, unless of that path.

        Of their permission bits it is kept whether the owner may execute them; nobody else may read the archive.
        NotFound names a file that is not in `folder`; BadInput a path or a hash that is none; ArchiveError: no space.
        """
        for file in files:
            _check(file)
        return await _in_thread(self._add, self.folder(build, stage), folder, files)

    async def add_log(self, build: int, name: str, chunks: AsyncIterator[bytes]) -> Path:
        """Keep a log, compressed: `<build>/logs/<name>.gz`. One of that name is replaced. ArchiveError: no space."""
        target = self._build(build) / LOGS / f"{_checked('log name', name)}.gz"
        aside = await _in_thread(_aside, target)
        packer = zlib.compressobj(6, wbits=31)  # gzip
        try:
            raw = await _in_thread(_new, aside)
            try:
                async for chunk in chunks:
                    await _in_thread(_append, raw, packer.compress, chunk)
                await _in_thread(_append, raw, packer.flush)
            finally:
                await _in_thread(raw.close)
            await _in_thread(aside.replace, target)
        finally:
            await _in_thread(aside.unlink, missing_ok=True)
        return target

    async def write_manifest(self, build: int, facts: Mapping[str, Any]) -> Path:
        """`facts` and what is kept of the build, as JSON. ArchiveError: no space."""
        return await _in_thread(self._write_manifest, build, facts)

    async def sweep(
        self, keep_s: float, now: datetime, max_bytes: int | None = None, spare: Collection[int] = ()
    ) -> Swept:
        """Remove builds whose last change is more than `keep_s` seconds old, then the oldest until `max_bytes` hold.

        Those in `spare` stay whatever their age. Then blobs that no build refers to are removed, once an hour old.
        """
        return await _in_thread(self._sweep, keep_s, now.timestamp(), max_bytes, frozenset(spare))

    async def size(self) -> int:
        """Bytes on the disk, each content once."""
        return await _in_thread(lambda: sum(_sizes(self._root).values()))

    def _build(self, build: int) -> Path:
        if build < 0:
            raise BadInput("build", f"{build} must be the id of a build")
        return self._root / "builds" / str(build)

    def _add(self, target: Path, folder: Path, files: Sequence[File]) -> list[Artifact]:
        _no_link_below(self._root, target)
        for file in files:
            source = folder / file.path
            if not source.is_file() or source.is_symlink() or source.stat().st_size != file.size:
                raise NotFound(f"{source} is not the file of {file.size} bytes that was to be kept")
            blob = self._keep(source, file.sha256)
            _no_link_below(target, (target / file.path).parent)
            _give_way(target, file.path)
            _make(target.joinpath(file.path).parent)
            self._link(blob, target / file.path)
            source.unlink()
        return [Artifact(path=file.path, size=file.size, sha256=file.sha256) for file in files]

    def _keep(self, source: Path, sha256: str) -> Path:
        """The blob of that hash, made from `source` where it is not there already."""
        runs = bool(source.stat().st_mode & stat.S_IXUSR)
        blob = self._root / "blobs" / sha256[:2] / (f"{sha256}.x" if runs else sha256)
        if blob.exists():
            os.utime(blob)  # fresh again, so that no sweep takes it before it is linked
            if blob.stat().st_size == source.stat().st_size:
                return blob
        aside = _aside(blob)
        try:
            try:
                os.link(source, aside)
                # the link is shared with whoever still writes to the staged file; its own copy is nobody else's
                if source.stat().st_nlink > 2:
                    raise OSError(errno.EXDEV, "shared")
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                aside.unlink(missing_ok=True)
                shutil.copyfile(source, aside)
            aside.chmod(0o700 if runs else 0o600)
            os.utime(aside)
            _flush(aside)
            aside.replace(blob)
        finally:
            aside.unlink(missing_ok=True)
        return blob

    def _link(self, blob: Path, target: Path) -> None:
        """`target` becomes the blob, by one rename; a copy where a file has as many links as it can have."""
        aside = _aside(target)
        try:
            try:
                os.link(blob, aside)
            except OSError as error:
                if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                    raise
                shutil.copyfile(blob, aside)
                shutil.copymode(blob, aside)
            if target.exists() and target.samefile(aside):
                return  # rename of two names of one file would do nothing, and leave both
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def _write_manifest(self, build: int, facts: Mapping[str, Any]) -> Path:
        folder = self._build(build)
        target = folder / MANIFEST
        kept = [
            _described(folder, path)
            for path in sorted(_files(folder))
            if path != target and not _ASIDE.fullmatch(path.name)
        ]
        text = json.dumps({**facts, "build": build, "files": kept}, indent=2, default=str)
        aside = _aside(target)
        try:
            with open(aside, "x", encoding="utf-8", opener=_private) as file:
                file.write(text + "\n")
            _flush(aside)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        return target

    def _sweep(self, keep_s: float, now: float, max_bytes: int | None, spare: frozenset[int]) -> Swept:
        before = total = sum(_sizes(self._root).values())
        removed: list[int] = []
        blobs = self._drop_blobs(now, frozenset())
        for changed, build, path in sorted((_changed(path), int(path.name), path) for path in _numbered(self._root)):
            too_much = max_bytes is not None and total > max_bytes
            if build in spare or not (too_much or changed < now - keep_s):
                continue
            inodes = frozenset(key for key in _sizes(path))
            _remove(path)
            removed.append(build)
            blobs += self._drop_blobs(now, inodes)
            total = sum(_sizes(self._root).values())
        for path in (self._root / "builds").glob(".gone.*"):  # of a sweep that was ended in the middle
            shutil.rmtree(path, ignore_errors=True)
        return Swept(tuple(sorted(removed)), blobs, before - sum(_sizes(self._root).values()))

    def _drop_blobs(self, now: float, inodes: Collection[tuple[int, int]]) -> int:
        """Blobs without a link; a fresh one only if it is of `inodes`, those of a build that was removed just now."""
        dropped = 0
        for path in _files(self._root / "blobs"):
            with suppress(FileNotFoundError):
                facts = path.stat()
                old = now - facts.st_mtime > _FRESH_S
                if facts.st_nlink == 1 and (old or (facts.st_dev, facts.st_ino) in inodes):
                    path.unlink()
                    dropped += 1
        return dropped


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:  # leave only when it is done
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError(
                f"no space left for results: {error.filename or 'the archive'}; lower artifacts.keep"
            ) from error
        raise ArchiveError(f"results cannot be kept: {error.strerror}: {error.filename}") from error


def _check(file: File) -> None:
    if any(part in ("", ".", "..") for part in file.path.split("/")) or "\0" in file.path:
        raise BadInput("path", f"{file.path!r} must be a file below the folder: relative, without '.' and '..'")
    if not _SHA256.fullmatch(file.sha256):
        raise BadInput("sha256", f"{file.sha256!r} must be 64 hex digits")


def _checked(argument: str, name: str) -> str:
    if not _STAGE.fullmatch(name) or (argument == "stage" and name in (LOGS, MANIFEST)):
        raise BadInput(argument, f"{name[:60]!r} may hold letters, digits, '.', '_' and '-' only, and not be {LOGS!r}")
    return name


def _give_way(target: Path, path: str) -> None:
    """Remove what an earlier attempt left where this one needs a folder, or a file."""
    *folders, name = path.split("/")
    place = target
    for folder in folders:
        place /= folder
        if place.is_file():
            place.unlink()
    if (place / name).is_dir():
        shutil.rmtree(place / name)


def _make(folder: Path) -> None:
    """With its parents, all of them 0700."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _no_link_below(root: Path, folder: Path) -> None:
    while folder != root and root in folder.parents:
        if folder.is_symlink():
            raise ArchiveError(f"{folder} is a link: results are not kept through it")
        folder = folder.parent


def _aside(target: Path) -> Path:
    """Another name beside the target, whose folder is made."""
    _make(target.parent)
    return target.with_name(f".new.{secrets.token_hex(8)}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _new(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w")


def _append(file: FileIO, pack: Callable[Q, bytes], *args: Q.args, **kwargs: Q.kwargs) -> None:
    data = pack(*args, **kwargs)
    while data:
        data = data[file.write(data) :]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> Iterator[Path]:
    """All below it, links as themselves."""
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            yield Path(parent, name)


def _sizes(folder: Path) -> dict[tuple[int, int], int]:
    """Bytes by device and inode."""
    found: dict[tuple[int, int], int] = {}
    for path in _files(folder):
        with suppress(FileNotFoundError):
            facts = path.lstat()
            found[facts.st_dev, facts.st_ino] = facts.st_size
    return found


def _described(folder: Path, path: Path) -> dict[str, Any]:
    stage, _, name = path.relative_to(folder).as_posix().partition("/")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"stage": stage, "path": name, "size": path.stat().st_size, "sha256": sha256}


def _numbered(root: Path) -> Iterator[Path]:
    return (path for path in (root / "builds").glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def _changed(build: Path) -> float:
    """When its manifest was written, else when anything was put into it."""
    manifest = build / MANIFEST
    return (manifest if manifest.exists() else build).stat().st_mtime


def _remove(build: Path) -> None:
    """Gone under its name at once."""
    gone = build.with_name(f".gone.{build.name}.{secrets.token_hex(4)}")
    build.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
