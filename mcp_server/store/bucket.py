"""One bucket of an object store: put, read, list and remove, through obstore, in threads of their own.

A store that hangs holds a thread for minutes, so none of these is one of the event loop's own:
the database is asked in those.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from mcp_server.config import Artifacts
from mcp_server.errors import ArchiveError, BadInput, NotFound
from mcp_server.store import s3_requests

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")

TIMEOUT_S, CONNECT_S, RETRIES = 120, 10, 3  # of a request, which carries 5 MB at most
KINDLY = {"Content-Disposition": "attachment", "Content-Type": "application/octet-stream"}
"""How a file is stored, so that nobody's browser shows one as a page."""

_CODE = re.compile(r"<Code>([A-Za-z]{1,80})</Code>(?:<Message>([^<]{0,200})</Message>)?")
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]{0,40})")
_FULL = ("507", "QuotaExceeded", "StorageFull", "InsufficientStorage", "InsufficientCapacity")
_EXPIRED = ("ExpiredToken", "InvalidAccessKeyId", "TokenRefreshRequired", "SignatureDoesNotMatch", "InvalidToken")


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


class Bucket:
    """Keys below the prefix of `access.url`. ArchiveError, from each: it cannot be used now, and why."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._name, _, self._prefix = access.url.removeprefix("s3://").partition("/")
        self._store: S3Store | None = None

    async def put(self, key: str, content: Path | bytes) -> int:
        """Write an object: how many bytes it has."""
        obstore, store = _library(), self._open()
        size = len(content) if isinstance(content, bytes) else (await asyncio.to_thread(content.stat)).st_size
        async with _Said(self.access.url, "write"):
            await in_thread(lambda: obstore.put(store, key, content, attributes=KINDLY))
        return size

    async def read(self, key: str, most: int) -> bytes:
        """What it holds. NotFound: it is not there. BadInput: it has more than `most` bytes."""
        obstore, store = _library(), self._open()

        def read() -> bytes:
            found = obstore.get(store, key)
            if found.meta["size"] > most:
                raise BadInput("path", f"it has {found.meta['size']:,} bytes; at most {most:,} are read this way")
            return bytes(found.bytes())

        async with _Said(self.access.url, "read"):
            return await in_thread(read)

    async def facts(self, key: str) -> tuple[int, datetime] | None:
        """Its size in bytes, and when it was written by the clock of the store; None: it is not there."""
        obstore, store = _library(), self._open()
        try:
            async with _Said(self.access.url, "read"):
                found = await in_thread(lambda: obstore.head(store, key))
        except NotFound:
            return None
        return int(found["size"]), found["last_modified"]

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove these; one that is not there is none the less gone."""
        obstore, store = _library(), self._open()
        if keys:
            async with _Said(self.access.url, "remove"):
                await in_thread(lambda: obstore.delete(store, list(keys)))

    async def listed(self, prefix: str, read: Callable[[Iterator[tuple[str, datetime]]], T], after: str = "") -> T:
        """What `read` makes, in a thread, of the keys below `prefix` and when each was written, in order."""
        obstore, store = _library(), self._open()

        def entries() -> Iterator[tuple[str, datetime]]:
            for batch in obstore.list(store, prefix=prefix, offset=after or None, chunk_size=1000):
                for entry in batch:
                    yield entry["path"], entry["last_modified"]

        async with _Said(self.access.url, "list"):
            return await in_thread(lambda: read(entries()))

    async def all(self, prefix: str) -> Mapping[str, datetime]:
        """Each key below a prefix that has few, and when it was written."""
        return await self.listed(prefix, dict)

    async def link(self, key: str, seconds: int, name: str) -> str:
        """An address from which anybody can read it for so long, as a download of this name where that can be said."""
        place = s3_requests.Place.of(self.access.url, self.access.endpoint, self.access.region, self._keys())
        if place is not None:
            said = s3_requests.as_download(name)
            return s3_requests.signed(place, "GET", self._whole(key), said, seconds, datetime.now(UTC))
        obstore, store = _library(), self._open()
        async with _Said(self.access.url, "sign a link"):
            return await in_thread(lambda: obstore.sign(store, "GET", key, timedelta(seconds=seconds)))

    async def end_unfinished(self, prefix: str, before: datetime, most: int) -> int:
        """Give up uploads in parts that were begun before that and never ended: how many.

        None where who asks is known to the library only, by a machine's role say: a rule of the bucket does it there.
        """
        place = s3_requests.Place.of(self.access.url, self.access.endpoint, self.access.region, self._keys())
        if place is None:
            return 0
        async with _Said(self.access.url, "remove"):
            return await in_thread(
                lambda: s3_requests.end_unfinished(place, self._whole(prefix), before, datetime.now(UTC), most)
            )

    def _whole(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _keys(self) -> tuple[str, str] | None:
        return (self.access.key_id, self.access.secret) if self.access.key_id and self.access.secret else None

    def _open(self) -> "S3Store":
        if self._store is None:
            from obstore.store import S3Store  # noqa: PLC0415 - as `_library`

            given = {
                "endpoint": self.access.endpoint,
                "region": self.access.region,
                "access_key_id": self.access.key_id,
                "secret_access_key": self.access.secret,
            }
            self._store = S3Store(
                self._name,
                prefix=self._prefix or None,
                client_options={
                    "allow_http": (self.access.endpoint or "").startswith("http://"),
                    "timeout": f"{TIMEOUT_S}s",
                    "connect_timeout": f"{CONNECT_S}s",
                },
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=TIMEOUT_S)},
                virtual_hosted_style_request=self.access.endpoint is None,
                **{name: value for name, value in given.items() if value is not None},  # pyright: ignore[reportArgumentType]
            )
        return self._store


