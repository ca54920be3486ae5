"""`flash`, `qemu` and `monitor`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_server.cli.options import Json, ProjectFolder
from mcp_server.cli.session import with_orchestrator
from mcp_server.errors import BadInput, NotAgreed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_server.orchestrator import Orchestrator
    from mcp_server.views import Started

BUILT = typer.Option("--build", metavar="BUILD", help="What this build left; by default the project's last one.")
Built = Annotated[str | None, BUILT]
Port = Annotated[
    str | None,
    typer.Option("--port", "-p", metavar="PORT", help="/dev/ttyUSB0 or rfc2217://HOST:PORT; else the only one."),
]
Host = Annotated[str, typer.Option("--host", metavar="HOST", help="The host that the board is connected to.")]
Expect = Annotated[
    list[str] | None, typer.Option("--expect", metavar="REGEX", help="The firmware must print this; may be repeated.")
]
FailOn = Annotated[
    list[str] | None, typer.Option("--fail-on", metavar="REGEX", help="It must not print this; may be repeated.")
]
Erase = Annotated[bool, typer.Option("--erase", help="Erase all of the flash first, settings of the board included.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Watched = Annotated[float, typer.Option("--monitor-s", metavar="SECONDS", help="Watch it boot so long; 0: do not.")]
Limit = Annotated[float, typer.Option("--timeout-s", metavar="SECONDS", help="Run it at most so long.")]
Baud = Annotated[
    int | None,
    typer.Option("--baud", "-b", metavar="RATE", help="Of the board's UART; else its last one, or 115200."),
]
HERE = "local"
MOST_S = 3600.0


def flash(
    project: ProjectFolder = ".",
    build: Built = None,
    port: Port = None,
    host: Host = HERE,
    erase: Erase = False,
    expect: Expect = None,
    fail_on: FailOn = None,
    monitor_s: Watched = 10,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Write what was built to a board, then watch it boot.

    Asks first. Every image is verified; a build that failed or whose files have changed is never written. Exits 0 if
    the board was written and printed what it should, 1 if not, 2 if it was refused.
    """
    _checked("--monitor-s", monitor_s, 0)

    async def work(orchestrator: "Orchestrator") -> int:
        order = await orchestrator.devices.order_flash(
            project,
            build=build,
            port=port,
            host=host,
            erase=erase,
            expect=expect or (),
            fail_on=fail_on or (),
            seconds=monitor_s,
        )
        started = await agreed_to(lambda agreed: orchestrator.devices.start(order, agreed=agreed), yes=yes)
        return 1 if started is None else await _followed(orchestrator, started, json=json)

    return with_orchestrator(work)


def qemu(
    project: ProjectFolder = ".",
    build: Built = None,
    expect: Expect = None,
    fail_on: FailOn = None,
    timeout_s: Limit = 30,
    json: Json = False,
) -> int:
    """Run what was built in the emulator of its chip.

    Firmware for the linux target runs as a process of this machine. Exits 0 if it printed what it should, 1 if not, 2
    if it was refused.
    """
    _checked("--timeout-s", timeout_s, 1)

    async def work(orchestrator: "Orchestrator") -> int:
        start = orchestrator.devices.emulate(
            project, build=build, expect=expect or (), fail_on=fail_on or (), seconds=timeout_s
        )
        return await _followed(orchestrator, await start, json=json)

    return with_orchestrator(work)


def monitor(
    port: Port = None,
    host: Host = HERE,
    baud: Baud = None,
    raw: Annotated[bool, typer.Option("--raw", help="The board's own bytes, without time stamps and remarks.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Reset the board first.")] = False,
) -> int:
    """Show what a board prints; lines that you type are sent to it.

    Ctrl-C closes the session; one that was open before goes on. A flash takes the port meanwhile, and the output
    goes on after it. Exits 0, or 1 if the port could not be opened.
    """

    async def work(orchestrator: "Orchestrator") -> int:
        from mcp_server.cli import serial  # noqa: PLC0415  # once there is something to show

        return await serial.watch(orchestrator, port, host, baud, raw=raw, reset=reset)

    return with_orchestrator(work)


async def _followed(orchestrator: "Orchestrator", started: "Started", *, json: bool) -> int:
    from mcp_server.cli import follow, here  # noqa: PLC0415  # the model and rich, which --help does without

    async with follow.signals_heard() as heard:
        return await here.follow_here(orchestrator, started, heard, json=json)


def _checked(name: str, seconds: float, least: float) -> None:
    if not least <= seconds <= MOST_S:
        raise BadInput(name, f"{seconds:g} is out of range: {least:g} to {MOST_S:g} seconds")


async def agreed_to(start: "Callable[[bool], Awaitable[Started]]", *, yes: bool) -> "Started | None":
    """`start(agreed)` once the person at the terminal said yes, where that is needed; None: they did not.

    BadInput: nobody can be asked.
    """
    from mcp_server.cli import screen  # noqa: PLC0415  # as above

    try:
        return await start(yes)
    except NotAgreed as asked:
        question = asked.question
    if not sys.stdin.isatty():
        raise BadInput("--yes", f"is needed where nobody can be asked: {question}")
    err = screen.err()
    err.ask(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return await start(True)
    err.say("nothing was started")
    return None
