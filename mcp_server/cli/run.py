"""`run`: start one build and follow it here."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json, ProjectFolder
from mcp_server.cli.session import with_orchestrator
from mcp_server.cli.words import one_line
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

Target = Annotated[str | None, typer.Option("--target", metavar="CHIP", help="Set this target first, e.g. esp32c3.")]
Clean = Annotated[bool, typer.Option("--clean", help="Remove the build directory first.")]
Pipeline = Annotated[str | None, typer.Argument(hidden=True)]


def run(
    pipeline: Pipeline = None,
    project: ProjectFolder = ".",
    target: Target = None,
    clean: Clean = False,
    json: Json = False,
) -> int:
    """Start one build and follow it here.

    The verdict goes to stdout, everything else to stderr. Ctrl-C asks: detach or cancel; a build that you detach
    from goes on. Exits 0 only on success, 1 if the build failed or was cancelled, 2 if it was refused, 128 + the
    signal's number if you detached.
    """
    if pipeline is not None:
        raise BadInput("PIPELINE", _not_yet(pipeline))

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import follow, here  # noqa: PLC0415  # the model and rich, which --help does without

        async with follow.signals_heard() as heard:
            started = await orchestrator.start_build(project, target=target, clean=clean)
            return await here.follow_here(orchestrator, started, heard, json=json)

    return with_orchestrator(work)


def _not_yet(pipeline: str) -> str:
    try:
        folder = Path(pipeline).is_dir()
    except (OSError, ValueError):  # a name too long, a zero byte
        folder = False
    if folder:
        return f"a folder is built with run --project {shlex.quote(one_line(pipeline, 200))}"
    return "pipeline files cannot be run yet: build a project with run --project DIR"
