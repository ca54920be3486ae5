"""Far hosts: how they are, and commands on them."""

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field

from mcp_server.tools.answers import Roots, answer, follow, orchestrator_of, project_path, to_the_end
from mcp_server.tools.arguments import Ctx, Text, Texts, Variables, WaitS, none_is_empty, number_is_text

Synced = Annotated[str, BeforeValidator(none_is_empty), Field(description="synced there first")]
Limit = Annotated[str, BeforeValidator(number_is_text)]


async def hosts(ctx: Ctx, name: Text = "", check: bool = True) -> CallToolResult:
    """Each host: reachable, load, disk, slots, running builds, what its tasks are."""
    from mcp_server import report_hosts  # noqa: PLC0415  (first use: the server starts without it)

    orchestrator = await orchestrator_of(ctx)
    views = await orchestrator.look_at_hosts(name or None, check=check)
    return answer(report_hosts.host_list(views, orchestrator.config.file))


async def remote_build(
    ctx: Ctx,
    roots: Roots,
    host: str,
    task: Text = "",
    command: Text = "",
    workdir: Text = "",
    project: Synced = "",
    artifacts: Texts = [],  # noqa: B006  (never changed)
    env: Variables = {},  # noqa: B006
    timeout: Limit = "",
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Run a task or command on a host (or alias, tag): its verdict."""
    from mcp_server.orders import RemoteAsk  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    folder = await project_path(orchestrator, project, roots) if project else None
    ask = RemoteAsk(
        host=host,
        task=task or None,
        command=command or None,
        workdir=workdir or None,
        project=folder,
        artifacts=tuple(artifacts),
        env=env,
        timeout=timeout or None,
    )
    started = await to_the_end(orchestrator.start_remote(ask, triggered_by="mcp"))
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=True)
