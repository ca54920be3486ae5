"""The MCP server: thin, quick to start, and nothing that matters lives in it. Builds run in the worker."""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    Tool,
    UnsubscribeRequestParams,
)
from pydantic import AnyUrl, ValidationError

from mcp_server import __version__, process_log
from mcp_server.errors import Forbidden, OrchestratorError
from mcp_server.loading import all_is_loaded
from mcp_server.scopes import CALLER, Caller
from mcp_server.tools import builds, callers, device, hosts, idf, pipelines, projects, prompts, resources, workflows
from mcp_server.tools.answers import Opener, answer
from mcp_server.tools.arguments import (
    ENDS_WORK,
    FETCHES,
    READS,
    RUNS_COMMANDS,
    STARTS_WORK,
    explain,
    lean_schema,
    unknown_argument,
)
from mcp_server.tools.subscriptions import Listen, News, Subscriptions

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

log = logging.getLogger(__name__)
_masking: process_log.Mask | None = None

INSTRUCTIONS = (
    "Builds ESP-IDF firmware, and anything on the hosts of config.yaml, and answers with a verdict instead of a log. "
    "A build has a number and outlives this server: after a lost call, build_wait or build_list finds it."
)
TEXT, BYTES = "text/plain", "application/octet-stream"
WARM_S = 0.05  # behind the answer to the first request, so that the client is not kept waiting

TOOLS = (
    (idf.doctor, STARTS_WORK),
    (idf.idf_build, STARTS_WORK),
    (device.idf_flash, ENDS_WORK),
    (device.qemu_run, STARTS_WORK),
    (device.serial_monitor, STARTS_WORK),
    (device.serial_send, ENDS_WORK),
    (hosts.remote_build, RUNS_COMMANDS),
    (pipelines.pipeline_run, RUNS_COMMANDS),
    (workflows.workflow_run, RUNS_COMMANDS),
    (workflows.create_and_build, RUNS_COMMANDS),
    (builds.build_wait, READS),
    (builds.build_get, READS),
    (builds.build_log, READS),
    (builds.build_list, READS),
    (builds.build_stats, READS),
    (builds.build_cancel, ENDS_WORK),
    (builds.build_retry, STARTS_WORK),
    (hosts.hosts, READS),
    (projects.projects, READS),
    (projects.project_import, FETCHES),
)


class Home:
    """The orchestrator of this process, loaded at the first call or shortly before it."""

    def __init__(self) -> None:
        self._orchestrator: Orchestrator | None = None
        self._opening = asyncio.Lock()
        self._warmed = False

    async def __call__(self) -> "Orchestrator":
        """The orchestrator. ConfigError: config.yaml cannot be used; the next call reads it again."""
        async with self._opening:
            if self._orchestrator is None:
                self._orchestrator = await asyncio.to_thread(_load)
            return self._orchestrator

    async def warm(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware: once the client has its first answer, import in a thread what its first call will need."""
        if not self._warmed:
            self._warmed = True
            thread = threading.Thread(target=_warm, name="warm", daemon=True)  # the process may end before it
            asyncio.get_running_loop().call_later(WARM_S, thread.start)
        return await call_next(ctx)

    async def aclose(self) -> None:
        """Let the orchestrator go; builds run on."""
        if self._orchestrator is not None:
            await self._orchestrator.aclose()


class Server(MCPServer[Opener]):
    """The SDK's server with lean schemas, one sentence an error and no traceback for anybody."""

    def let_subscribe(self, news: News) -> None:
        """Serve subscriptions of both eras from `news`, which this server was made with."""
        older, self._listen = Subscriptions(news), Listen(news)
        below = self._lowlevel_server
        below.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._listen)
        below.add_request_handler("resources/subscribe", SubscribeRequestParams, older.subscribe)
        below.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, older.unsubscribe)

    def end_streams(self) -> None:
        """Let those go who listen without a session; a service that stops waits for them."""
        self._listen.close()

    async def list_tools(self) -> list[Tool]:
        """Every tool, its schema without what tells a model nothing."""
        return [
            tool.model_copy(update={"input_schema": lean_schema(tool.input_schema), "output_schema": None})
            for tool in await super().list_tools()
        ]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. Whatever goes wrong is an answer that says so in one sentence."""
        schemas = {tool.name: tool.input_schema for tool in await super().list_tools()}
        schema = schemas.get(name)
        if schema is None:
            return answer(f"there is no tool {name[:60]!r}; there are {', '.join(schemas)}", is_error=True)
        if (sentence := unknown_argument(name, schema, arguments)) is not None:
            return answer(sentence, is_error=True)
        token = CALLER.set(_caller(context))
        try:
            callers.check(name)
            return await super().call_tool(name, arguments, context)
        except Forbidden as error:
            return answer(str(error), is_error=True)
        except ToolError as error:
            return answer(_sentence(name, schema, error), is_error=True)
        finally:
            CALLER.reset(token)

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource, which any token may. Bytes are never called text."""
        token = CALLER.set(_caller(context))
        try:
            contents = await super().read_resource(uri, context)
        finally:
            CALLER.reset(token)
        if not isinstance(contents, InputRequiredResult):
            return [replace(one, mime_type=BYTES if isinstance(one.content, bytes) else TEXT) for one in contents]
        return contents

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """A prompt; one that there is not is the client's mistake, and is said with the protocol's number for it."""
        known = [prompt.name for prompt in await self.list_prompts()]
        if name not in known:
            raise MCPError(INVALID_PARAMS, f"there is no prompt {name[:60]!r}; there are {', '.join(known)}")
        return await super().get_prompt(name, arguments, context)


