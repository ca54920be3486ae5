"""Results kept in an object store, so that they outlive this machine's disk: S3, or what speaks its protocol.

    <prefix>/<store>/blobs/ab/<sha256>             each content once
    <prefix>/<store>/refs/<sha256>/<build>         empty; a blob without any is nobody's
    <prefix>/<store>/builds/<id>/logs/<name>.gz
    <prefix>/<store>/builds/<id>/manifest.json     written last: a build that has one is whole

`<store>` is the database's uuid: several may use one bucket. A build is written again as often as need be; what is
there already is left as it is.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mcp_server.config import Artifacts
from mcp_server.errors import ArchiveError, BadInput, NotFound, OrchestratorError
from mcp_server.store.archive import LOGS, MANIFEST

if TYPE_CHECKING:
    from obstore.store import S3Store

AT_ONCE = 8
TIMEOUT_S, CONNECT_S, RETRIES = 300, 10, 3
LINK_S = 900  # a link is for the one who asked for it, now
MOST_MANIFEST = 64 * 1024 * 1024
_CODE = re.compile(r"<Code>([A-Za-z]{1,80})</Code>(?:<Message>([^<]{0,200})</Message>)?")
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]{0,40})")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the bucket is, and who asks. What is None is taken from AWS's own variables and files."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    key_id: str | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Artifacts, resolve: Callable[[SecretStr], str]) -> "Access | None":
        """As config.yaml says; None where results are kept on a disk only. `resolve` reads secrets, and raises."""
        if not settings.is_remote or settings.store is None:
            return None
        key_id, secret = (None if one is None else resolve(one) for one in (settings.key_id, settings.secret))
        return cls(settings.store.rstrip("/"), settings.endpoint, settings.region, key_id, secret)


class Objects:
    """The results of one database's builds in a bucket. ArchiveError, from each: it cannot be used now, and why."""

    def __init__(self, access: Access, owner: str) -> None:
        self._access, self._owner = access, owner
        self._store: S3Store | None = None

    async def keep(self, build: int, folder: Path) -> int:
        """Bring an archived build there, `folder` as `Archive` made it: how many bytes were sent.

        NotFound: there is no manifest, so it is not archived; or one of its files is gone.
        """
        kept = [file for file in await asyncio.to_thread(_listed, folder) if _is_blob(file)]
        files = {file["sha256"]: folder / file["stage"] / file["path"] for file in kept}

        async def keep(sha256: str) -> int:
            return await self._keep_blob(build, sha256, files[sha256])

        sent = sum(await _each(sorted(files), keep))
        logs = await asyncio.to_thread(lambda: sorted((folder / LOGS).glob("*.gz")))
        for log in logs:
            sent += await self._put(f"builds/{build}/logs/{log.name}", log)
        return sent + await self._put(f"builds/{build}/{MANIFEST}", folder / MANIFEST)

    async def _keep_blob(self, build: int, sha256: str, path: Path) -> int:
        try:
            key, size = _blob(sha256), (await asyncio.to_thread(path.stat)).st_size
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}") from None
        await self._put(f"refs/{sha256}/{build}", b"")  # first: from now on no clean-up takes the blob away
        return 0 if await self._size(key) == size else await self._put(key, path)

    async def drop(self, build: int) -> None:
        """Take a build away, and the contents that no other has."""
        try:
            files = _files(await self.read(f"builds/{build}/{MANIFEST}", MOST_MANIFEST))
        except NotFound:
            files = []  # one that was never whole
        shas = {file["sha256"] for file in files if _is_blob(file)}
        for sha256 in sorted(shas):
            await self._delete([f"refs/{sha256}/{build}"])
            if not await self._list(f"refs/{sha256}/"):
                await self._delete([_blob(sha256)])
        left = await self._list(f"builds/{build}/")
        await self._delete([*(key for key in left if not key.endswith(MANIFEST)), f"builds/{build}/{MANIFEST}"])

    async def builds(self) -> Mapping[int, datetime]:
        """Those that are whole there, and since when."""
        found: dict[int, datetime] = {}
        for key, changed in (await self._list("builds/")).items():
            _, number, *rest = key.split("/")
            if rest == [MANIFEST] and number.isdecimal():
                found[int(number)] = changed
        return found

    async def link(self, sha256: str, seconds: int = LINK_S) -> str:
        """An address from which anybody can read this content for so long. NotFound: it is not there."""
        key = _blob(sha256)
        if await self._size(key) is None:
            raise NotFound(f"content {sha256[:12]} is not in {self._access.url}")
        obstore = _library()
        async with self._said("sign a link"):
            return await asyncio.to_thread(
                obstore.sign, self._open(), "GET", self._key(key), timedelta(seconds=seconds)
            )

    async def content(self, sha256: str, most: int) -> bytes:
        """What has this hash. NotFound: it is not there. BadInput: it has more than `most` bytes."""
        return await self.read(_blob(sha256), most)

    async def read(self, key: str, most: int) -> bytes:
        """As `content`, of any key of this store's."""
        obstore = _library()
        async with self._said("read"):
            found = await asyncio.to_thread(obstore.get, self._open(), self._key(key))
            if found.meta["size"] > most:
                raise BadInput("path", f"it has {found.meta['size']:,} bytes; at most {most:,} are read this way")
            return bytes(await asyncio.to_thread(found.bytes))

    async def check(self) -> None:
        """Write and remove an empty object: what it says is that results can be kept."""
        await self._put("check", b"")
        await self._delete(["check"])

    # -- the library -----------------------------------------------------------------------------------------------

    def _open(self) -> "S3Store":
        if self._store is None:
            from obstore.store import S3Store  # noqa: PLC0415 - as `_library`

            bucket, _, prefix = self._access.url.removeprefix("s3://").partition("/")
            given = {
                "endpoint": self._access.endpoint,
                "region": self._access.region,
                "access_key_id": self._access.key_id,
                "secret_access_key": self._access.secret,
            }
            plain = (self._access.endpoint or "").startswith("http://")
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "allow_http": plain,
                    "timeout": f"{TIMEOUT_S}s",
                    "connect_timeout": f"{CONNECT_S}s",
                },
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=TIMEOUT_S)},
                virtual_hosted_style_request=self._access.endpoint is None,
                **{name: value for name, value in given.items() if value is not None},  # pyright: ignore[reportArgumentType]
            )
        return self._store

    def _key(self, key: str) -> str:
        return f"{self._owner}/{key}"

    def _said(self, doing: str) -> "_Said":
        return _Said(self._access.url, doing)

    async def _put(self, key: str, content: Path | bytes) -> int:
        obstore = _library()
        async with self._said("write"):
            await asyncio.to_thread(obstore.put, self._open(), self._key(key), content)
        return len(content) if isinstance(content, bytes) else (await asyncio.to_thread(content.stat)).st_size

    async def _size(self, key: str) -> int | None:
        obstore = _library()
        try:
            async with self._said("read"):
                return int((await asyncio.to_thread(obstore.head, self._open(), self._key(key)))["size"])
        except NotFound:
            return None

    async def _delete(self, keys: Sequence[str]) -> None:
        obstore = _library()
        if keys:
            async with self._said("remove"):
                await asyncio.to_thread(obstore.delete, self._open(), [self._key(key) for key in keys])

    async def _list(self, prefix: str) -> Mapping[str, datetime]:
        """Keys, and when each was written."""
        obstore, store, start = _library(), self._open(), f"{self._owner}/"

        def listed() -> dict[str, datetime]:
            batches = obstore.list(store, prefix=self._key(prefix))
            return {entry["path"].removeprefix(start): entry["last_modified"] for batch in batches for entry in batch}

        async with self._said("list"):
            return await asyncio.to_thread(listed)


