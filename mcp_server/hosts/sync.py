"""Whole trees brought to a host or from it: by rsync over our own channel, by tar where one side has none.

A target remembers what was brought there. Only that is ever deleted, so what a build made there stays.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcp_server.errors import Conflict, HostError, HostFull, HostUnreachable
from mcp_server.hosts.base import Channel, Host
from mcp_server.hosts.files import Answers, batches, check_path, check_root, words
from mcp_server.hosts.intake import in_thread
from mcp_server.hosts.rsync import Ended, Progress, Run, local_version, version_of
from mcp_server.hosts.script import Script
from mcp_server.hosts.tar_out import archive
from mcp_server.hosts.tree import (
    DEFAULT_EXCLUDES,
    Entry,
    Excludes,
    Manifest,
    Tree,
    digest,
    gone,
    pack,
    unpack,
    walk,
)

__all__ = ["DEFAULT_EXCLUDES", "SYNC", "SyncReport", "push_tree"]

SYNC = Script("sync")
_CHANGING = (23, 24)  # rsync: some files could not be sent, or vanished in the meantime


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did. `clock_off_s`: how far the far clock is ahead, to a second; make and ninja compare times."""

    files_sent: int
    bytes_sent: int
    deleted: int
    how: Literal["rsync", "tar"]
    seconds: float
    clock_off_s: float = 0


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
) -> SyncReport:
    """Make `target` there, absolute and made where absent, hold the tree `source`.

    What vanished from `source` is deleted there if it was brought by an earlier push and is not excluded now. Build
    folders are never brought (see `tree`); links are kept as links. Pushes into one target wait for each other.
    A source that changes meanwhile is read once more, then Conflict. A target that holds anything else, is another
    user's, or is a home: HostError, unless it is `within` or below it. HostFull: no space there. NotFound: no source.
    """
    check_root("target", target)
    began, excludes = time.monotonic(), Excludes(exclude)
    for last in (False, True):
        tree = await in_thread(walk, source, excludes)
        push = _Push(host, source, target, excludes, tree, on_progress)
        try:
            return await push.run(within or "", delete, began)
        except _Changing as error:
            if last:
                raise Conflict(f"{source} keeps changing while it is sent to {host.name}: {error}") from None
    raise AssertionError("unreachable")


class _Push:
    """One attempt."""

    def __init__(
        self, host: Host, source: Path, target: str, excludes: Excludes, tree: Tree, progress: Progress | None
    ) -> None:
        self._host, self._source, self._target = host, source, target
        self._excludes, self._tree, self._progress = excludes, tree, progress

    async def run(self, within: str, delete: bool, began: float) -> SyncReport:
        near = await in_thread(local_version)
        async with self._host.channel(SYNC, "push") as channel:
            answers = Answers(self._host, channel)
            await self._send(channel, words(self._target, within))
            known, clock, far = await self._ready(answers)
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

    async def _ready(self, answers: Answers) -> tuple[str, float, tuple[int, ...] | None]:
        """What is known there, how far its clock is ahead, and its rsync."""
        while (line := await answers.line()) == "waiting":
            pass
        word, _, rest = line.partition(" ")
        if word == "ready":
            known, now, said = (rest + "  ").split(" ", 2)
            return known, round(float(now) + 0.5 - time.time()), version_of(said)
        raise self._error(line)

    async def _manifest(self, channel: Channel, answers: Answers) -> Manifest:
        await self._send(channel, words("manifest"))
        return await in_thread(unpack, await answers.line())

    async def _delete(self, channel: Channel, old: Manifest) -> int:
        files, folders = gone(old, self._tree, self._excludes)
        for request, paths in (("delete", files), ("prune", folders)):
            for batch in batches(map(check_path, paths)):
                await self._send(channel, words(request, *batch))
        return len(files)

    async def _store(self, channel: Channel, answers: Answers, manifest: Manifest) -> None:
        """From now on it is known there that these may have come from us. Their content is not."""
        text = await in_thread(pack, manifest)
        await self._send(channel, words("store", digest(manifest), text))
        if (said := await answers.line()) != "stored":
            raise self._error(said)

    async def _rsync(
        self, channel: Channel, answers: Answers, far: Sequence[int], known: str, kept: Manifest
    ) -> tuple[int, int]:
        manifest: Manifest = _kinds({**kept, **self._tree})
        if known != digest(manifest):
            await self._store(channel, answers, manifest)
        run = Run(channel, self._progress)
        ended = await run.run(self._source, push=True, paths=list(self._tree), far_version=far)
        if ended.code:
            raise await self._failure(channel, ended)
        return ended.files, ended.sent

    async def _failure(self, channel: Channel, ended: Ended) -> Exception:
        _, said = await channel.close()
        told = [line for line in (ended.said + said).splitlines() if line.strip()]
        first = told[0].strip() if told else f"rsync ended with code {ended.code}"
        if any("No space left" in line or "quota" in line for line in told):
            return HostFull(self._host.name, f"no space left in {self._target}")
        if ended.code in _CHANGING:
            return _Changing(first)
        if ended.code in (12, 255):  # the stream ended
            return HostUnreachable(self._host.name, "the connection ended in the middle of a sync")
        return HostError(self._host.name, f"{self._target} was not synced: {first}")

    async def _tar(self, channel: Channel, answers: Answers, old: Manifest, delete: bool) -> tuple[int, int]:
        changed = {path: entry for path, entry in self._tree.items() if list(old.get(path, ())) != list(entry)}
        kept: Manifest = {} if delete else old
        if not changed and old.keys() <= {**kept, **self._tree}.keys():
            return 0, 0
        await self._store(channel, answers, {**kept, **self._tree, **_kinds(changed)})
        await self._send(channel, words("tar"))
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
            raise self._error(said)
        if unsteady:
            raise _Changing(f"{unsteady[0]} is not as it was a moment ago")
        return files, sent

    async def _send(self, channel: Channel, request: bytes) -> None:
        with suppress(OSError):  # reading its answer says what became of it
            await channel.write(request)

    def _error(self, line: str) -> HostError:
        word, _, rest = line.partition(" ")
        if word == "full":
            return HostFull(self._host.name, f"no space left in {self._target}")
        return HostError(self._host.name, rest or line)


def _kinds(manifest: Manifest) -> dict[str, Entry]:
    return {path: (entry[0],) for path, entry in manifest.items()}
