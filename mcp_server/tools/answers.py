"""How a tool reaches the orchestrator, finds the project that is meant, waits, and answers."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
from mcp.server.mcpserver import ListRoots, Resolve
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import CallToolResult, ListRootsRequest, ListRootsResult, TextContent

from mcp_server.errors import BadInput, NotFound
from mcp_server.scopes import CALLER
from mcp_server.tools.arguments import Ctx
from mcp_server.tools.callers import named_project

if TYPE_CHECKING:  # a database comes with it: loaded at the first call
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import BuildView

Opener = Callable[[], Awaitable["Orchestrator"]]
"""Gives this server's one orchestrator, made at the first call."""

T = TypeVar("T")

ROOTS_S = 1  # an editor answers within milliseconds
PROGRESS_S = 0.25  # at most four notifications a second
CANCEL_S = 3  # a cancelled build's jobs are gone within two seconds


async def orchestrator_of(ctx: Ctx) -> "Orchestrator":
    """This server's orchestrator."""
    opener: Opener = ctx.request_context.lifespan_context
    return await opener()


def answer(text: str, *, is_error: bool = False) -> CallToolResult:
    """Text only: where structured content comes along, clients drop the text of a success."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)


# -- the project that is meant -----------------------------------------------------------------------------------------


async def client_roots(project: str, ctx: Ctx) -> ListRoots | ListRootsResult | None:
    """Ask a client that has roots for them, where `project` may be relative to one; an empty one means none at all."""
    capabilities = ctx.client_capabilities
    if capabilities is None or capabilities.roots is None or not _is_relative(project):
        return None
    if ctx.session.can_send_request:
        request = ListRootsRequest()
        related = ServerMessageMetadata(related_request_id=ctx.request_id)
        try:
            return await ctx.session.send_request(request, ListRootsResult, ROOTS_S, related)
        except (MCPError, ValueError):
            return None
    return ListRoots()


Roots = Annotated[ListRootsResult | None, Resolve(client_roots)]
"""A parameter that the SDK fills; no client sees it."""


def base_folder(roots: ListRootsResult | None) -> Path:
    """What `.` means: the client's only root, else CLAUDE_PROJECT_DIR, else this server's directory.

    BadInput: the caller is on another machine, and has no folder here.
    """
    if CALLER.get() is not None:
        raise BadInput("path", "a service has no folder of its caller's: give an absolute path, or the text as yaml")
    if roots is not None and len(roots.roots) == 1:
        url = urlsplit(str(roots.roots[0].uri))
        if url.scheme == "file" and url.path:
            return Path(unquote(url.path))
    return Path(os.environ.get("CLAUDE_PROJECT_DIR") or Path.cwd())


async def project_path(orchestrator: "Orchestrator", text: str, roots: ListRootsResult | None) -> str:
    """The folder that a path, a name or an id means; one that is not there is left for the orchestrator to refuse."""
    if CALLER.get() is not None:
        return await named_project(orchestrator, text)
    base = await asyncio.to_thread(base_folder, roots)
    folder = await asyncio.to_thread(_folder, base, text)
    if folder is not None:
        return str(folder)
    if "\0" in text or len(text) > 1000:
        raise BadInput("project", f"{text[:40]!r} is neither a folder nor the name or id of a known project")
    if "/" in text or text.startswith((".", "~")):
        return str(base / text)
    try:
        return (await orchestrator.find_project(text)).path
    except NotFound:
        raise BadInput("project", f"{text[:100]!r} is neither a folder in {base} nor a known project's name") from None


def _is_relative(project: str) -> bool:
    return bool(project) and not project.startswith(("/", "~"))


def _folder(base: Path, text: str) -> Path | None:
    try:
        path = base / Path(text).expanduser()
        return path.resolve() if path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # a name too long, a zero byte, no such user
        return None


# -- waiting -----------------------------------------------------------------------------------------------------------


async def follow(
    ctx: Ctx, build: int | str, wait_s: float, *, joined: bool = False, place: bool = False
) -> CallToolResult:
    """The verdict if the build ends in time, else how far it is. Leaving the wait leaves the build running."""
    from mcp_server import report  # noqa: PLC0415  (first use: see TYPE_CHECKING above)
    from mcp_server.model import BuildStatus  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    tell = Teller(ctx, orchestrator.clock.monotonic)
    view = await orchestrator.wait(build, wait_s, tell.update)
    text = report.build_report(view, joined=joined, place=place)
    return answer(text, is_error=view.build.status is BuildStatus.FAILED)


class Teller:
    """Progress notifications: at most four a second, each above the last one, as the protocol asks."""

    def __init__(self, ctx: Ctx, monotonic: Callable[[], float]) -> None:
        self._ctx, self._monotonic = ctx, monotonic
        self._next = 0.0
        self._last = -1.0
        self._done = 0.0  # of the steps, as last told: what was only moved to show a message is none of it
        self._stage: object = None
        self._before = 0.0  # what earlier stages and rounds had come to
        self._message: str = ""

    async def update(self, view: "BuildView") -> None:
        """Tell the client how far the build is, unless it was told just now or nothing has changed."""
        from mcp_server import report  # noqa: PLC0415

        now = self._monotonic()
        if now < self._next or not view.build.status.is_open:
            return
        done, total, message = report.step(view)
        several = len(view.build.plan.stages) > 1  # its steps are its stages: what runs may change without a new count
        running = [] if several else [s.stage for s in view.stages if s.status == "running"]
        stage = (view.build.round, running)
        if self._last >= 0 and (stage != self._stage or done < self._done):
            self._before = max(self._last, 0)
        self._stage, self._done = stage, done
        value = self._before + done
        if value <= self._last:
            if message == self._message:
                return
            # Something else is being done: the bar must move for it to be shown.
            value = self._last + (0.0001 if several else 0.01)
        self._last, self._message, self._next = value, message, now + PROGRESS_S
        await self._ctx.report_progress(value, self._before + total if total else None, message)


async def to_the_end(start: Awaitable[T]) -> T:
    """Let a start finish even if the client leaves meanwhile: a row that is written must also be told to the worker."""
    with anyio.CancelScope(shield=True):
        return await start
    raise AssertionError("a shield swallows nothing")
