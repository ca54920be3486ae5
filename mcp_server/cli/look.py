"""`builds`, `status` and `logs`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import BuildNumber, Json
from mcp_server.cli.session import with_orchestrator
from mcp_server.cli.words import typed
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

MOST_BUILDS = 10_000

Project = Annotated[
    str | None, typer.Option("--project", metavar="PROJECT", help="Only of this project: a path, a name or an id.")
]
Status = Annotated[
    str | None, typer.Option("--status", metavar="STATUS", help="pending, running, success, failed or cancelled.")
]
OneBuild = Annotated[str | None, typer.Argument(metavar="BUILD", help="Only this build: a number or a UUID.")]
CompareTo = Annotated[
    str | None, typer.Option("--compare-to", metavar="OTHER", help="Print what BUILD left and weighs against OTHER's.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.")]


def builds(project: Project = None, status: Status = None, limit: Limit = 10, json: Json = False) -> int:
    """List builds, the newest first.

    Exits 0, also where there are none.
    """
    if not 1 <= limit <= MOST_BUILDS:
        raise BadInput("--limit", f"{limit} is out of range: 1 to {MOST_BUILDS}")

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server import record  # noqa: PLC0415
        from mcp_server.cli import listing, screen  # noqa: PLC0415  # rich, once there is something to show

        found = await orchestrator.list(project=project, status=status, limit=limit)
        projects, places = await orchestrator.projects_of(found), await orchestrator.queue.of(found)
        out = screen.out()
        if json:
            screen.print_json(record.of_builds(found, projects, places))
        elif found:
            width = out.width if out.console.is_terminal else None
            out.say(*listing.build_table(found, projects, orchestrator.clock.now(), width, places))
        else:
            screen.err().say(f"no builds: {typed()} run --project DIR starts one")
        return 0

    return with_orchestrator(work)


def status(
    build: OneBuild = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until Ctrl-C.")] = False,
    json: Json = False,
    junit: Annotated[
        bool, typer.Option("--junit", help="Print what tests of BUILD's firmware came to, as JUnit XML.")
    ] = False,
    compare_to: CompareTo = None,
) -> int:
    """Show running and pending builds, then the last few.

    Each open build with its stages, their progress and its ETA. With BUILD only that one and, once it is over, its
    verdict; --watch then follows it to its end. Exits 0, whatever the builds came to.
    """
    if watch and json:
        raise BadInput("--json", "cannot be combined with --watch: ask again instead")

    if junit and (build is None or watch or json):
        raise BadInput("--junit", "wants one BUILD, and neither --watch nor --json")

    if compare_to is not None and (build is None or watch or junit):
        raise BadInput("--compare-to", "wants one BUILD, and neither --watch nor --junit")

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import overview  # noqa: PLC0415  # as above

        if compare_to is not None and build is not None:
            return await overview.print_compared(orchestrator, build, compare_to, json=json)
        if junit and build is not None:
            return await overview.print_junit(orchestrator, build)
        if build is not None:
            await overview.print_build(orchestrator, build, watch=watch, json=json)
        elif json:
            await overview.print_once_json(orchestrator)
        elif watch:
            await overview.watch(orchestrator)
        else:
            await overview.print_once(orchestrator)
        return 0

    return with_orchestrator(work)


StageName = Annotated[
    str | None, typer.Argument(metavar="STAGE", help="A stage; by default the one that failed, else the last.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="From its first byte on, until the stage is over.")]
Grep = Annotated[str | None, typer.Option("--grep", metavar="REGEX", help="Only lines that match, with their numbers.")]
Around = Annotated[int | None, typer.Option("--around", metavar="LINE", help="The lines around this one.")]
Tail = Annotated[int | None, typer.Option("--tail", metavar="LINES", help="The last lines.")]
Offset = Annotated[int | None, typer.Option("--offset", metavar="BYTE", help="From this byte on.")]
MaxBytes = Annotated[int, typer.Option("--max-bytes", metavar="N", help="At most so much of it.")]


def logs(
    build: BuildNumber,
    stage: StageName = None,
    follow: Follow = False,
    grep: Grep = None,
    around: Around = None,
    tail: Tail = None,
    offset: Offset = None,
    max_bytes: MaxBytes = 4000,
    json: Json = False,
) -> int:
    """Print a stage's log, or a slice of it.

    Without an option: its end. With -f a pipe gets the log's own bytes, a terminal the same without what would move
    its cursor. Exits 0 once printed, whatever the build came to.
    """
    slices = {"--grep": grep, "--around": around, "--tail": tail, "--offset": offset, "--json": json or None}
    given = [name for name, value in slices.items() if value is not None]
    if follow and given:
        raise BadInput(given[0], "cannot be combined with --follow, which prints the whole log")

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import log_output  # noqa: PLC0415

        if follow:
            return await log_output.follow(orchestrator, build, stage)
        piece = await orchestrator.log(
            build, stage, grep=grep, around=around, tail=tail, offset=offset, max_bytes=max_bytes
        )
        log_output.print_slice(build, piece, json=json)
        return 0

    return with_orchestrator(work)
