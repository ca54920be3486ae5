"""Looking at builds, waiting for them, ending and repeating them."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp.server.mcpserver import Elicit, Resolve
from mcp_types import CallToolResult
from pydantic import Field

from mcp_server.errors import BadInput
from mcp_server.model import Plan
from mcp_server.scopes import CALLER
from mcp_server.tools import consent
from mcp_server.tools.answers import CANCEL_S, Roots, answer, follow, orchestrator_of, project_path, to_the_end
from mcp_server.tools.arguments import MAX_WAIT_S, Build, BuildRef, Ctx, Text, WaitS
from mcp_server.tools.consent import Yes

if TYPE_CHECKING:  # a database comes with it: loaded at the first call
    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import BuildView

Detail = Literal["verdict", "stages", "sizes", "artifacts", "events"]
Status = Literal["pending", "running", "success", "failed", "cancelled"]
Limit = Annotated[int, Field(ge=1, le=100)]


async def build_wait(
    ctx: Ctx, build: Build, timeout_s: Annotated[int, Field(ge=0, le=MAX_WAIT_S)] = 50
) -> CallToolResult:
    """Wait for a build: its verdict if it ends in time, else progress and time left."""
    return await follow(ctx, build, timeout_s, place=True)


async def build_get(
    ctx: Ctx, build: Build, detail: Detail = "verdict", compare_to: BuildRef | None = None
) -> CallToolResult:
    """A build's verdict with all errors, its stages, files, events, or its sizes and coverage against another's."""
    from mcp_server import report, report_tables  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    view = await orchestrator.get(build)
    if compare_to is not None and detail not in ("verdict", "sizes", "artifacts"):
        raise BadInput("compare_to", f'compares sizes or artifacts: leave it out for detail="{detail}"')
    if detail == "artifacts" and compare_to is not None:
        return answer(report_tables.artifact_changes(view, await orchestrator.get(compare_to)))
    if detail == "sizes" or compare_to is not None:
        other = await orchestrator.get(compare_to) if compare_to is not None else None
        return answer(report_tables.size_table(view, other))
    if detail == "stages":
        return answer(report_tables.stage_table(view))
    if detail == "artifacts":
        kept, links = await _kept(orchestrator, view), await _links(orchestrator, view)
        return answer(report_tables.artifact_table(view, kept, links))
    if detail == "events":
        from mcp_server import report_story  # noqa: PLC0415

        newest = await orchestrator.newest_events(view.build.id, report_tables.MOST_EVENTS)
        told = report_story.story if report_story.has_story(view) else report_tables.event_list
        return answer(told(view, newest))
    from mcp_server.report_tests import tests_text  # noqa: PLC0415

    tests = tests_text(view)
    room = report.DETAIL_BYTES - len(tests.encode()) - 1
    return answer(report.build_report(view, place=True, limit_bytes=room) + (f"\n{tests}" if tests else ""))


async def _kept(orchestrator: "Orchestrator", view: "BuildView") -> str:
    """Where a finished build's files are, beside their folder."""
    return "" if view.build.status.is_open else (await orchestrator.kept.keeping(view)).sentence


async def _links(orchestrator: "Orchestrator", view: "BuildView") -> dict[str, str]:
    """To its files, for a caller on another machine: the folder is of no use there."""
    from mcp_server.report_tables import linked_files  # noqa: PLC0415

    caller = CALLER.get()
    if caller is None or not caller.at or view.build.status.is_open:
        return {}
    paths = linked_files(view)
    links, _ = await orchestrator.kept.links.make(view, paths, caller.at)
    return dict(zip(paths, links, strict=True))


async def build_log(
    ctx: Ctx,
    build: Build,
    stage: Text = "",
    grep: Text = "",
    around: int | None = None,
    tail: int | None = None,
    offset: int | None = None,
    max_bytes: int = 4000,
) -> CallToolResult:
    """Lines of a stage's log: by regex, around a line, the last, or from a byte offset."""
    from mcp_server import report_tables  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    piece = await orchestrator.log(
        build, stage or None, grep=grep or None, around=around, tail=tail, offset=offset, max_bytes=max_bytes
    )
    view = await orchestrator.get(build)
    return answer(report_tables.log_text(view.build.id, piece))


async def build_list(
    ctx: Ctx, roots: Roots, project: Text = "", status: Status | None = None, limit: Limit = 10
) -> CallToolResult:
    """The newest builds, one line each."""
    from mcp_server import report_tables  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    path = await project_path(orchestrator, project, roots) if project else None
    builds = await orchestrator.list(project=path, status=status, limit=limit)
    places = await orchestrator.queue.of(builds)
    return answer(report_tables.build_list(builds, await orchestrator.projects_of(builds), places))


async def build_cancel(ctx: Ctx, build: Build) -> CallToolResult:
    """End a build and all its processes."""
    from mcp_server import report  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    view = await to_the_end(orchestrator.cancel(build))
    view = await orchestrator.wait(view.build.id, CANCEL_S)
    return answer(report.build_report(view))


MEND = "run `build-orchestrator retry BUILD --yes`, or allow it by security.allow_flash or allow_push in config.yaml"


async def ask_to_flash(build: Any, failed_only: bool, ctx: Ctx) -> Yes | Elicit[Yes]:
    """The question, where the retried build overwrites a board or pushes."""

    async def plan() -> Plan:
        orchestrator = await orchestrator_of(ctx)
        view = await orchestrator.get(build)
        return orchestrator.orders.again(view.build, view.stages, failed_only=failed_only)

    return await consent.ask(ctx, plan())


Agreed = Annotated[consent.Agreed, Resolve(ask_to_flash)]


async def build_retry(
    ctx: Ctx, agreed: Agreed, build: Build, failed_only: bool = True, wait_s: WaitS = 45
) -> CallToolResult:
    """Repeat a failed or cancelled build as a new one, without the stages that passed."""
    if (refused := consent.refusal(ctx, agreed, MEND, "build", consent.RUN)) is not None:
        return refused
    orchestrator = await orchestrator_of(ctx)
    started = await to_the_end(orchestrator.retry(build, failed_only=failed_only, agreed=True))
    return await follow(ctx, started.build.id, wait_s, joined=started.joined, place=True)


async def build_stats(ctx: Ctx, roots: Roots, project: Text = "") -> CallToolResult:
    """Counts, success rate, durations and the most frequent causes of failure."""
    from mcp_server import report_stats  # noqa: PLC0415

    orchestrator = await orchestrator_of(ctx)
    path = await project_path(orchestrator, project, roots) if project else None
    trends = await orchestrator.figures.beside_stats(path)
    return answer(report_stats.stats_text(await orchestrator.stats(path), path or "", trends))
