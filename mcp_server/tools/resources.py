"""Builds and hosts as resources: verdicts, logs and states by address, for clients that attach instead of call."""

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from mcp_server.errors import BadInput, NotFound, OrchestratorError
from mcp_server.tools.answers import Opener, orchestrator_of
from mcp_server.tools.arguments import Ctx

LOG_BYTES = 100_000  # a client cuts what it attaches by itself


def register(server: MCPServer[Opener]) -> None:
    """Add the templates `build://{id}`, `build://{id}/log/{stage}{?tail}` and `host://{name}`."""
    server.resource("build://{id}", name="build", description="A build's verdict", mime_type="text/plain")(build)
    server.resource(
        "build://{id}/log/{stage}{?tail}", name="build_log", description="A stage's log", mime_type="text/plain"
    )(build_log)
    server.resource("host://{name}", name="host", description="How a host is", mime_type="text/plain")(host)


async def build(id: str, ctx: Ctx) -> str:  # noqa: A002  (the template's name for it)
    from mcp_server import report  # noqa: PLC0415  (first use: the server starts without it)

    try:
        view = await (await orchestrator_of(ctx)).get(id)
    except OrchestratorError as error:
        raise _as_resource_error(error) from error
    return report.build_report(view, limit_bytes=report.DETAIL_BYTES)


async def build_log(id: str, stage: str, ctx: Ctx, tail: int | None = None) -> str:  # noqa: A002
    try:
        piece = await (await orchestrator_of(ctx)).log(id, stage, tail=tail, max_bytes=LOG_BYTES)
    except OrchestratorError as error:
        raise _as_resource_error(error) from error
    return piece.text


async def host(name: str, ctx: Ctx) -> str:
    from mcp_server import report_hosts  # noqa: PLC0415  (first use: the server starts without it)

    orchestrator = await orchestrator_of(ctx)
    try:
        views = await orchestrator.look_at_hosts(name)
    except OrchestratorError as error:
        raise _as_resource_error(error) from error
    return report_hosts.host_list(views, orchestrator.config.file)


def _as_resource_error(error: OrchestratorError) -> ResourceError:
    if isinstance(error, NotFound | BadInput):
        return ResourceNotFoundError(str(error))
    return ResourceError(str(error))
