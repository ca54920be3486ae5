"""`cancel` and `retry`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.device import Yes, agreed_to
from mcp_server.cli.options import BuildNumber, Json
from mcp_server.cli.session import with_orchestrator
from mcp_server.cli.words import typed

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

CANCEL_S = 10  # a build's jobs are gone within two seconds; a worker that must start first takes one more


Force = Annotated[
    bool, typer.Option("--force", help="Do not wait for the machine that its jobs are on, if that is away.")
]


def cancel(build: BuildNumber, force: Force = False, json: Json = False) -> int:
    """Cancel a build; its jobs are ended.

    Returns once the build is over, after 10 seconds at the latest. Jobs on a machine that is away are ended when it is
    back; with --force the build ends without that. Exits 0 if it was cancelled, 2 if it was over already.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server import record  # noqa: PLC0415
        from mcp_server.cli import screen  # noqa: PLC0415  # rich, once there is something to show

        asked = await orchestrator.cancel(build, force=force)
        view = await orchestrator.wait(asked.build.id, CANCEL_S)
        if json:
            screen.print_json(record.of_view(view))
        elif view.build.status.is_open:
            why = f": {view.idle}" if view.idle else f"; {typed()} status shows when it has"
            screen.out().say(f"build {view.build.id} is asked to end{why}")
        else:
            screen.out().say(f"build {view.build.id} is {view.build.status}")
        # It may have ended by itself in between.
        return 0 if view.build.status in ("pending", "running", "cancelled") else 2

    return with_orchestrator(work)


def retry(
    build: BuildNumber,
    all_stages: Annotated[bool, typer.Option("--all", help="Also the stages that passed.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Start a failed or cancelled build again, as a new build.

    Returns at once; the record of the old build stays as it is. One that flashes a board asks first. Exits 2 if the
    build succeeded or still runs.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server import record  # noqa: PLC0415
        from mcp_server.cli import screen  # noqa: PLC0415  # as above

        started = await agreed_to(
            lambda agreed: orchestrator.retry(build, failed_only=not all_stages, agreed=agreed), yes=yes
        )
        if started is None:
            return 1
        number = started.build.id
        if json:
            screen.print_json(record.of_view(await orchestrator.get(number)))
            return 0
        was = "is pending already" if started.joined else f"started, a retry of build {started.build.retry_of}"
        screen.out().say(f"build {number} {was}")
        screen.err().say(f"to see it: {typed()} status {number} --watch, or {typed()} logs {number} -f")
        return 0

    return with_orchestrator(work)
