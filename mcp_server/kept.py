"""Files of builds that are not here any more, but in the object store that `artifacts.store` names; links to any file.

May import: artifact_files, elsewhere, errors, file_links, idf, secret_store, store, text, views.
Never: engine, a front.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mcp_server.artifact_files import recorded
from mcp_server.elsewhere import machine_of
from mcp_server.errors import ArchiveError, Elsewhere, NotFound, OrchestratorError
from mcp_server.file_links import FileLinks
from mcp_server.idf.doctor import Check
from mcp_server.secret_store import Secrets
from mcp_server.store.bucket import Access
from mcp_server.store.identity import before
from mcp_server.store.objects import Objects
from mcp_server.store.stored import Notes
from mcp_server.text import one_line
from mcp_server.views import BuildView

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

T = TypeVar("T")

CHECK_S = 20  # an answer of the store; who asks for a file does not wait for the minutes that a worker has
READ_S = 60


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where the files of a build that is over are: on this machine, in the object store, or still on their way there.

    `store` is None where there is none. Neither `here` nor `stored`: they may be on another machine.
    """

    here: bool
    store: str | None
    stored: bool
    why: str | None  # it is not stored

    @property
    def sentence(self) -> str:
        """In words; "" where there is no object store."""
        if self.store is None:
            return ""
        if not self.here:
            return f"not here, in {self.store}{'' if self.stored else ' if they are anywhere'}"
        if self.stored:
            return f"stored in {self.store}"
        return f"not yet in {self.store}{f': {self.why}' if self.why else ', it is on its way'}"


class Kept:
    """Over the store of one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self.links = FileLinks(orchestrator)

    async def link(self, view: BuildView, path: str) -> str | None:
        """An address from which a file of a build can be had for a quarter of an hour; None: there is no such store.

        NotFound: the build left no such file, or it is not there. ArchiveError: the store cannot be used now.
        """
        _, artifact = recorded(view, path)
        objects = await self._objects()
        if objects is None:
            return None
        return await self._had(view, path, CHECK_S, objects.link(artifact.sha256, artifact.path))

    async def content(self, view: BuildView, path: str, most: int) -> bytes:
        """What a file of a build holds. Raises as `link`, and BadInput: it has more than `most` bytes."""
        _, artifact = recorded(view, path)
        objects = await self._objects()
        if objects is None:
            raise await self.gone(view, path)
        return await self._had(view, path, READ_S, objects.content(artifact.sha256, most))

    async def _had(self, view: BuildView, path: str, seconds: float, asked: Awaitable[T]) -> T:
        try:
            return await self._within(seconds, asked)
        except NotFound:
            other = await self.gone(view, path)
            if isinstance(other, Elsewhere):
                raise other from None
            raise

    async def gone(self, view: BuildView, path: str) -> NotFound:
        """What is said of a file that is neither here nor in an object store: which machine may have it."""
        other, what = await machine_of(self._orchestrator, view.build), f"{path[:200]!r} of build {view.build.id}"
        if other is None:
            return NotFound(f"{what} is gone, or was changed since")
        return Elsewhere(f"{what} is on machine {other}: take it there; {self.hint}")

    @property
    def hint(self) -> str:
        """What is to be known of files and logs that only another machine has."""
        config = self._orchestrator.config.artifacts
        if config.is_remote:
            return f"it is not in {config.store}, or not yet: `doctor` there says why"
        return "`artifacts.store` in config.yaml keeps files and logs for all machines"

    async def log(self, build: int, name: str, most: int) -> bytes:
        """A log of a build, packed by gzip. Raises as `content`."""
        if (objects := await self._objects()) is None:
            raise NotFound(f"log {name} of build {build} is gone")
        return await self._within(READ_S, objects.log(build, name, most))

    async def keeping(self, view: BuildView) -> Keeping:
        """Where its files are, as far as this machine knows without asking the store."""
        config = self._orchestrator.config.artifacts
        notes, number = Notes(self._orchestrator.config.artifacts_dir), view.build.id
        store = config.store if config.is_remote else None

        def look() -> Keeping:
            archived, where, folder = notes.is_here(number), notes.where(number), view.build.artifacts_path
            here = archived or (folder is not None and Path(folder).is_dir())
            if store is None or where == store:
                return Keeping(here, store, stored=store is not None, why=None)
            if not archived:
                return Keeping(here, store, stored=False, why="it was not archived")
            trouble = notes.trouble()
            return Keeping(here, store, stored=False, why=notes.why_unfit(number) or (trouble and trouble.why))

        return await asyncio.to_thread(look)

    async def checks(self) -> Sequence[Check]:
        """Whether results can be brought to the object store, by writing there; nothing where there is none."""
        store = self._orchestrator.config.artifacts.store
        try:
            if (objects := await self._objects()) is None:
                return []
            await self._within(CHECK_S, objects.check())
        except OrchestratorError as error:
            return [Check(name="artifacts", status="warn", found=f"{error}{await self._backlog()}")]
        return [Check(name="artifacts", status="ok", found=f"{store} takes results{await self._backlog()}")]

    async def _backlog(self) -> str:
        """What waits, for the end of a sentence."""
        config = self._orchestrator.config
        notes = Notes(config.artifacts_dir)
        waiting = len(await asyncio.to_thread(notes.waiting, config.artifacts.store or ""))
        if not waiting:
            return ""
        trouble = await asyncio.to_thread(notes.trouble)
        builds = "1 build waits" if waiting == 1 else f"{waiting:,} builds wait"
        since = f" since {trouble.since:%Y-%m-%d %H:%M} UTC" if trouble else ""
        return one_line(f"; {builds} here to be brought there{since}", 120)

    async def _within(self, seconds: float, asked: Awaitable[T]) -> T:
        try:
            return await self._orchestrator.clock.within(seconds, asked)
        except TimeoutError:
            raise ArchiveError(f"{self._orchestrator.config.artifacts.store} does not answer") from None

    async def _objects(self) -> Objects | None:
        orchestrator = self._orchestrator
        await orchestrator.refresh()
        secrets = Secrets(orchestrator.config, orchestrator.environment)
        access = await asyncio.to_thread(Access.of, orchestrator.config.artifacts, secrets.resolve)
        if access is None:
            return None
        store = await orchestrator.store()
        return Objects(access, await store.uuid(), await store.read(before))
