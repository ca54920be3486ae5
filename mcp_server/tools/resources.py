"""Builds, their files, projects and hosts as resources: by address, for clients that attach instead of call."""

import asyncio

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from mcp_server.errors import BadInput, Elsewhere, NotFound, OrchestratorError
from mcp_server.tools.answers import Opener, orchestrator_of
from mcp_server.tools.arguments import Ctx

LOG_BYTES = 100_000  # a client cuts what it attaches by itself
ARTIFACT_BYTES = 1_000_000  # a firmware image, a map, a report; larger ones have an address of their own over HTTP
PROJECT_BUILDS = 10


def register(server: MCPServer[Opener]) -> None:
    """Add the templates: a build, its logs and files, a project, a host."""
    server.resource("build://{id}", name="build", description="A build's verdict", mime_type="text/plain")(build)
    server.resource(
        "build://{id}/log/{stage}{?tail}", name="build_log", description="A stage's log", mime_type="text/plain"
    )(build_log)
    server.resource("build://{id}/artifacts/{+path}", name="artifact", description="A file a build left, up to 1 MB")(
        artifact
    )
    server.resource(
        "project://{id}", name="project", description="A project and its last builds", mime_type="text/plain"
    )(project)
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


async def artifact(id: str, path: str, ctx: Ctx) -> str | bytes:  # noqa: A002
    """Text where the file is UTF-8 text, else its bytes."""
    from mcp_server.artifact_files import artifact_bytes  # noqa: PLC0415  (first use: the server starts without it)

    try:
        orchestrator = await orchestrator_of(ctx)
        view = await orchestrator.get(id)
        try:
            content = await asyncio.to_thread(artifact_bytes, view, path, ARTIFACT_BYTES)
        except NotFound:
            if not orchestrator.config.artifacts.is_remote:
                other = await orchestrator.kept.gone(view, path)
                if isinstance(other, Elsewhere):
                    raise other from None
                raise
            content = await orchestrator.kept.content(view, path, ARTIFACT_BYTES)
    except OrchestratorError as error:
        raise _as_resource_error(error) from error
    try:
        return content if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return content


async def project(id: str, ctx: Ctx) -> str:  # noqa: A002
    from mcp_server import report_projects, report_tables  # noqa: PLC0415  (first use: see above)

    orchestrator = await orchestrator_of(ctx)
    try:
        found = await orchestrator.find_project(id)
        listed = await orchestrator.list(project=found.id, limit=PROJECT_BUILDS)
    except OrchestratorError as error:
        raise _as_resource_error(error) from error
    return f"{report_projects.project_line(found)}\n\n{report_tables.build_list(listed, {found.id: found})}"


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
