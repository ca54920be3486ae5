"""The file of a backup: a tar.gz whose last member, manifest.json, has the hash of each other one."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import secrets
import tarfile
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mcp_server.errors import BadInput, Conflict

MANIFEST = "manifest.json"
FORMAT = 1
MOST_MANIFEST = 512 * 1024 * 1024  # 100 bytes a file of the results
_CHUNK = 1 << 20
_NAME = re.compile(r"config\.yaml|store/[a-z_]+\.jsonl|secrets/[A-Za-z0-9_][A-Za-z0-9._-]*|artifacts/.+", re.DOTALL)


@dataclass(slots=True)
class Writer:
    """Adds members; what is added is hashed on its way."""

    tar: tarfile.TarFile
    members: dict[str, str] = field(default_factory=dict[str, str])
    _first: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])

    def add(self, name: str, path: Path) -> bool:
        """A file, under this name; content that has several names is kept once. False: it has gone meanwhile."""
        try:
            descriptor = _no_link(str(path), os.O_RDONLY)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            member = tarfile.TarInfo(name)
            member.mode, member.mtime = 0o700 if facts.st_mode & 0o100 else 0o600, int(facts.st_mtime)
            known = self._first.setdefault((facts.st_dev, facts.st_ino), name) if facts.st_nlink > 1 else name
            if known != name:
                member.type, member.linkname = tarfile.LNKTYPE, known
                self.tar.addfile(member)
                self.members[name] = self.members[known]
                return True
            member.size = facts.st_size
            hashed = _Hashed(file, facts.st_size)
            self.tar.addfile(member, hashed)  # pyright: ignore[reportArgumentType]
            self.members[name] = hashed.sha256.hexdigest()
        return True

    def finish(self, facts: dict[str, Any]) -> None:
        """The manifest: only a file that has one is whole."""
        content = json.dumps({"format": FORMAT, **facts, "members": self.members}, indent=1).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size, member.mode = len(content), 0o600
        self.tar.addfile(member, io.BytesIO(content))


class _Hashed:
    """Reads so many bytes of a file and hashes them; one that became shorter is filled up: its size is told already."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left, self.sha256 = file, size, hashlib.sha256()

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        data = self._file.read(wanted).ljust(wanted, b"\0")
        self._left -= wanted
        self.sha256.update(data)
        return data


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextlib.contextmanager
def writing(path: Path) -> Generator[Writer]:
    """A new file `path`, 0600, there when the block ends well, and not at all otherwise.

    Conflict: it is there already. BadInput: its folder cannot be written, or is full.
    """
    if path.exists():
        raise Conflict(f"{path} is there already: name another file, or remove it first")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with (
            os.fdopen(descriptor, "wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield Writer(tar)
        with open(aside, "rb") as file:  # noqa: PTH123 - as above
            os.fsync(file.fileno())
        _keep(aside, path)
    except OSError as error:
        raise BadInput("FILE", f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        aside.unlink(missing_ok=True)


def _keep(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)  # unlike a rename it refuses to overwrite
    except FileExistsError:
        raise Conflict(f"{path} is there already: name another file, or remove it first") from None
    except OSError:  # a file system without links
        aside.replace(path)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A backup whose hashes were found to be right."""

    path: Path
    facts: dict[str, Any]

    def tables(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The name and the lines of each table, in the order in which they were written."""
        with _reading(self.path) as tar:
            for member in tar:
                name = member.name.removeprefix("store/").removesuffix(".jsonl")
                if member.name != name and (content := tar.extractfile(member)) is not None:
                    yield name, iter(content)
                elif member.name.startswith("artifacts/"):
                    return  # they come last, and may be large

    def extract(self, prefix: str, folder: Path) -> int:
        """Write members below `prefix` into `folder`, which is made, 0700 and 0600; how many."""
        count = 0
        with _reading(self.path) as tar:
            for member in tar:
                if not member.name.startswith(prefix):
                    continue
                target = folder / member.name.removeprefix(prefix)
                _make(target.parent, folder)
                if member.islnk():
                    os.link(folder / member.linkname.removeprefix(prefix), target)
                else:
                    _extract(tar, member, target)
                count += 1
        return count

    def content(self, name: str) -> bytes | None:
        """A small member, None where there is none."""
        with _reading(self.path) as tar:
            for member in tar:
                if member.name == name and (content := tar.extractfile(member)) is not None:
                    return content.read(_CHUNK)
        return None


def _make(target: Path, root: Path) -> None:
    if target != root:
        _make(target.parent, root)
    target.mkdir(mode=0o700, exist_ok=True)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None
    mode = 0o700 if member.mode & 0o100 else 0o600
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_CHUNK):
            file.write(piece)
        file.flush()
        os.utime(descriptor, (member.mtime, member.mtime))  # `artifacts.keep` counts from there


@contextlib.contextmanager
def _reading(path: Path) -> Generator[tarfile.TarFile]:
    """BadInput: no backup, cut short or damaged."""
    try:
        with tarfile.open(path, "r|gz") as tar:
            yield tar
    except FileNotFoundError:
        raise BadInput("FILE", f"{path} is not there") from None
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile):
        raise BadInput("FILE", f"{path} is no whole backup: it was cut short, damaged, or is something else") from None
    except OSError as error:
        raise BadInput("FILE", f"{path}: {error.strerror or error}") from None


def checked(path: Path) -> Bundle:
    """Read the whole file once. BadInput: a member is missing, is another than was written, or was never ours."""
    found: dict[str, str] = {}
    manifest: bytes | None = None
    with _reading(path) as tar:
        for member in tar:
            if manifest is not None:
                raise BadInput("FILE", f"{path} goes on behind its end")
            if member.name == MANIFEST and member.isreg() and member.size <= MOST_MANIFEST:
                content = tar.extractfile(member)
                manifest = content.read() if content else b""
            else:
                found[member.name] = _hash(path, tar, member, found)
    if manifest is None:
        raise BadInput("FILE", f"{path} is no whole backup: it has no {MANIFEST}")
    return Bundle(path, _facts(path, manifest, found))


def _hash(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, before: dict[str, str]) -> str:
    plain = _NAME.fullmatch(member.name) and not {"", ".", ".."} & set(member.name.split("/"))
    if not plain or member.name in before or "\0" in member.name:
        raise BadInput("FILE", f"{path} holds {member.name[:80]!r}, which no backup of ours does")
    if member.islnk() and member.linkname in before and member.linkname.startswith("artifacts/"):
        return before[member.linkname]
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise BadInput("FILE", f"{path} holds {member.name[:80]!r}, which is no file")
    hashed = hashlib.sha256()
    while piece := content.read(_CHUNK):
        hashed.update(piece)
    return hashed.hexdigest()


def _facts(path: Path, manifest: bytes, found: dict[str, str]) -> dict[str, Any]:
    try:
        facts = json.loads(manifest)
        members, form = facts.pop("members"), facts["format"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput("FILE", f"{path} is no backup: its {MANIFEST} cannot be read") from None
    if form != FORMAT:
        raise BadInput("FILE", f"{path} is a backup of form {form}, this version reads {FORMAT}: install a newer one")
    for name in sorted(members.keys() | found.keys()):
        if members.get(name) != found.get(name):
            raise BadInput("FILE", f"{path} is damaged: {name[:120]} is not what was backed up; nothing was restored")
    return facts
