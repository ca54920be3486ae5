"""What is known here to be built, and what brings more of it."""

from mcp_types import CallToolResult

from mcp_server.scopes import CALLER
from mcp_server.tools.answers import answer, orchestrator_of, project_path, to_the_end
from mcp_server.tools.arguments import Ctx, Text

MOST = 50
WAIT_S = 45


async def projects(ctx: Ctx, name: Text = "") -> CallToolResult:
    """Each project, or one: status, chip, folder, source."""
    from mcp_server import report_projects  # noqa: PLC0415  (first use: the server starts without it)

    orchestrator = await orchestrator_of(ctx)
    found = [await orchestrator.find_project(name)] if name else await orchestrator.projects.list(limit=MOST)
    return answer(report_projects.project_list(found))


async def project_import(
    ctx: Ctx, source: str, name: Text = "", target: Text = "", branch: Text = ""
) -> CallToolResult:
    """Make a folder or Git URL a project, or sync a known one: its status."""
    from mcp_server import git_source, report_projects  # noqa: PLC0415  (as above)

    orchestrator = await orchestrator_of(ctx)
    if not git_source.is_url(source):
        source = await project_path(orchestrator, source or ".", None)
    public = CALLER.get() is not None
    started = orchestrator.projects.import_(
        source, name or None, target or None, branch or None, public=public, triggered_by="mcp"
    )
    made = await to_the_end(started)
    if made.build is None:
        return answer(report_projects.project_line(made.project))
    view = await orchestrator.wait(made.build, WAIT_S)
    found = await orchestrator.find_project(made.project.id)
    line = report_projects.project_line(found)
    if view.build.status.is_open:
        return answer(f"{line}\nbuild {made.build} still clones or syncs it: build_wait({made.build})")
    return answer(line, is_error=view.build.status != "success")