class _Said:
    """Around what the library does: its failures as ours, in one sentence without anything that was sent."""

    def __init__(self, url: str, doing: str) -> None:
        self._url, self._doing = url, doing

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None or error is None or not isinstance(error, Exception) or isinstance(error, NotFound | BadInput):
            return
        text = str(error)
        code, status = _CODE.search(text), _STATUS.search(text)
        read = self._doing != "write"  # what is written is never missing: that is another fault
        if isinstance(error, FileNotFoundError) and read and (code is None or code[1] == "NoSuchKey"):
            raise NotFound(f"it is not in {self._url}") from None
        said = f"{code[1]}: {code[2] or ''}".strip(": ") if code else status[1].strip() if status else ""
        if not said:
            said = "it does not answer" if "sending request" in text else text.partition("\n")[0][:200]
        raise ArchiveError(f"{self._url} cannot be used to {self._doing} results: {said}") from None


def _library() -> Any:
    """Loaded at the first use. ArchiveError: it is not installed.

    Its functions are called in threads: the threads behind its own coroutines can abort a process that ends.
    """
    try:
        import obstore  # noqa: PLC0415 - five megabytes that few homes need
    except ImportError:
        raise ArchiveError("artifacts.store is s3://…: that needs `pip install 'build-orchestrator[team]'`") from None
    return obstore


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
