"""Results kept in an object store, so that they outlive this machine's disk: S3, or what speaks its protocol.

    <prefix>/<store>/blobs/ab/<sha256>             each content once
    <prefix>/<store>/refs/<sha256>/<build>         empty; a blob without any is nobody's
    <prefix>/<store>/builds/<id>/begun             empty; written anew whenever somebody begins to bring it
    <prefix>/<store>/builds/<id>/logs/<name>.gz
    <prefix>/<store>/builds/<id>/manifest.json     written last: a build that has one is whole
    <prefix>/<store>/doomed/<what>/<who>           empty; somebody looks whether a blob or a build can go

`<store>` is the database's uuid: several may use one bucket, and each removes below its own name only. A build is
written again as often as need be; what is there already is left as it is.

Machines of one store bring and remove at the same time. Whoever removes writes `doomed` first and then looks for
`refs` or `begun`; whoever brings writes those first and then looks for `doomed`, and waits for what he finds. So one of
the two always sees the other, as such stores show everybody what was written before.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.errors import ArchiveError, NotFound, OrchestratorError
from mcp_server.store.archive import LOGS, MANIFEST
from mcp_server.store.bucket import Access, Bucket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

AT_ONCE = 8
LINK_S = 900  # a link is for the one who asked for it, now
MOST_MANIFEST = 64 * 1024 * 1024
LOOK_S, LOOKS = 0.5, 20  # at what somebody else is removing; then later again
END_S = 1
DECIDED_S = 60  # whoever stood still for longer between his look and the removal leaves it
STALE = timedelta(minutes=30)  # of a `doomed` whose writer is gone: far above DECIDED_S and a request's patience
LEFT = timedelta(days=1)  # what was not finished in that time never will be
PAGE = 20_000  # keys that a sweep looks at
MOST_REMOVED = 1000  # builds, blobs and uploads that one sweep removes, of each


class BeingRemovedError(ArchiveError):
    """Another machine is just removing what is to be brought: it can be brought when that is over."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """What nothing refers to, and was removed: parts of builds, blobs, uploads that were never finished."""

    builds: int
    blobs: int
    uploads: int


class Objects:
    """The results of one database's builds in a bucket. ArchiveError, from each: it cannot be used now, and why.

    `earlier`: databases that this one was restored from. What they left is read, and never removed: they may live on.
    """

    def __init__(self, access: Access, owner: str, earlier: Sequence[str] = ()) -> None:
        self._bucket, self._owner, self._earlier = Bucket(access), owner, earlier

    async def keep(self, build: int, folder: Path) -> int:
        """Bring an archived build there, `folder` as `Archive` made it: how many bytes were sent.

        NotFound: there is no manifest, so it is not archived; or one of its files is gone. BeingRemovedError: later.
        """
        kept = [file for file in await asyncio.to_thread(_listed, folder) if _is_blob(file)]
        files = {file["sha256"]: folder / file["stage"] / file["path"] for file in kept}

        async def refer(sha256: str) -> int:
            return await self._put(f"refs/{sha256}/{build}", b"")

        async def keep(sha256: str) -> int:
            return await self._keep_blob(sha256, files[sha256])

        await self._put(f"builds/{build}/begun", b"")
        await _each(sorted(files), refer)
        await self._wait_for_removals(build, files)
        sent = sum(await _each(sorted(files), keep))
        logs = await asyncio.to_thread(lambda: sorted((folder / LOGS).glob("*.gz")))
        for log in logs:
            sent += await self._put(f"builds/{build}/logs/{log.name}", log)
        return sent + await self._put(f"builds/{build}/{MANIFEST}", folder / MANIFEST)

    async def _keep_blob(self, sha256: str, path: Path) -> int:
        try:
            key, size = _blob(sha256), (await asyncio.to_thread(path.stat)).st_size
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}") from None
        found = await self._bucket.facts(self._key(key))
        return 0 if found is not None and found[0] == size else await self._put(key, path)

    async def _wait_for_removals(self, build: int, shas: Mapping[str, object]) -> None:
        """Until nobody removes any of it. BeingRemovedError: that takes long."""
        for _ in range(LOOKS):
            doomed = await self._all("doomed/")
            mine = [at for key, at in doomed.items() if (what := key.split("/")[1]) in shas or what == f"build-{build}"]
            begun = await self._bucket.facts(self._key(f"builds/{build}/begun")) if mine else None
            if begun is None or all(begun[1] - at > STALE for at in mine):  # both by the clock of the store
                return
            await asyncio.sleep(LOOK_S)
        raise BeingRemovedError(f"build {build} cannot be stored while the same is being removed there")

    async def drop(self, build: int, before: datetime | None = None) -> bool:
        """Take a build away, and the contents that no other has. False: it was brought after `before`, so it stays."""
        async with self._doom(f"build-{build}"):
            there = await self._all(f"builds/{build}/")
            if before is not None and any(changed > before for changed in there.values()):
                return False
            try:
                manifest = await self._bucket.read(self._key(f"builds/{build}/{MANIFEST}"), MOST_MANIFEST)
                shas = {file["sha256"] for file in _files(manifest) if _is_blob(file)}
            except NotFound:
                shas: set[str] = set()  # one that was never whole: `tidy` finds what refers to it
            await self._bucket.delete([self._key(f"refs/{sha256}/{build}") for sha256 in sorted(shas)])
            for sha256 in sorted(shas):
                await self._drop_blob(sha256)
            last = f"builds/{build}/{MANIFEST}"
            await self._delete([*(key for key in there if key != last), last])
        return True

    async def _drop_blob(self, sha256: str) -> bool:
        """Unless a build has it."""
        if await self._refers(sha256):
            return False
        looked = time.monotonic()
        async with self._doom(sha256):
            if await self._refers(sha256) or time.monotonic() - looked > DECIDED_S:
                return False
            await self._delete([_blob(sha256)])
        return True

    async def tidy(self, now: datetime, start: str | None = None) -> Tidied:
        """Remove what was begun a day ago and never finished, at most so much; from hash `start` on, else anywhere.

        What is referred to, by whichever build of this store, stays, as does everything of others.
        """
        before = now - LEFT
        start = secrets.token_hex(2) if start is None else start
        builds = await self._overview()
        parts = {number for number, (newest, whole) in builds.items() if whole is None and newest < before}
        stray, blobs = await self._unreferred(start, builds, before)
        unfinished = sorted({*parts, *stray})[:MOST_REMOVED]
        for number in unfinished:
            await self._drop_part(number, stray.get(number, []), before)
        dropped = [sha256 for sha256 in blobs[:MOST_REMOVED] if await self._drop_blob(sha256)]
        old = [key for key, changed in (await self._all("doomed/")).items() if changed < before]
        await self._delete(old)
        uploads = await self._bucket.end_unfinished(self._key(""), before, MOST_REMOVED)
        return Tidied(len(unfinished), len(dropped), uploads)

    async def _drop_part(self, build: int, shas: Sequence[str], before: datetime) -> None:
        async with self._doom(f"build-{build}"):
            there = await self._all(f"builds/{build}/")
            if f"builds/{build}/{MANIFEST}" in there or any(changed > before for changed in there.values()):
                return
            await self._delete([*(f"refs/{sha256}/{build}" for sha256 in shas), *there])
            for sha256 in shas:
                await self._drop_blob(sha256)

    async def _unreferred(
        self, start: str, builds: Mapping[int, tuple[datetime, datetime | None]], before: datetime
    ) -> tuple[Mapping[int, list[str]], Sequence[str]]:
        """Old references of builds that are not whole, by build; old blobs that have no reference at all."""
        stray: dict[int, list[str]] = {}
        loose: list[str] = []
        for low in dict.fromkeys((start, "")):
            refs = await self._page("refs/", low)
            last = refs[-1][0].split("/")[1] if len(refs) == PAGE else "~"  # its own are not all known
            blobs = await self._page("blobs/", f"{low[:2]}/{low}" if low else "")
            used = {key.split("/")[1] for key, _ in refs}
            old = [key.rpartition("/")[2] for key, changed in blobs if changed < before]
            loose += [sha256 for sha256 in old if sha256 < last and sha256 not in used]
            for key, changed in refs:
                _, sha256, number = key.split("/")
                whole = builds.get(int(number), (None, None))[1] if number.isdecimal() else changed
                if whole is None and changed < before:
                    stray.setdefault(int(number), []).append(sha256)
            if len(refs) == PAGE or len(blobs) == PAGE:
                break  # enough for one time
        return stray, list(dict.fromkeys(loose))

    async def builds(self) -> Mapping[int, datetime]:
        """Those that are whole there, and since when."""
        return {number: whole for number, (_, whole) in (await self._overview()).items() if whole is not None}

    async def _overview(self) -> Mapping[int, tuple[datetime, datetime | None]]:
        """Of each build when anything of it was written last, and when its manifest was."""

        def read(entries: Iterator[tuple[str, datetime]]) -> dict[int, tuple[datetime, datetime | None]]:
            found: dict[int, tuple[datetime, datetime | None]] = {}
            for key, changed in entries:
                _, number, *rest = key.removeprefix(f"{self._owner}/").split("/")
                if number.isdecimal():
                    newest, whole = found.get(int(number), (changed, None))
                    found[int(number)] = (max(newest, changed), changed if rest == [MANIFEST] else whole)
            return found

        return await self._bucket.listed(self._key("builds/"), read)

    async def link(self, sha256: str, name: str, seconds: int = LINK_S) -> str:
        """An address from which anybody can read this content for so long. NotFound: it is not there."""
        return await self._bucket.link(await self._place(sha256), seconds, name)

    async def content(self, sha256: str, most: int) -> bytes:
        """What has this hash. NotFound: it is not there. BadInput: it has more than `most` bytes."""
        return await self._bucket.read(await self._place(sha256), most)

    async def log(self, build: int, name: str, most: int) -> bytes:
        """A log, packed by gzip. NotFound: it is not there. BadInput: it has more than `most` bytes."""
        for owner in (self._owner, *self._earlier):
            with contextlib.suppress(NotFound):
                return await self._bucket.read(f"{owner}/builds/{build}/{LOGS}/{name}.gz", most)
        raise NotFound(f"log {name} of build {build} is not in {self._bucket.access.url}")

    async def _place(self, sha256: str) -> str:
        for owner in (self._owner, *self._earlier):
            if await self._bucket.facts(key := f"{owner}/{_blob(sha256)}") is not None:
                return key
        raise NotFound(f"content {sha256[:12]} is not in {self._bucket.access.url}")

    async def check(self) -> None:
        """Write and remove an empty object: what it says is that results can be kept."""
        await self._put("check", b"")
        await self._delete(["check"])

    @contextlib.asynccontextmanager
    async def _doom(self, what: str) -> "AsyncGenerator[None]":
        """While one looks whether it can go, and removes it."""
        key = f"doomed/{what}/{secrets.token_hex(4)}"
        await self._put(key, b"")
        try:
            yield
        except asyncio.CancelledError:  # whoever ends waits for no store: it grows stale
            with contextlib.suppress(TimeoutError, OrchestratorError):
                await asyncio.wait_for(self._delete([key]), END_S)
            raise
        except BaseException:
            with contextlib.suppress(OrchestratorError):
                await self._delete([key])
            raise
        await self._delete([key])

    async def _refers(self, sha256: str) -> bool:
        return await self._bucket.listed(self._key(f"refs/{sha256}/"), lambda entries: next(entries, None) is not None)

    async def _page(self, prefix: str, after: str) -> list[tuple[str, datetime]]:
        start = f"{self._owner}/"
        return await self._bucket.listed(
            self._key(prefix),
            lambda entries: [(key.removeprefix(start), changed) for key, changed in islice(entries, PAGE)],
            self._key(prefix + after) if after else "",
        )

    async def _all(self, prefix: str) -> Mapping[str, datetime]:
        found = await self._bucket.all(self._key(prefix))
        return {key.removeprefix(f"{self._owner}/"): changed for key, changed in found.items()}

    def _key(self, key: str) -> str:
        return f"{self._owner}/{key}"

    async def _put(self, key: str, content: Path | bytes) -> int:
        return await self._bucket.put(self._key(key), content)

    async def _delete(self, keys: Sequence[str]) -> None:
        await self._bucket.delete([self._key(key) for key in keys])


async def _each(keys: Sequence[str], work: Callable[[str], Awaitable[int]]) -> list[int]:
    """A few at once; the first failure ends the others."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> int:
        async with room:
            return await work(key)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(key)) for key in keys]
    except* OrchestratorError as failed:
        raise _first(failed) from None
    return [task.result() for task in tasks]


def _first(group: ExceptionGroup[OrchestratorError]) -> OrchestratorError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _blob(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


def _is_blob(file: Mapping[str, str]) -> bool:
    return file["stage"] != LOGS


def _files(manifest: bytes) -> list[dict[str, str]]:
    return [{name: str(file[name]) for name in ("stage", "path", "sha256")} for file in json.loads(manifest)["files"]]


def _listed(folder: Path) -> list[dict[str, str]]:
    try:
        return _files((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{folder} has no {MANIFEST}: that build is not archived") from None