def _caller(context: Context[Any, Any] | None) -> Caller | None:
    """Whom the service's guard let in; None over stdio."""
    request = context.request_context.request if context is not None else None
    return None if request is None else request.state.who


def make_server(opener: Opener | None = None) -> Server:
    """A server with all tools. `opener` gives the orchestrator; by default the one of BUILD_ORCHESTRATOR_HOME."""
    home, news = Home(), News()

    @contextlib.asynccontextmanager
    async def lifespan(_: MCPServer[Opener]) -> AsyncGenerator[Opener]:
        try:
            yield opener or home
        finally:
            await home.aclose()

    server = Server(
        "build-orchestrator",
        version=__version__,
        instructions=INSTRUCTIONS,
        lifespan=lifespan,
        log_level="WARNING",
        middleware=[] if opener else [home.warm],
        subscriptions=news,
    )
    server.let_subscribe(news)
    for function, annotations in TOOLS:
        server.add_tool(function, annotations=annotations)
    resources.register(server)
    prompts.register(server)
    return server


def _mask(text: str) -> str:
    global _masking  # noqa: PLW0603 - a process has one log
    if _masking is None:
        from mcp_server.log_masking import mask_of  # noqa: PLC0415 - most sessions log nothing

        _masking = mask_of(os.environ)
    return _masking(text)


def main() -> int:
    """Serve MCP on stdin and stdout until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own way would first wait for the thread that reads stdin
    process_log.configure("mcp", os.environ, mask=_mask)
    try:
        server = make_server()
        all_is_loaded()
        server.run("stdio")
    except Exception as error:
        if _client_left(error):
            return 0
        log.exception("the server broke down")
        sys.stderr.write(f"internal error: {type(error).__name__}; see {process_log.log_file(os.environ)}\n")
        return 1
    return 0


def _client_left(error: BaseException) -> bool:
    """Whether an answer could not be written because nobody reads any more."""
    if isinstance(error, BaseExceptionGroup):
        return all(_client_left(part) for part in cast("BaseExceptionGroup[BaseException]", error).exceptions)
    return isinstance(error, BrokenPipeError | ConnectionResetError)


def _load() -> "Orchestrator":
    _import_all()
    from mcp_server.config import load_config  # noqa: PLC0415
    from mcp_server.orchestrator import Orchestrator  # noqa: PLC0415

    return Orchestrator(load_config())


def _import_all() -> None:
    """Import what the first call needs: 0.2 s that the client's first question must not wait for.

    Nothing is collected meanwhile, as while the program starts.
    """
    gc.disable()
    try:
        importlib.import_module("mcp_server.orchestrator")
        importlib.import_module("mcp_server.report")
        importlib.import_module("mcp_server.report_tables")
    finally:
        gc.enable()


def _warm() -> None:
    with contextlib.suppress(Exception):  # whoever calls a tool is told
        _import_all()


def _sentence(tool: str, schema: Mapping[str, Any], error: ToolError) -> str:
    cause = error.__cause__
    if isinstance(cause, OrchestratorError):
        return str(cause)
    if isinstance(error, UnexpectedToolError):
        log.error("tool %s", tool, exc_info=cause)
        return f"internal error: {type(cause).__name__}; see {process_log.log_file(os.environ)}"
    if isinstance(cause, ValidationError):
        return explain(schema, cause)
    return str(error)
