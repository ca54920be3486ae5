"""Building ESP-IDF projects, and what this machine has for it."""

from mcp_types import CallToolResult

from mcp_server.tools.answers import Roots, answer, follow, orchestrator_of, project_path, to_the_end
from mcp_server.tools.arguments import Ctx, Project, Target, Text, WaitS


async def doctor(
    ctx: Ctx, roots: Roots, project: Project = ".", host: Text = "local", port: Text = ""
) -> CallToolResult:
    """What is missing here for building firmware, each with the command that mends it; port: what board."""
    from mcp_server import report_tables  # noqa: PLC0415  (first use: the server starts without it)

    orchestrator = await orchestrator_of(ctx)
    if host not in ("", "local"):  # of another machine what `hosts` sees: there is no look at its ESP-IDF
        from mcp_server import report_hosts  # noqa: PLC0415  (as above)

        views = await orchestrator.look_at_hosts(host)
        if all(view.trouble for view in views):  # that is all there is to tell
            return answer(report_hosts.host_list(views, orchestrator.config.file))
        boards = await orchestrator.doctor(host=host, port=port or None)
        listed = report_hosts.host_list(views, orchestrator.config.file)
        return answer(f"{listed}\n{report_tables.doctor_report(boards)}")
    path = await project_path(orchestrator, project, roots)
    checks = await orchestrator.doctor(path, port=port or None, named=project != ".")
    return answer(report_tables.doctor_report(checks))


async def idf_build(
    ctx: Ctx,
    roots: Roots,
    project: Project = ".",
    target: Target = "",
    host: Text = "local",
    clean: bool = False,
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Build an ESP-IDF project; its errors' file:line and hint."""
    orchestrator = await orchestrator_of(ctx)
    path = await project_path(orchestrator, project, roots)
    start = orchestrator.start_build(path, target=target or None, clean=clean, host=host or "local", triggered_by="mcp")
    started = await to_the_end(start)
    place = not project.startswith("/")  # the caller may not know which folder that meant
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=place)
