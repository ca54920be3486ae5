"""`run`: start one build and follow it here."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json, ProjectFolder
from mcp_server.cli.session import with_orchestrator
from mcp_server.cli.words import one_line
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import Started

    Start = Callable[[Orchestrator], Awaitable[Started]]

Target = Annotated[str | None, typer.Option("--target", metavar="CHIP", help="Set this target first, e.g. esp32c3.")]
Clean = Annotated[bool, typer.Option("--clean", help="Remove the build directory first.")]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Build on this host: name, alias or tag.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what PIPELINE would run where, and start nothing.")]
Param = Annotated[
    list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A parameter of PIPELINE; may be repeated.")
]
PipelineFile = Annotated[
    str | None, typer.Argument(metavar="PIPELINE", help="A pipeline file; without one a project is built.")
]


def run(
    pipeline: PipelineFile = None,
    dry_run: DryRun = False,
    param: Param = None,
    project: ProjectFolder = ".",
    target: Target = None,
    clean: Clean = False,
    host: Host = None,
    json: Json = False,
) -> int:
    """Start one build and follow it here.

    The verdict goes to stdout, everything else to stderr. Ctrl-C asks: detach or cancel; a build that you detach
    from goes on. Exits 0 only on success, 1 if the build failed or was cancelled, 2 if it was refused, 128 + the
    signal's number if you detached.
    """
    if pipeline is None:
        _only_with_pipeline(dry_run, param)

        async def start(orchestrator: "Orchestrator") -> "Started":
            where = {"host": host} if host else {}
            return await orchestrator.start_build(project, target=target, clean=clean, **where)

        return _followed(start, json=json)
    _only_without_pipeline(pipeline, {"--target": target, "--clean": clean or None, "--host": host})
    _refuse_folder(pipeline)
    params = _params(param or ())

    if dry_run:
        return with_orchestrator(lambda orchestrator: _show_plan(orchestrator, pipeline, params, json=json))

    async def start_pipeline(orchestrator: "Orchestrator") -> "Started":
        read = await orchestrator.read_pipeline(path=pipeline, params=params)
        return await orchestrator.start_pipeline(read, _folder_of(pipeline))

    return _followed(start_pipeline, json=json)


def _followed(start: "Start", *, json: bool) -> int:
    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import follow, here  # noqa: PLC0415  # the model and rich, which --help does without

        async with follow.signals_heard() as heard:
            started = await start(orchestrator)
            return await here.follow_here(orchestrator, started, heard, json=json)

    return with_orchestrator(work)


async def _show_plan(orchestrator: "Orchestrator", path: str, params: Mapping[str, str], *, json: bool) -> int:
    from mcp_server import report_plan  # noqa: PLC0415  # as above
    from mcp_server.cli import screen  # noqa: PLC0415

    pipeline = await orchestrator.read_pipeline(path=path, params=params)
    usual = await orchestrator.usual_durations(_folder_of(path), pipeline.name)
    hosts = orchestrator.machines.hosts
    if json:
        screen.print_json(report_plan.record(pipeline, hosts, usual))
        return 0
    out = screen.out()
    out.say(*report_plan.table_text(pipeline, hosts, usual).split("\n"), "")
    out.say(*report_plan.graph_text(pipeline).rstrip("\n").split("\n"))
    err = screen.err()
    err.say(*report_plan.notes(pipeline, orchestrator.config.notifications))
    err.say("nothing was started; the lines from `flowchart` on are a Mermaid graph")
    return 0


def _folder_of(path: str) -> Path:
    """Where a pipeline's relative paths start: the file's own folder, from wherever it is run."""
    return Path(path).expanduser().resolve().parent


def _params(given: Sequence[str]) -> dict[str, str]:
    params: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadInput("--param", f"{one_line(text, 60)!r} should read KEY=VALUE")
        params[name] = value
    return params


def _only_with_pipeline(dry_run: bool, param: Sequence[str] | None) -> None:
    for name, given in (("--dry-run", dry_run), ("--param", param)):
        if given:
            raise BadInput(name, "belongs to a pipeline: run PIPELINE.yaml, or leave it out")


def _only_without_pipeline(pipeline: str, given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value is not None:
            says = "its stages say that themselves, or by params: --param KEY=VALUE"
            raise BadInput(name, f"cannot be combined with the pipeline {one_line(pipeline, 60)!r}: {says}")


def _refuse_folder(pipeline: str) -> None:
    try:
        folder = Path(pipeline).is_dir()
    except (OSError, ValueError):  # a name too long, a zero byte
        folder = False
    if folder:
        raise BadInput("PIPELINE", f"a folder is built with run --project {shlex.quote(one_line(pipeline, 200))}")
