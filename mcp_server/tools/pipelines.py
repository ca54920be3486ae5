"""Pipelines: several stages on several hosts, each after those it depends on."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Elicit, ListRoots, Resolve
from mcp_types import CallToolResult, ListRootsResult
from pydantic import BeforeValidator, Field

from mcp_server.errors import BadInput
from mcp_server.model import Plan
from mcp_server.tools import consent
from mcp_server.tools.answers import answer, base_folder, client_roots, follow, orchestrator_of, to_the_end
from mcp_server.tools.arguments import Ctx, Values, WaitS, none_is_empty
from mcp_server.tools.consent import Yes


async def _roots_of_path(path: str, ctx: Ctx) -> ListRoots | ListRootsResult | None:
    return await client_roots(path or ".", ctx)


PathRoots = Annotated[ListRootsResult | None, Resolve(_roots_of_path)]
File = Annotated[str, BeforeValidator(none_is_empty), Field(description="a pipeline file")]
Yaml = Annotated[str, BeforeValidator(none_is_empty), Field(description="or its text")]


MEND = (
    "run it with `build-orchestrator run FILE --yes`, or allow it by security.allow_flash or allow_push in config.yaml"
)


async def ask_to_flash(
    path: str, yaml: str, params: Any, dry_run: bool, roots: PathRoots, ctx: Ctx
) -> Yes | Elicit[Yes]:
    """The question that names each board and what is written to it, and each branch that is pushed."""
    if dry_run:
        return Yes(ok=True)
    orchestrator = await orchestrator_of(ctx)

    async def plan() -> Plan:
        file, folder = await asyncio.to_thread(_placed, path, roots)
        pipeline = await orchestrator.read_pipeline(path=file, text=yaml or None, params=params)
        return (await asyncio.to_thread(orchestrator.orders.pipeline, pipeline, folder)).plan

    return await consent.ask(ctx, plan())


Agreed = Annotated[consent.Agreed, Resolve(ask_to_flash)]


async def pipeline_run(
    ctx: Ctx,
    roots: PathRoots,
    agreed: Agreed,
    path: File = "",
    yaml: Yaml = "",
    params: Values = {},  # noqa: B006  (never changed)
    dry_run: bool = False,
    wait_s: WaitS = 45,
) -> CallToolResult:
    """Run a pipeline; its verdict and each stage's end. dry_run: its plan as table and graph."""
    orchestrator = await orchestrator_of(ctx)
    file, folder = await asyncio.to_thread(_placed, path, roots)
    pipeline = await orchestrator.read_pipeline(path=file, text=yaml or None, params=params)
    if dry_run:
        from mcp_server import report_plan  # noqa: PLC0415  (first use: the server starts without it)

        usual = await orchestrator.projects.usual_durations(folder, pipeline.name)
        return answer(report_plan.plan_report(pipeline, orchestrator.machines.hosts, usual, orchestrator.config))
    if (refused := consent.refusal(ctx, agreed, MEND, "path", consent.RUN)) is not None:
        return refused
    started = await to_the_end(orchestrator.start_pipeline(pipeline, folder, triggered_by="mcp", agreed=True))
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=True)


def _placed(path: str, roots: ListRootsResult | None) -> tuple[str | None, Path]:
    """The file, and the folder that its relative paths start from: its own, of a text the client's."""
    base = base_folder(roots)
    if not path:
        return None, base
    try:
        file = base / Path(path).expanduser()
        if "\0" in path or len(path) > 1000:
            raise ValueError
        return str(file), file.resolve().parent
    except (OSError, ValueError, RuntimeError):  # a zero byte, no such user, a loop of links
        raise BadInput("path", f"{path[:60]!r} cannot be a file's name") from None
