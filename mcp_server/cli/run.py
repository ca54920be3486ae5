"""`run`: start one build and follow it here."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from mcp_server.cli.device import HERE, Expect, FailOn, Port, Yes, agreed_to
from mcp_server.cli.options import Agent, Json, ProjectFolder
from mcp_server.cli.session import with_orchestrator
from mcp_server.cli.words import one_line
from mcp_server.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import Started

    Start = Callable[[Orchestrator, bool], Awaitable[Started]]

Target = Annotated[str | None, typer.Option("--target", metavar="CHIP", help="Set this target first, e.g. esp32c3.")]
Clean = Annotated[bool, typer.Option("--clean", help="Remove the build directory first.")]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Build on this host: name, alias or tag.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what PIPELINE would run where, and start nothing.")]
Param = Annotated[
    list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A parameter of PIPELINE; may be repeated.")
]
Qemu = Annotated[bool, typer.Option("--qemu", help="Then run it in the emulator of its chip.")]
Flash = Annotated[bool, typer.Option("--flash", help="Then write it to the board connected here, and watch it boot.")]
MaxRounds = Annotated[
    int | None, typer.Option("--max-rounds", metavar="N", help="With --agent: build at most so often, 3 times if not.")
]
ROUNDS = 3
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
    qemu: Qemu = False,
    flash: Flash = False,
    port: Port = None,
    expect: Expect = None,
    fail_on: FailOn = None,
    agent: Agent = None,
    max_rounds: MaxRounds = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Start one build and follow it here.

    The verdict goes to stdout, everything else to stderr. With both --qemu and --flash the two go on at once. With
    --agent an agent mends what fails, in a copy, and it is built again; `fix BUILD --apply` brings the change in.
    Flashing and pushing ask first. Ctrl-C asks: detach or cancel; a build that you detach from goes on. Exits 0 only
    on success, 1 if the build failed or was cancelled, 2 if it was refused, 128 + the signal's number if you detached.
    """
    of_project = {"--target": target, "--clean": clean or None, "--host": host}
    of_agent = {"--max-rounds": max_rounds, "--agent": agent}
    of_firmware = {"--expect": expect or None, "--fail-on": fail_on or None}
    of_board = {"--port": port, "--yes": yes or None}
    if pipeline is None:
        _only_with_pipeline(dry_run, param)
        _only_with("--flash", of_board, given=flash)
        _only_with("--qemu or --flash", of_firmware, given=qemu or flash)
        _only_with("--agent", {"--max-rounds": max_rounds}, given=agent is not None)
        if agent is not None and clean:
            raise BadInput("--clean", "cannot be combined with --agent: its copy is built from the beginning anyway")
        asked = _Asked(
            project, target, clean, host or HERE, qemu, flash, port, expect or (), fail_on or (), agent, max_rounds
        )
        return _followed(asked.start, yes=yes, json=json)
    running = {"--qemu": qemu or None, "--flash": flash or None}
    _only_without_pipeline(pipeline, of_project | running | of_firmware | of_agent | {"--port": port})
    _refuse_folder(pipeline)
    params = _params(param or ())

    if dry_run:
        return with_orchestrator(lambda orchestrator: _show_plan(orchestrator, pipeline, params, json=json))

    async def start_pipeline(orchestrator: "Orchestrator", agreed: bool) -> "Started":
        read = await orchestrator.read_pipeline(path=pipeline, params=params)
        return await orchestrator.start_pipeline(read, _folder_of(pipeline), agreed=agreed)

    return _followed(start_pipeline, yes=yes, json=json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A project, and what is to be done with it."""

    project: str
    target: str | None
    clean: bool
    host: str
    qemu: bool
    flash: bool
    port: str | None
    expect: Sequence[str]
    fail_on: Sequence[str]
    agent: str | None
    max_rounds: int | None

    async def start(self, orchestrator: "Orchestrator", agreed: bool) -> "Started":
        if self.agent is not None:
            return await self._workflow(orchestrator, agreed)
        build: _Build = {"target": self.target, "clean": self.clean, "host": self.host}
        if not self.qemu and not self.flash:
            return await orchestrator.start_build(self.project, **build)
        order = await orchestrator.devices.order_run(
            self.project,
            **build,
            qemu=self.qemu,
            flash=self.flash,
            port=self.port,
            expect=self.expect,
            fail_on=self.fail_on,
        )
        return await orchestrator.devices.start(order, agreed=agreed)

    async def _workflow(self, orchestrator: "Orchestrator", agreed: bool) -> "Started":
        from mcp_server.workflows import WorkflowAsk  # noqa: PLC0415  # agents, which most builds do without

        ask = WorkflowAsk(
            self.project,
            target=self.target,
            flash=self.flash,
            qemu=self.qemu,
            agent=self.agent,
            max_rounds=ROUNDS if self.max_rounds is None else self.max_rounds,
            host=self.host,
            port=self.port,
            expect=self.expect,
            fail_on=self.fail_on,
        )
        return await orchestrator.workflows.run(ask, agreed=agreed)


class _Build(TypedDict):
    target: str | None
    clean: bool
    host: str


def _followed(start: "Start", *, yes: bool, json: bool) -> int:
    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import follow, here  # noqa: PLC0415  # the model and rich, which --help does without

        async with follow.signals_heard() as heard:
            started = await agreed_to(lambda agreed: start(orchestrator, agreed), yes=yes)
            if started is None:
                return 1
            return await here.follow_here(orchestrator, started, heard, json=json)

    return with_orchestrator(work)


async def _show_plan(orchestrator: "Orchestrator", path: str, params: Mapping[str, str], *, json: bool) -> int:
    from mcp_server import report_plan  # noqa: PLC0415  # as above
    from mcp_server.cli import screen  # noqa: PLC0415

    pipeline = await orchestrator.read_pipeline(path=path, params=params)
    usual = await orchestrator.projects.usual_durations(_folder_of(path), pipeline.name)
    hosts = orchestrator.machines.hosts
    if json:
        screen.print_json(report_plan.record(pipeline, hosts, usual, orchestrator.config))
        return 0
    out = screen.out()
    out.say(*report_plan.table_text(pipeline, hosts, usual).split("\n"), "")
    out.say(*report_plan.graph_text(pipeline).rstrip("\n").split("\n"))
    err = screen.err()
    err.say(*report_plan.notes(pipeline, orchestrator.config))
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


def _only_with(what: str, options: Mapping[str, object], *, given: bool) -> None:
    for name, value in options.items():
        if value is not None and not given:
            raise BadInput(name, f"belongs to {what}")


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
