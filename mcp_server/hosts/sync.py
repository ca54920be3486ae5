"""Whole trees brought to a host or from it: by rsync over our own channel, in another way where one side has none.

A target remembers what was brought there. Only that is ever deleted, so what a build made there stays.
"""

import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcp_server.errors import BadInput, Conflict, HostError, HostFull, HostUnreachable, NotFound
from mcp_server.hosts.base import Channel, Host
from mcp_server.hosts.files import Answers, Changed, batches, check_path, check_root, fetch, look_at, sending, words
from mcp_server.hosts.intake import Folder, in_thread
from mcp_server.hosts.rsync import Ended, Progress, Run, local_version, version_of
from mcp_server.hosts.script import Script
from mcp_server.hosts.tar_out import archive
from mcp_server.hosts.tree import (
    DEFAULT_EXCLUDES,
    MARKER,
    STAGING,
    Entry,
    Excludes,
    Manifest,
    Tree,
    digest,
    gone,
    pack,
    unpack,
    walk,
    without_builds,
)

__all__ = ["DEFAULT_EXCLUDES", "SYNC", "SyncReport", "pull_tree", "push_tree"]

SYNC = Script("sync")
_MAX_NAMES = 500_000  # of a far tree, so that a mistaken "/" ends in words
_CHANGING = (23, 24)  # rsync: some files could not be sent, or vanished in the meantime
_CUT = (10, 12, 255)  # rsync: the stream ended; and no code at all


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, and `how`: "copy" is file by file, each checked by its hash.

    `clock_off_s`: how far the far clock is ahead, to a second; make and ninja compare times.
    """

    files_sent: int
    bytes_sent: int
    deleted: int
    how: Literal["rsync", "tar", "copy"]
    seconds: float
    clock_off_s: float = 0


Waiting = Callable[[], Awaitable[None]]
"""Told that another sync holds the target."""


class _Changing(Exception):
    """The source changed while it was read."""


async def push_tree(
    host: Host,
    source: Path,
    target: str,
    *,
    exclude: Sequence[str] = DEFAULT_EXCLUDES,
    delete: bool = True,
    on_progress: Progress | None = None,
    within: str | None = None,
    on_wait: Waiting | None = None,
) -> SyncReport:
    """Make `target` there, absolute and made where absent, hold the tree `source`.

    What vanished from `source` is deleted there if it was brought by an earlier push and is not excluded now. Build
    folders are never brought (see `tree`); links are kept as links. Pushes into one target wait for each other:
    `on_wait` is awaited once, as soon as this one has to. A source that changes meanwhile is read once more, then
    Conflict. A target that holds anything else, is another user's, or is a home: HostError, unless it is `within` or
    below it. HostFull: no space there. NotFound: no source.
    """
    check_root("target", target)
    began, excludes = time.monotonic(), Excludes(exclude)
    waiting = _once(on_wait)
    for last in (False, True):
        tree = await in_thread(walk, source, excludes)
        push = _Push(host, source, target, excludes, tree, on_progress, waiting)
        try:
            return await push.run(within or "", delete, began)
        except _Changing as error:
            if last:
                raise Conflict(f"{source} keeps changing while it is sent to {host.name}: {error}") from None
    raise AssertionError("unreachable")


def _once(on_wait: Waiting | None) -> Waiting:
    """A source that changes makes a second attempt, which may have to wait again: that is no news."""
    told = False

    async def tell() -> None:
        nonlocal told
        if on_wait is not None and not told:
            told = True
            await on_wait()

    return tell


class _Push:
    """One attempt."""

    def __init__(
        self,
        host: Host,
        source: Path,
        target: str,
        excludes: Excludes,
        tree: Tree,
        progress: Progress | None,
        on_wait: Waiting,
    ) -> None:
        self._host, self._source, self._target = host, source, target
        self._excludes, self._tree, self._progress, self._on_wait = excludes, tree, progress, on_wait

    async def run(self, within: str, delete: bool, began: float) -> SyncReport:
        near = await in_thread(local_version)
        async with self._host.channel(SYNC, "push") as channel:
            answers = Answers(self._host, channel)
            await _send(channel, words(self._target, within))
            known, clock, far = await _ready(self._host, answers, self._target, self._on_wait)
            by_rsync = near is not None and far is not None
            old: Manifest = {}
            deleted = 0
            if not by_rsync or known != digest(self._tree):
                old = await self._manifest(channel, answers)
                if delete:
                    deleted = await self._delete(channel, old)
            if by_rsync and far is not None:
                files, sent = await self._rsync(channel, answers, far, known, {} if delete else old)
            else:
                files, sent = await self._tar(channel, answers, old, delete)
        how: Literal["rsync", "tar"] = "rsync" if by_rsync else "tar"
        return SyncReport(files, sent, deleted, how, time.monotonic() - began, clock)

    async def _manifest(self, channel: Channel, answers: Answers) -> Manifest:
        await _send(channel, words("manifest"))
        return await in_thread(unpack, await answers.line())

    async def _delete(self, channel: Channel, old: Manifest) -> int:
        files, folders = gone(old, self._tree, self._excludes)
        for request, paths in (("delete", files), ("prune", folders)):
            for batch in batches(map(check_path, paths)):
                await _send(channel, words(request, *batch))
        return len(files)

    async def _store(self, channel: Channel, answers: Answers, manifest: Manifest) -> None:
        """From now on it is known there that these may have come from us. Their content is not."""
        text = await in_thread(pack, manifest)
        await _send(channel, words("store", digest(manifest), text))
        if (said := await answers.line()) != "stored":
            raise _error(self._host, said, self._target)

    async def _rsync(
        self, channel: Channel, answers: Answers, far: Sequence[int], known: str, kept: Manifest
    ) -> tuple[int, int]:
        manifest: Manifest = _kinds({**kept, **self._tree})
        if known != digest(manifest):
            await self._store(channel, answers, manifest)
        run = Run(channel, self._progress)
        ended = await run.run(self._source, push=True, paths=list(self._tree), far_version=far)
        await _check(self._host, channel, ended, self._target)
        return ended.files, ended.sent

    async def _modes(self, channel: Channel, changed: Manifest, old: Manifest) -> None:
        """Of folders that are there already: only what is in them is taken from the archive."""
        modes: dict[str, list[str]] = {}
        for path, entry in changed.items():
            if entry[0] == "d" and path in old:
                modes.setdefault(f"{int(entry[1]) | 0o700:o}", []).append(check_path(path))
        for mode, folders in modes.items():
            for batch in batches(folders):
                await _send(channel, words("mode", mode, *batch))

    async def _tar(self, channel: Channel, answers: Answers, old: Manifest, delete: bool) -> tuple[int, int]:
        changed = {path: entry for path, entry in self._tree.items() if list(old.get(path, ())) != list(entry)}
        kept: Manifest = {} if delete else old
        if not changed and old.keys() <= {**kept, **self._tree}.keys():
            return 0, 0
        await self._store(channel, answers, {**kept, **self._tree, **_kinds(changed)})
        await self._modes(channel, changed, old)
        await _send(channel, words("tar"))
        sent, files, unsteady = 0, 0, list[str]()
        with suppress(OSError):  # it may have ended already, and then has said why
            now: Callable[[Manifest], Manifest] = lambda bad: {**kept, **self._tree, **_kinds(bad)}  # noqa: E731
            async for piece in archive(self._source, changed, now, unsteady):
                await channel.write(piece)
                sent += len(piece)
                if self._progress:
                    self._progress(files, sent)
        files = sum(entry[0] == "f" for entry in changed.values())
        await channel.end_input()
        if (said := await answers.line()) != "done":
            raise _error(self._host, said, self._target)
        if unsteady:
            raise _Changing(f"{unsteady[0]} is not as it was a moment ago")
        return files, sent


def _kinds(manifest: Manifest) -> dict[str, Entry]:
    return {path: (entry[0],) for path, entry in manifest.items()}


async def pull_tree(
    host: Host,
    source: str,
    target: Path,
    *,
    exclude: Sequence[str] = DEFAULT_EXCLUDES,
    on_progress: Progress | None = None,
) -> SyncReport:
    """Bring the tree `source` there, absolute, into `target` here, an empty folder or none.

    What is left out and what stays a link: as with `push_tree`. Links are made last, so nothing is written through one.
    Afterwards all is there or nothing. A source that changes meanwhile is read once more, then Conflict.
    NotFound: no source. BadInput: `target` holds files. HostFull("local"): no space here.
    """
    check_root("source", source)
    began, excludes = time.monotonic(), Excludes(exclude)
    if await in_thread(lambda: target.is_symlink() or (target.exists() and not _is_empty(target))):
        raise BadInput("target", f"{target} must be an empty folder")
    for last in (False, True):
        whole = False
        try:
            report = await _Pull(host, source, target, excludes, on_progress).run(began)
            whole = True
            return report
        except _Changing as error:
            if last:
                raise Conflict(f"{source} keeps changing while it is brought from {host.name}: {error}") from None
        finally:
            if not whole:
                await in_thread(_empty, target)
    raise AssertionError("unreachable")


class _Pull:
    """One attempt, into an empty folder."""

    def __init__(self, host: Host, source: str, target: Path, excludes: Excludes, progress: Progress | None) -> None:
        self._host, self._source, self._target = host, source, target
        self._excludes, self._progress = excludes, progress

    async def run(self, began: float) -> SyncReport:
        near = await in_thread(local_version)
        folder = await in_thread(Folder.open, self._target)
        try:
            async with self._host.channel(SYNC, "pull") as channel:
                answers = Answers(self._host, channel)
                await _send(channel, words(self._source, *self._excludes.find_words()))
                _, clock, far = await _ready(self._host, answers, self._source)
                files, links, folders = await self._names(answers)
                leads = await self._read_links(channel, answers, links)
                moved = None
                if near is not None and far is not None:
                    moved = await self._rsync(channel, folder, far, [*folders, *files])
            how: Literal["rsync", "copy"] = "rsync" if moved else "copy"
            if moved is None:
                moved = await self._copy(files)
                for path in folders:
                    await in_thread(folder.make, path)
            for path, lead in leads.items():
                await in_thread(folder.link, path, lead)
        finally:
            await in_thread(folder.close)
        return SyncReport(*moved, 0, how, time.monotonic() - began, clock)

    async def _names(self, answers: Answers) -> tuple[list[str], list[str], list[str]]:
        """Files, links and folders to bring."""
        files, links, folders = [await self._listed(answers) for _ in range(3)]
        kept, inner = await in_thread(without_builds, [*files, *links], folders, self._excludes)
        is_link = set(links)
        return [path for path in kept if path not in is_link], [path for path in kept if path in is_link], inner

    async def _listed(self, answers: Answers) -> list[str]:
        found: list[str] = []
        while name := (await answers.until(b"\0")).decode("utf-8", "surrogateescape"):
            if name == ".":
                continue
            if len(found) == _MAX_NAMES:
                raise HostError(
                    self._host.name, f"{self._source} holds more than {_MAX_NAMES} files: name a part of it"
                )
            path = name.removeprefix("./")
            try:
                check_path(path)
            except BadInput as error:
                raise HostError(self._host.name, f"{self._source} cannot be brought: {error}") from None
            found.append(path)
        return found

    async def _read_links(self, channel: Channel, answers: Answers, links: Sequence[str]) -> dict[str, str]:
        asked = [words("links", *batch) for batch in batches(map(check_path, links))]
        leads: dict[str, str] = {}
        async with sending(channel, asked):
            for path in links:
                lead = (await answers.until(b"\0")).decode("utf-8", "surrogateescape").removesuffix("\n")
                if not lead:
                    raise _Changing(f"{path} was a link a moment ago")
                leads[path] = lead
        return leads

    async def _rsync(
        self, channel: Channel, folder: Folder, far: Sequence[int], paths: Sequence[str]
    ) -> tuple[int, int]:
        await in_thread(folder.make, STAGING)
        run = Run(channel, self._progress)
        ended = await run.run(self._target, push=False, paths=paths, far_version=far)
        await _check(self._host, channel, ended, self._source, full="local")
        await in_thread(shutil.rmtree, self._target / MARKER)
        return ended.files, ended.sent

    async def _copy(self, files: Sequence[str]) -> tuple[int, int]:
        known = await look_at(self._host, self._source, files)
        if len(known) < len(files):
            lost = min(set(files) - {info.path for info in known})
            raise _Changing(f"{lost} is gone or cannot be read")
        try:
            await fetch(self._host, self._source, known, self._target)
        except Changed as error:
            raise _Changing(str(error)) from None
        size = sum(info.size for info in known)
        if self._progress:
            self._progress(len(known), size)
        return len(known), size


async def _send(channel: Channel, request: bytes) -> None:
    with suppress(OSError):  # reading its answer says what became of it
        await channel.write(request)


async def _ready(
    host: Host, answers: Answers, folder: str, on_wait: Waiting | None = None
) -> tuple[str, float, tuple[int, ...] | None]:
    """What is known there, how far its clock is ahead, and its rsync."""
    while (line := await answers.line()) == "waiting":
        if on_wait:
            await on_wait()
    word, _, rest = line.partition(" ")
    if word == "ready":
        known, now, said = (rest + "  ").split(" ", 2)
        return known, round(float(now) + 0.5 - time.time()), version_of(said)
    if word == "absent":
        raise NotFound(f"{folder} is no folder on {host.name}")
    raise _error(host, line, folder)


def _error(host: Host, line: str, folder: str) -> HostError:
    word, _, rest = line.partition(" ")
    if word == "full":
        return HostFull(host.name, f"no space left in {folder}")
    return HostError(host.name, rest or line)


async def _check(host: Host, channel: Channel, ended: Ended, folder: str, full: str = "") -> None:
    """Raise what an rsync meant; only the far one knows what it could not read. `full`: whose disk it is."""
    far, said = await channel.close()
    code = ended.code or (255 if far is None else far)
    if not code:
        return
    told = [line for line in (ended.said + said).splitlines() if line.strip()]
    first = told[0].strip() if told else f"rsync ended with code {code}"
    if any("No space left" in line or "quota" in line for line in told):
        raise HostFull(full or host.name, f"no space left for {folder}")
    if code in _CHANGING and "Permission denied" not in first:
        raise _Changing(first)
    if code in _CUT:
        raise HostUnreachable(host.name, "the connection ended in the middle of a sync")
    raise HostError(host.name, f"{folder} was not synced: {first}")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def _empty(folder: Path) -> None:
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
