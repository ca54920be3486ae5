"""Files of a host: found by globs, fetched, put, always checked by their hashes.

Paths are relative, with "/", any bytes but NUL (as surrogate escapes). Nothing of them stands on a command line.
"""

import asyncio
import stat
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mcp_server.errors import BadInput, HostError, HostFull, HostUnreachable, NotFound
from mcp_server.hosts.base import Channel, Host
from mcp_server.hosts.globs import find_words, matcher
from mcp_server.hosts.intake import Folder, in_thread
from mcp_server.hosts.request import quote
from mcp_server.hosts.script import Script

FILES = Script("files")

BATCH = 64  # names a request: far below the length of an argument list, far above the cost of a process
CHUNK = 1 << 20  # bytes; what is held of a file at a time
_LOOKED_AT = 2000  # names of a listing matched at a time: a few ms


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A regular file: `path` below its root, `size` in bytes, `mode` its permission bits, `mtime` in Unix seconds."""

    path: str
    size: int
    sha256: str
    mode: int
    mtime: float


class Changed(HostError):
    """A file is not, or no longer, as it was listed."""


class Answers:
    """The output of a channel in pieces. Its sudden end: HostUnreachable, or HostError with what it said."""

    def __init__(self, host: Host, channel: Channel) -> None:
        self._host, self._channel = host, channel
        self._held = bytearray()

    async def until(self, mark: bytes) -> bytes:
        """Everything up to `mark`, without it."""
        seen = 0
        while (at := self._held.find(mark, seen)) < 0:
            seen = max(0, len(self._held) - len(mark) + 1)
            await self._more()
        found = bytes(self._held[:at])
        del self._held[: at + len(mark)]
        return found

    async def line(self) -> str:
        return (await self.until(b"\n")).decode("utf-8", "surrogateescape")

    async def block(self) -> list[str]:
        """The lines before a line that is a dot."""
        lines: list[str] = []
        while (line := await self.line()) != ".":
            lines.append(line)
        return lines

    async def exactly(self, size: int) -> AsyncGenerator[bytes]:
        """`size` bytes in pieces."""
        while size:
            if not self._held:
                await self._more()
            piece = bytes(self._held[:size]) if len(self._held) > size else bytes(self._held)
            del self._held[: len(piece)]
            size -= len(piece)
            yield piece

    async def _more(self) -> None:
        if piece := await self._channel.read(CHUNK):
            self._held += piece
            return
        code, said = await self._channel.close()
        if code and said.strip():
            raise HostError(self._host.name, said.strip().splitlines()[0])
        raise HostUnreachable(self._host.name, "the connection ended in the middle of a transfer")


@asynccontextmanager
async def sending(channel: Channel, requests: Iterable[bytes]) -> AsyncGenerator[None]:
    """Requests go out while their answers are read: either side may fill its pipe before the other reads."""

    async def send() -> None:
        with suppress(OSError):  # whoever reads the answers sees the end of the channel
            for request in requests:
                await channel.write(request)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def words(*texts: str) -> bytes:
    """A request: one line of sh words."""
    return b" ".join(map(quote, texts)) + b"\n"


def check_root(argument: str, root: str) -> None:
    """A folder of the host must be absolute."""
    if not root.startswith("/") or "\0" in root:
        raise BadInput(argument, f"{root!r} must be an absolute folder of the host")


def check_path(path: str) -> str:
    """A file's path as the scripts take it. BadInput where it could lead out of its root."""
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise BadInput("path", f"{path!r} must be a file below the folder: relative, without '.' and '..'")
    return f"./{path}"


