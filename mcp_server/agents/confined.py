"""Files of one folder, for tools that a model uses: no link leads out of it, not even one that is made meanwhile.

The policy answers for the path as it is named; then each folder on the real way is opened by itself without following
a link, so that what was looked at is what is read or replaced. All of it blocks: callers take a thread.
"""

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mcp_server.agents.permission import Policy

MAX_FILE_BYTES = 1_000_000
MAX_ENTRIES = 50_000  # looked at by one walk; a tree beyond that is searched in parts
SKIPPED = frozenset({".git", "build", "managed_components", "node_modules", "__pycache__", ".venv"})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO is refused, not waited for


class Refused(Exception):
    """One sentence why a file is not read or written. `denied`: the policy forbids it, rather than the file."""

    def __init__(self, sentence: str, *, denied: bool = False) -> None:
        self.denied = denied
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class ConfinedFiles:
    """What may be read and written of a policy's folder. Every path is relative to it, or absolute and inside."""

    policy: Policy

    def read(self, path: str) -> bytes:
        """A regular file of at most 1 MB. Refused: outside, not there, a folder, too large."""
        folder, name = self._opened(path)
        try:
            return _content(folder, name, path)
        finally:
            os.close(folder)

    def text(self, path: str) -> str:
        """The same as text; bytes that are no UTF-8 are kept as surrogates. Refused: also a binary file."""
        data = self.read(path)
        if b"\0" in data:
            raise Refused(f"{path[:200]} is a binary file")
        return data.decode("utf-8", "surrogateescape")

    def write(self, path: str, text: str, *, new: bool = False) -> None:
        """Replaces a file in one step, with the mode it had; `new` makes one, and its folders, and replaces none."""
        data = text.encode("utf-8", "surrogateescape")
        if len(data) > MAX_FILE_BYTES:
            raise Refused(f"{path[:200]} would have {len(data):,} bytes: at most {MAX_FILE_BYTES:,} are written")
        folder, name = self._opened(path, make=new, change=True)
        try:
            if new:
                _create(folder, name, data, path)
            else:
                _replace(folder, name, data, path)
        finally:
            os.close(folder)

    def files(self, path: str, until: float) -> Iterator[str]:
        """Names of the regular files below `path`, near ones first, relative to the folder.

        Made or fetched folders (`SKIPPED`) are left out unless `path` is in one; links are not followed. Ends at
        `until` (of time.monotonic) or after 50,000 entries, without a word.
        """
        root = Path(os.path.realpath(self.policy.folder))
        start = self._real(path)
        if not start.is_dir():
            if not start.is_file():
                raise Refused(f"{path[:200]} is not there")
            yield start.relative_to(root).as_posix()
            return
        level, seen = [start], 0
        while level:
            deeper: list[Path] = []
            for folder in level:
                for entry in _entries(folder):
                    seen += 1
                    if seen > MAX_ENTRIES or time.monotonic() > until:
                        return
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in SKIPPED:
                            deeper.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        yield Path(entry.path).relative_to(root).as_posix()
            level = deeper

    def _real(self, path: str, *, change: bool = False) -> Path:
        if why := (self.policy.may_change if change else self.policy.may_touch)(path):
            raise Refused(why, denied=True)
        return Path(os.path.realpath(os.path.join(self.policy.folder, path)))  # noqa: PTH118  # the same as may_touch

    def _opened(self, path: str, *, make: bool = False, change: bool = False) -> tuple[int, str]:
        """The folder that a path's file is in, opened, and the file's name in it."""
        real = self._real(path, change=change)
        root = Path(os.path.realpath(self.policy.folder))
        parts = PurePosixPath(real.relative_to(root)).parts
        if not parts:
            raise Refused(f"{path[:200]} is a folder")
        try:
            here = os.open(root, _FOLDER)
        except OSError as error:
            raise Refused(f"the folder of this task cannot be opened: {error.strerror}") from None
        for part in parts[:-1]:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=here)
                inner = os.open(part, _FOLDER, dir_fd=here)
            except FileNotFoundError:
                raise Refused(f"{path[:200]} is not there") from None
            except OSError as error:
                raise Refused(f"{path[:200]} cannot be reached: {error.strerror}") from None
            finally:
                os.close(here)
            here = inner
        return here, parts[-1]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in order; nothing where it cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for _, entry in zip(range(MAX_ENTRIES), entries, strict=False)), key=lambda e: e.name)
    except OSError:
        return []


def _content(folder: int, name: str, path: str) -> bytes:
    try:
        file = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        raise Refused(f"{path[:200]} is not there") from None
    except OSError as error:
        raise Refused(f"{path[:200]} cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path[:200]} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no regular file'}")
        if status.st_size > MAX_FILE_BYTES:
            raise Refused(f"{path[:200]} has {status.st_size:,} bytes: at most {MAX_FILE_BYTES:,} are read")
        with os.fdopen(file, "rb", closefd=False) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:  # it grows while it is read: half of it must not be written back
            raise Refused(f"{path[:200]} grows: at most {MAX_FILE_BYTES:,} bytes are read")
        return data
    finally:
        os.close(file)


def _create(folder: int, name: str, data: bytes, path: str) -> None:
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    except FileExistsError:
        raise Refused(f"{path[:200]} is there already: change it, or create another") from None
    except OSError as error:
        raise Refused(f"{path[:200]} cannot be created: {error.strerror}") from None
    with os.fdopen(file, "wb") as stream:
        stream.write(data)


def _replace(folder: int, name: str, data: bytes, path: str) -> None:
    made = f".{secrets.token_hex(8)}.part"
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path[:200]} is no regular file")
        if not os.access(name, os.W_OK, dir_fd=folder):
            raise Refused(f"{path[:200]} is read-only")
        file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                os.fchmod(file, stat.S_IMODE(status.st_mode))
            os.replace(made, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(made, dir_fd=folder)
            raise
    except OSError as error:
        raise Refused(f"{path[:200]} cannot be written: {error.strerror}") from None
