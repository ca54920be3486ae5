"""Archived builds brought to the object store, behind their end: no build waits for it, and none is forgotten."""

import asyncio
import contextlib
import logging
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.errors import ArchiveError, NotFound, OrchestratorError
from mcp_server.store.bucket import Access
from mcp_server.store.identity import before
from mcp_server.store.objects import Objects
from mcp_server.store.stored import Notes

if TYPE_CHECKING:
    from mcp_server.engine.services import Services

log = logging.getLogger(__name__)

AGAIN_S = (10, 60, 300, 1800)  # after a failure, and after those that follow it
SCAN_S = 3600
MOST_FAILED = 2  # builds of a round; then it is the store that cannot be used


class Uploads:
    """What the worker of one home has to bring there: `Notes` say where a build is kept."""

    def __init__(self, services: "Services") -> None:
        self._services = services
        self._wake = asyncio.Event()
        self._unfit: set[int] = set()  # builds that cannot be brought as they are; they stay here
        self._late: list[int] = []  # those that failed are tried behind the others

    def wake(self) -> None:
        """A build was archived."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            why = await self._round()
            failures = failures + 1 if why else 0
            pause = AGAIN_S[min(failures, len(AGAIN_S)) - 1] if failures else SCAN_S
            await self._tell(why, pause)
            with contextlib.suppress(TimeoutError):
                await self._services.clock.within(pause, self._wake.wait())

    async def _round(self) -> str | None:
        """Why not everything is there; None: it is."""
        try:
            await self.bring()
        except (OrchestratorError, OSError) as error:
            log.warning("results are not brought to the store: %s", error)
            return str(error)
        except Exception as error:  # a fault of ours costs this round
            log.exception("results are not brought to the store")
            return f"{type(error).__name__}, see the worker's log"
        return None

    async def _tell(self, why: str | None, pause_s: float) -> None:
        """For whoever asks what waits, and for what."""
        now = self._services.clock.now()
        try:
            if why is None:
                await asyncio.to_thread(self._notes.worked)
            else:
                await asyncio.to_thread(self._notes.failed, why, now, now + timedelta(seconds=pause_s))
        except OSError as error:
            log.warning("what waits for the store cannot be noted: %s", error)

    async def bring(self) -> int:
        """Each archived build that is not there yet: how many were brought. ArchiveError: the store cannot be used."""
        objects, brought = await self.objects(), 0
        if objects is None:
            return 0
        failed: list[tuple[int, ArchiveError]] = []
        waiting = [build for build in await asyncio.to_thread(self.waiting) if build not in self._unfit]
        for build in sorted(waiting, key=lambda build: (build in self._late, build)):
            try:
                sent = await objects.keep(build, self._root / "builds" / str(build))
            except NotFound as error:  # whoever took a file of it away: the others are brought all the same
                log.warning("build %d is not stored: %s", build, error)
                self._unfit.add(build)
                await asyncio.to_thread(self._notes.unfit, build, str(error))
                continue
            except ArchiveError as error:
                failed.append((build, error))
                if len(failed) == MOST_FAILED:
                    break
                continue
            await asyncio.to_thread(self._notes.brought, build, self._store)
            log.info("build %d is stored, %d bytes sent", build, sent)
            brought += 1
        self._late = [build for build, _ in failed]
        if failed:
            raise failed[-1][1]
        return brought

    async def clean(self, spare: Collection[int]) -> int:
        """Remove what is older than `artifacts.keep` there, but for `spare`, and what was never finished: how many."""
        objects, now = await self.objects(), self._services.clock.now()
        if objects is None:
            return 0
        before = now - timedelta(seconds=self._services.config.artifacts.keep)
        there = await objects.builds()
        old = [build for build, since in there.items() if build not in spare and since < before]
        removed = {build for build in sorted(old) if await objects.drop(build, before)}
        await asyncio.to_thread(self._notes.forget, there.keys() - removed)
        log.info("clean-up: %s in the object store", await objects.tidy(now))
        return len(removed)

    def waiting(self) -> Collection[int]:
        """Archived builds that are not there yet; none without an object store. Reads."""
        return self._notes.waiting(self._store) if self._services.config.artifacts.is_remote else ()

    @property
    def _store(self) -> str:
        return self._services.config.artifacts.store or ""

    @property
    def _root(self) -> Path:
        return self._services.config.artifacts_dir

    @property
    def _notes(self) -> Notes:
        return Notes(self._root)

    async def objects(self) -> Objects | None:
        """The object store that results go to; None: there is none."""
        services = self._services
        access = await asyncio.to_thread(Access.of, services.config.artifacts, services.secrets.resolve)
        return (
            None if access is None else Objects(access, await services.store.uuid(), await services.store.read(before))
        )
