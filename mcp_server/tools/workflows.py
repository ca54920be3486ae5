"""What several roles do in one call: the workflow of a project, and a project that an agent works on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Elicit, Resolve
from mcp_types import CallToolResult

from mcp_server.model import Expansion, Plan
from mcp_server.tools import consent
from mcp_server.tools.answers import Roots, follow, orchestrator_of, project_path, to_the_end
from mcp_server.tools.arguments import Ctx, Here, Text, Variables, WaitS
from mcp_server.tools.consent import Yes

if TYPE_CHECKING:  # agents and templates come with them: loaded at the first call
    from mcp_server.workflows import WorkflowAsk

MEND_FLASH = "run `build-orchestrator run --qemu --flash --yes`, or set security.allow_flash: always in config.yaml"
MEND_PUSH = "leave auto_push out and push what comes of it yourself, or set security.allow_push: always in config.yaml"


def _ask_of(path: str, arguments: Mapping[str, Any]) -> "WorkflowAsk":
    from mcp_server.workflows import WorkflowAsk  # noqa: PLC0415  (first use: see TYPE_CHECKING above)

    given = {name: value or None for name, value in arguments.items() if name in ("target", "agent")}
    rest = {name: arguments[name] for name in ("flash", "qemu", "max_rounds")}
    return WorkflowAsk(path, host=arguments["host"] or "local", **given, **rest)


async def ask_to_flash(
    project: str,
    target: str,
    flash: bool,
    qemu: bool,
    agent: str,
    max_rounds: int,
    host: str,
    roots: Roots,
    ctx: Ctx,
) -> Yes | Elicit[Yes]:
    """The question that names the board, where one is to be flashed."""
    if not flash:
        return Yes(ok=True)
    arguments = {"target": target, "flash": flash, "qemu": qemu, "agent": agent, "max_rounds": max_rounds, "host": host}

    async def plan() -> Plan:
        orchestrator = await orchestrator_of(ctx)
        path = await project_path(orchestrator, project, roots)
        return (await orchestrator.workflows.order(_ask_of(path, arguments))).plan

    return await consent.ask(ctx, plan())


async def workflow_run(
    ctx: Ctx,
    roots: Roots,
    agreed: Annotated[consent.Agreed, Resolve(ask_to_flash)],
    project: Here = ".",
    target: Text = "",
    flash: bool = False,
    qemu: bool = True,
    agent: Text = "",
    max_rounds: int = 3,
    host: Text = "local",
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Build, flash and emulate, check; an agent ("default" or its name) mends, else you: the verdict."""
    if (refused := consent.refusal(ctx, agreed, MEND_FLASH, "flash")) is not None:
        return refused
    orchestrator = await orchestrator_of(ctx)
    arguments = {"target": target, "flash": flash, "qemu": qemu, "agent": agent, "max_rounds": max_rounds, "host": host}
    ask = _ask_of(await project_path(orchestrator, project, roots), arguments)
    started = await to_the_end(orchestrator.workflows.run(ask, triggered_by="mcp", agreed=True))
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=not project.startswith("/"))


async def ask_to_push(project: str, name: str, auto_push: bool, roots: Roots, ctx: Ctx) -> Yes | Elicit[Yes]:
    """The question that names what is pushed, where something is to be."""
    if not auto_push:
        return Yes(ok=True)

    async def plan() -> Plan:
        orchestrator = await orchestrator_of(ctx)
        path = await project_path(orchestrator, project, roots) if project else name
        return Plan(stages=(), workspace=path, expand=Expansion(push=True))

    return await consent.ask(ctx, plan())


async def create_and_build(
    ctx: Ctx,
    roots: Roots,
    agreed: Annotated[consent.Agreed, Resolve(ask_to_push)],
    prompt: str,
    project: Text = "",
    template: Text = "",
    name: Text = "",
    variables: Variables = {},  # noqa: B006  (never changed)
    auto_commit: bool = False,
    auto_push: bool = False,
    callback_url: Text = "",
    agent: Text = "",
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Verdict on what an agent makes of a project, or of a template as name."""
    if (refused := consent.refusal(ctx, agreed, MEND_PUSH, "auto_push", consent.PUSH)) is not None:
        return refused
    from mcp_server.build_spec import BuildSpec  # noqa: PLC0415  (as above)

    orchestrator = await orchestrator_of(ctx)
    spec = BuildSpec(
        prompt=prompt,
        project=await project_path(orchestrator, project, roots) if project else None,
        template=template or None,
        name=name or None,
        variables=variables,
        auto_commit=auto_commit,
        auto_push=auto_push,
        callback_url=callback_url or None,
        agent=agent or None,
    )
    started = await to_the_end(orchestrator.workflows.create(spec, triggered_by="mcp", agreed=True))
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=True)