class _Said:
    """Around what the library does: its failures as ours, in one sentence without anything that was sent."""

    def __init__(self, url: str, doing: str) -> None:
        self._url, self._doing = url, doing

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None or error is None or not isinstance(error, Exception) or isinstance(error, NotFound | BadInput):
            return
        text = str(error)
        code = _CODE.search(text)
        read = self._doing != "write"  # what is written is never missing: that is another fault
        if isinstance(error, FileNotFoundError) and read and (code is None or code[1] == "NoSuchKey"):
            raise NotFound(f"it is not in {self._url}") from None
        raise ArchiveError(f"{self._url} cannot be used to {self._doing} results: {_why(text)}") from None


def _why(text: str) -> str:
    code, status = _CODE.search(text), _STATUS.search(text)
    said = f"{code[1]}: {code[2] or ''}".strip(": ") if code else status[1].strip() if status else ""
    if not said:
        return "it does not answer" if "sending request" in text else text.partition("\n")[0][:200]
    if any(word in said for word in _FULL):
        return f"it is full ({said}): free some there, or lower artifacts.keep"
    if "RequestTimeTooSkewed" in said:
        return f"this machine's clock and its own are too far apart ({said}): set this one by NTP"
    if any(word in said for word in _EXPIRED):
        return f"it does not know who asks ({said}): set artifacts.key_id and artifacts.secret anew"
    return said


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` gives, done in a thread of its own that a process which ends does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Callable[[], None]) -> None:
        if not done.done():
            result()

    def run() -> None:
        try:
            value = work()
        except BaseException as caught:
            error = caught if isinstance(caught, Exception) else RuntimeError(type(caught).__name__)
            told: Callable[[], None] = lambda: done.set_exception(error)  # noqa: E731
        else:
            told = lambda: done.set_result(value)  # noqa: E731
        try:
            loop.call_soon_threadsafe(settle, told)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="results", daemon=True).start()
    return await done


def _library() -> Any:
    """Loaded at the first use. ArchiveError: it is not installed.

    Its functions are called in threads: the threads behind its own coroutines can abort a process that ends.
    """
    try:
        import obstore  # noqa: PLC0415 - five megabytes that few homes need
    except ImportError:
        raise ArchiveError("artifacts.store is s3://…: that needs `pip install 'build-orchestrator[team]'`") from None
    return obstore
