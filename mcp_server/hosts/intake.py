"""Files that come in from a host: written below one folder and nowhere else, whole or not at all."""

import asyncio
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from mcp_server.errors import HostError, HostFull

P = ParamSpec("P")
T = TypeVar("T")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it beside the loop. A cancelled caller leaves only when it is done: nobody closes what it writes to."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


class Folder:
    """A folder that files are taken into. Each folder of a path is opened by its own name: no link is followed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Made where absent. HostError("local") where it cannot be."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise _error(error, path) from None

    def close(self) -> None:
        os.close(self._descriptor)

    def begin(self, path: str) -> "Intake":
        """Start a file. `path` is relative and checked; its folders are made."""
        *folders, name = path.split("/")
        descriptor = self._descend(folders, path)
        try:
            return Intake(descriptor, name, self.path / path)
        except OSError as error:
            os.close(descriptor)
            raise _error(error, self.path / path) from None

    def make(self, path: str) -> None:
        """A folder, with those above it."""
        os.close(self._descend(path.split("/"), path))

    def link(self, path: str, target: str) -> None:
        """A link that leads to `target`, wherever that is; nothing is written through it."""
        *folders, name = path.split("/")
        descriptor = self._descend(folders, path)
        try:
            os.symlink(target, name, dir_fd=descriptor)
        except OSError as error:
            raise _error(error, self.path / path) from None
        finally:
            os.close(descriptor)

    def _descend(self, folders: Sequence[str], path: str) -> int:
        descriptor = os.dup(self._descriptor)
        try:
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700, dir_fd=descriptor)
                inner = os.open(folder, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
        except OSError as error:
            os.close(descriptor)
            raise _error(error, self.path / path) from None
        return descriptor


class Intake:
    """One file that is being written, under another name until it is whole."""

    def __init__(self, folder: int, name: str, path: Path) -> None:
        self._folder, self._name, self._path = folder, name, path
        self._aside = f".build-orchestrator-{secrets.token_hex(8)}"
        self._hash = hashlib.sha256()
        self._file = os.open(self._aside, _NEW, 0o600, dir_fd=folder)
        self._open = True

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """HostFull("local"): no space here."""
        self._hash.update(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise _error(error, self._path) from None

    def finish(self, mode: int, mtime: float) -> None:
        """Put it in its place."""
        try:
            os.fchmod(self._file, mode & 0o777 | 0o600)
            os.utime(self._file, (mtime, mtime))
            os.rename(self._aside, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            raise _error(error, self._path) from None
        self._close()

    def discard(self) -> None:
        """Let go of a file that is not finished; nothing to do for one that is."""
        if self._open:
            os.unlink(self._aside, dir_fd=self._folder)
            self._close()

    def _close(self) -> None:
        self._open = False
        os.close(self._file)
        os.close(self._folder)


def _error(error: OSError, path: Path) -> HostError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostFull("local", f"no space left for {path}")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return HostError("local", f"{path} is not written: there is a link or a file where a folder has to be")
    return HostError("local", f"{path} cannot be written: {error.strerror}")
