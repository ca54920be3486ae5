"""Archived builds brought to the object store, behind their end: no build waits for it, and none is forgotten."""

import asyncio
import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.errors import NotFound, OrchestratorError
from mcp_server.store.archive import MANIFEST
from mcp_server.store.objects import Access, Objects

if TYPE_CHECKING:
    from mcp_server.engine.services import Services

log = logging.getLogger(__name__)

STORED = "stored"
AGAIN_S = (10, 60, 300, 1800)  # after a failure, and after those that follow it
SCAN_S = 3600


class Uploads:
    """What the worker of one home has to bring there: `<archive>/stored/<build>` says where a build is kept."""

    def __init__(self, services: "Services") -> None:
        self._services = services
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()  # a clean-up takes no content away that is just being used again
        self._unfit: set[int] = set()  # builds that cannot be brought as they are; they stay here

    def wake(self) -> None:
        """A build was archived."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                await self.bring()
                failures = 0
            except (OrchestratorError, OSError) as error:
                failures += 1
                log.warning("results are not brought to the store: %s", error)
            except Exception:  # a fault of ours costs this round
                failures += 1
                log.exception("results are not brought to the store")
            pause = AGAIN_S[min(failures, len(AGAIN_S)) - 1] if failures else SCAN_S
            with contextlib.suppress(TimeoutError):
                await self._services.clock.within(pause, self._wake.wait())

    async def bring(self) -> int:
        """Each archived build that is not there yet: how many were brought. ArchiveError: the store cannot be used."""
        objects, brought = await self._objects(), 0
        if objects is None:
            return 0
        for build in await asyncio.to_thread(self._missing):
            if build in self._unfit:
                continue
            async with self._one_at_a_time:
                try:
                    sent = await objects.keep(build, self._root / "builds" / str(build))
                except NotFound as error:  # whoever took a file of it away: the others are brought all the same
                    log.warning("build %d is not stored: %s", build, error)
                    self._unfit.add(build)
                    continue
                await asyncio.to_thread(self._note, build)
            log.info("build %d is stored, %d bytes sent", build, sent)
            brought += 1
        return brought

    async def clean(self, spare: Collection[int]) -> int:
        """Remove what is older than `artifacts.keep` there, but for `spare`: how many builds."""
        objects, now = await self._objects(), self._services.clock.now()
        if objects is None:
            return 0
        keep_s = self._services.config.artifacts.keep
        old = [
            build
            for build, since in (await objects.builds()).items()
            if build not in spare and (now - since).total_seconds() > keep_s
        ]
        for build in sorted(old):
            async with self._one_at_a_time:
                await objects.drop(build)
        await asyncio.to_thread(self._forget)
        return len(old)

    def waiting(self) -> Collection[int]:
        """Archived builds that are not there yet; none without an object store. Reads."""
        return self._missing() if self._services.config.artifacts.is_remote else ()

    @property
    def _root(self) -> Path:
        return self._services.config.artifacts_dir

    async def _objects(self) -> Objects | None:
        services = self._services
        access = await asyncio.to_thread(Access.of, services.config.artifacts, services.secrets.resolve)
        return None if access is None else Objects(access, await services.store.uuid())

    def _missing(self) -> list[int]:
        where = self._services.config.artifacts.store
        found = [path.parent.name for path in (self._root / "builds").glob(f"*/{MANIFEST}")]
        return sorted(int(name) for name in found if name.isdecimal() and self._stored(name) != where)

    def _stored(self, name: str) -> str | None:
        try:
            return (self._root / STORED / name).read_text("utf-8").strip()
        except FileNotFoundError:
            return None

    def _forget(self) -> None:
        """Notes on builds that are not here any more."""
        for note in (self._root / STORED).glob("[0-9]*"):
            if not (self._root / "builds" / note.name).exists():
                note.unlink(missing_ok=True)

    def _note(self, build: int) -> None:
        folder = self._root / STORED
        folder.mkdir(mode=0o700, exist_ok=True)
        aside = folder / f".{build}.new"
        aside.write_text(f"{self._services.config.artifacts.store}\n", "utf-8")
        aside.replace(folder / str(build))