def batches(names: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    """Names a request. One with a newline comes alone, because `sha256sum` may print it."""
    batch: list[str] = []
    for name in names:
        if "\n" in name:
            yield [name]
            continue
        batch.append(name)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


# Listing


class Known(Protocol):
    """What an artifact says of its file."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


async def describe(folder: Path, known: Sequence[Known]) -> Sequence[FileInfo]:
    """These files of a folder here, as `put` takes them: executable ones 0755, others 0644, time as it is here.

    NotFound names one that is not there.
    """

    def look() -> list[FileInfo]:
        found: list[FileInfo] = []
        for each in known:
            path = folder / check_path(each.path)
            try:
                facts = path.lstat()
            except OSError:
                raise NotFound(f"{path} is not there any more") from None
            mode = 0o755 if facts.st_mode & stat.S_IXUSR else 0o644
            found.append(FileInfo(each.path, each.size, each.sha256, mode, facts.st_mtime))
        return found

    return await in_thread(look)


async def list_files(host: Host, root: str, patterns: Sequence[str], *, max_files: int = 10_000) -> Sequence[FileInfo]:
    """The regular files below `root` that the globs name, with their hashes, in the order of their paths.

    A link stands for the file it leads to; one out of the tree, or to a folder, is left out. NotFound: no such root.
    HostError: more than `max_files`, or one that cannot be read. BadInput: a pattern that leads out of the root.
    """
    check_root("root", root)
    if not patterns:
        return []
    is_named = await in_thread(matcher, patterns)
    request = words(root) + words(*await in_thread(find_words, patterns))
    async with host.channel(FILES, "list") as channel:
        answers = Answers(host, channel)
        await channel.write(request)
        await _entered(host, root, answers)
        found: list[str] = []
        async for names in _printed(answers):
            found += await in_thread(_named, names, is_named)
            if len(found) > max_files:
                raise HostError(host.name, f"more than {max_files} files below {root} match: name fewer")
        found.sort()
        return [info async for info in _look(host, channel, answers, found)]


async def _printed(answers: Answers) -> AsyncIterator[list[bytes]]:
    """What `find` prints, some at a time: matching them is not for the event loop."""
    names: list[bytes] = []
    while name := await answers.until(b"\0"):
        names.append(name)
        if len(names) == _LOOKED_AT:
            yield names
            names = []
    yield names


def _named(printed: list[bytes], is_named: Callable[[str], bool]) -> list[str]:
    paths = (name.decode("utf-8", "surrogateescape").removeprefix("./").replace("//", "/") for name in printed)
    return [path for path in paths if is_named(path)]


async def look_at(host: Host, root: str, paths: Sequence[str]) -> Sequence[FileInfo]:
    """What is known there of these files; those that are no readable regular files are left out. Absent root: none."""
    for path in paths:
        check_path(path)
    async with host.channel(FILES, "list") as channel:
        answers = Answers(host, channel)
        await channel.write(words(root) + words(".", "-prune"))  # nothing but the folder itself, and not printed
        try:
            await _entered(host, root, answers)
        except NotFound:
            return []
        await answers.until(b"\0")
        return [info async for info in _look(host, channel, answers, paths, strict=False)]


async def _entered(host: Host, root: str, answers: Answers) -> None:
    match await answers.line():
        case "here":
            return
        case "absent":
            raise NotFound(f"{root} is no folder on {host.name}")
        case other:
            raise HostError(host.name, other.removeprefix("error "))


async def _look(
    host: Host, channel: Channel, answers: Answers, paths: Sequence[str], *, strict: bool = True
) -> AsyncIterator[FileInfo]:
    asked = list(batches(paths))
    async with sending(channel, (words(*map(check_path, batch)) for batch in asked)):
        for batch in asked:
            lines = await answers.block()
            flags = lines[0] if lines else ""
            here = [path for path, flag in zip(batch, flags, strict=False) if flag == "f"]
            if strict and "u" in flags:
                raise HostError(host.name, f"cannot read {batch[flags.index('u')]!r}: its mode or owner forbids it")
            facts, hashes = lines[1 : 1 + len(here)], lines[1 + len(here) :]
            if len(flags) != len(batch) or not len(here) == len(facts) == len(hashes):
                raise Changed(host.name, f"files changed while they were listed, near {batch[0]!r}")
            for path, fact, digest in zip(here, facts, hashes, strict=True):
                yield _info(path, fact, digest)


def _info(path: str, fact: str, digest: str) -> FileInfo:
    size, mode, mtime = fact.split(":")
    return FileInfo(path, int(size), digest.removeprefix("\\")[:64], int(mode, 8) & 0o7777, float(mtime))


# Fetching


async def fetch(host: Host, root: str, files: Sequence[FileInfo], into: Path) -> Sequence[FileInfo]:
    """Bring these files below `into`, made where absent; each appears whole and with the hash asked for, or not at all.

    HostError names a file that is gone or has changed since it was listed; HostFull("local"): no space here. Files that
    arrived before stay. Links below `into` are never followed.
    """
    check_root("root", root)
    known = {info.path: info for info in files}
    asked = list(batches(known))
    requests = [words(*map(check_path, batch)) for batch in asked]
    folder = await in_thread(Folder.open, into)
    try:
        async with host.channel(FILES, "fetch") as channel:
            answers = Answers(host, channel)
            await channel.write(words(root))
            await _entered(host, root, answers)
            async with sending(channel, requests):
                for batch in asked:
                    await _fetch_batch(host, root, answers, [known[path] for path in batch], folder)
    finally:
        await in_thread(folder.close)
    return list(known.values())


async def _fetch_batch(host: Host, root: str, answers: Answers, batch: list[FileInfo], folder: Folder) -> None:
    sizes = [int(line.split(":")[0]) for line in await answers.block()]
    if sizes != [info.size for info in batch]:
        raise await _changed(host, root, batch)
    for info in batch:
        intake = await in_thread(folder.begin, info.path)
        try:
            async with aclosing(answers.exactly(info.size)) as pieces:
                async for piece in pieces:
                    await in_thread(intake.write, piece)
            if intake.sha256 != info.sha256:
                raise await _changed(host, root, batch)
            await in_thread(intake.finish, info.mode, info.mtime)
        finally:
            await in_thread(intake.discard)
    async with aclosing(answers.exactly(2)) as pieces:
        if b"".join([piece async for piece in pieces]) != b".\n":
            raise await _changed(host, root, batch)


async def _changed(host: Host, root: str, batch: list[FileInfo]) -> HostError:
    """Which of them it was: sizes alone do not say it."""
    now = {info.path: info.sha256 for info in await look_at(host, root, [info.path for info in batch])}
    for info in batch:
        if now.get(info.path) != info.sha256:
            what = "changed while it was fetched" if info.path in now else "is gone since it was listed"
            return Changed(host.name, f"{info.path!r} below {root} {what}")
    return Changed(host.name, f"{batch[0].path!r} below {root} or one after it came damaged")


# Putting


async def put(host: Host, root: str, source: Path, files: Sequence[FileInfo]) -> int:
    """Bring these files of `source` below `root` there, made where absent; how many were sent.

    What is there with the same hash, and as executable, is not sent again. Files are placed only when all have arrived
    with the hash asked for, each by one rename. HostFull: no space there, nothing placed. HostError names a file that
    is not as listed.
    """
    check_root("root", root)
    wanted = {info.path: info for info in files}
    there = {info.path: info for info in await look_at(host, root, list(wanted))}
    missing = [info for path, info in wanted.items() if path not in there or _differs(there[path], info)]
    if not missing:
        return 0
    async with host.channel(FILES, "put") as channel:
        answers = Answers(host, channel)
        with suppress(OSError):  # it may have ended already, and then has said why
            await channel.write(words(root))
            async with aclosing(_archive(source, missing)) as pieces:
                async for piece in pieces:
                    await channel.write(piece)
        await channel.end_input()
        match (await answers.line()).partition(" "):
            case "done", _, _:
                return len(missing)
            case "full", _, _:
                raise HostFull(host.name, f"no space left in {root}; nothing was placed there")
            case "changed", _, number:
                name = missing[int(number)].path
                raise HostError(
                    host.name, f"{name!r} changed here while it was sent to {root}; nothing was placed there"
                )
            case _, _, said:
                raise HostError(host.name, f"cannot put files into {root}: {said}")


def _differs(there: FileInfo, info: FileInfo) -> bool:
    return there.sha256 != info.sha256 or (there.mode ^ info.mode) & stat.S_IXUSR != 0


async def _archive(source: Path, files: Sequence[FileInfo]) -> AsyncGenerator[bytes]:
    """A tar archive of the files under their numbers, headed by hashes and names. A changed one is cut or padded."""
    names = b"".join(words(info.sha256, str(at), check_path(info.path)) for at, info in enumerate(files))
    yield _header("names", len(names), 0o600, 0) + names + _padding(len(names))
    for at, info in enumerate(files):
        yield _header(str(at), info.size, info.mode & 0o777 | 0o600, info.mtime)
        try:
            file = await in_thread((source / info.path).open, "rb", 0)
        except OSError as error:
            raise NotFound(f"{source / info.path} cannot be read: {error.strerror}") from None
        try:
            left = info.size
            while left:
                piece = await in_thread(file.read, min(left, CHUNK)) or bytes(min(left, CHUNK))
                left -= len(piece)
                yield piece
        finally:
            await in_thread(file.close)
        yield _padding(info.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int, mode: int, mtime: float) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, int(mtime)
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
