"""Files of builds that are not here any more, but in the object store that `artifacts.store` names.

May import: errors, artifact_files, idf, secret_store, store, views. Never: engine, a front.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from mcp_server.artifact_files import recorded
from mcp_server.errors import NotFound, OrchestratorError
from mcp_server.idf.doctor import Check
from mcp_server.secret_store import Secrets
from mcp_server.store import identity
from mcp_server.store.objects import Access, Objects
from mcp_server.views import BuildView

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

T = TypeVar("T")

CHECK_S = 20


class Kept:
    """Over the store of one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator

    async def link(self, view: BuildView, path: str) -> str | None:
        """An address from which a file of a build can be had for a quarter of an hour; None: there is no such store.

        NotFound: the build left no such file, or it is not there. ArchiveError: the store cannot be used now.
        """
        _, artifact = recorded(view, path)
        places = await self._objects()
        return await _first(places, lambda objects: objects.link(artifact.sha256)) if places else None

    async def content(self, view: BuildView, path: str, most: int) -> bytes:
        """What a file of a build holds. Raises as `link`, and BadInput: it has more than `most` bytes."""
        _, artifact = recorded(view, path)
        if not (places := await self._objects()):
            raise NotFound(f"{path[:200]!r} of build {view.build.id} is gone")
        return await _first(places, lambda objects: objects.content(artifact.sha256, most))

    async def checks(self) -> Sequence[Check]:
        """Whether results can be brought to the object store, by writing there; nothing where there is none."""
        store = self._orchestrator.config.artifacts.store
        try:
            if not (places := await self._objects()):
                return []
            await self._orchestrator.clock.within(CHECK_S, places[0].check())
        except TimeoutError:
            return [Check(name="artifacts", status="warn", found=f"{store} does not answer")]
        except OrchestratorError as error:
            return [Check(name="artifacts", status="warn", found=str(error))]
        return [Check(name="artifacts", status="ok", found=f"{store} takes results")]

    async def _objects(self) -> Sequence[Objects]:
        """Where files may be: this database's own, then those of the databases that it was restored from."""
        orchestrator = self._orchestrator
        await orchestrator.refresh()
        secrets = Secrets(orchestrator.config, orchestrator.environment)
        access = await asyncio.to_thread(Access.of, orchestrator.config.artifacts, secrets.resolve)
        if access is None:
            return ()
        store = await orchestrator.store()
        return [Objects(access, owner) for owner in (await store.uuid(), *await store.read(identity.before))]


async def _first(places: Sequence[Objects], work: Callable[[Objects], Awaitable[T]]) -> T:
    """From the first place that has it. NotFound: none has."""
    for objects in places[:-1]:
        with contextlib.suppress(NotFound):
            return await work(objects)
    return await work(places[-1])
