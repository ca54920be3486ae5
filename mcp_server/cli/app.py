"""The program `build-orchestrator`: finds the command, runs it, and turns every error into one sentence."""

import contextlib
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from mcp_server import __version__
from mcp_server.cli.help import HelpfulCommand, format_options
from mcp_server.cli.words import refusal_in_commands
from mcp_server.errors import BadInput, OrchestratorError

PROGRAM = "build-orchestrator"
REFUSED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
PIPE_CLOSED = 141  # 128 + SIGPIPE: whoever read our output has seen enough
MOST_LOG_BYTES = 1_000_000

# Name → module and one line. A command's module is imported only when that command is asked for; a test holds these
# lines to the first lines of the commands' own help.
COMMANDS = {
    "demo": ("demo", "Show the whole loop, with nothing installed: build, fail, mend, verify."),
    "run": ("run", "Start one build and follow it here."),
    "flash": ("device", "Write what was built to a board, then watch it boot."),
    "qemu": ("device", "Run what was built in the emulator of its chip."),
    "monitor": ("device", "Show what a board prints; lines that you type are sent to it."),
    "builds": ("look", "List builds, the newest first."),
    "status": ("look", "Show running and pending builds, then the last few."),
    "logs": ("look", "Print a stage's log, or a slice of it."),
    "cancel": ("act", "Cancel a build; its jobs are ended."),
    "retry": ("act", "Start a failed or cancelled build again, as a new build."),
    "fix": ("fix", "Let an agent mend a failed build, proved by building again."),
    "agents": ("agents", "Show the code agents, which can be used, and what the others lack."),
    "stats": ("statistics", "Show counts, success rate, durations and why builds fail."),
    "hosts": ("machines", "Show each host: reachable, load, disk, slots, jobs, other builds."),
    "projects": ("projects", "List projects, or import, sync or remove one."),
    "tokens": ("tokens", "Make, list or take away tokens for the service."),
    "secrets": ("secrets", "Set, list or take away secrets; no value is ever shown."),
    "backup": ("backup", "Copy everything that is remembered into one file, while builds go on."),
    "restore": ("backup", "Bring a backup in, also into another kind of database."),
    "diagnose": ("diagnose", "Print the verdict on any saved build log."),
    "doctor": ("doctor", "Show what is here, what is missing, and the command that mends it."),
    "serve": ("serve", "Serve builds to a team, its bots and its browser until Ctrl-C."),
    "mcp": ("served", "Serve MCP over stdio; what a client starts."),
    "worker": ("served", "Run pending builds; started on demand by the other commands."),
}
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


class Commands(TyperGroup):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return command(cmd_name) if cmd_name in COMMANDS else None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def command(name: str) -> Any:
    """The command's parser, made from the function of its name."""
    module = importlib.import_module(f"mcp_server.cli.{COMMANDS[name][0]}")
    holder = typer.Typer(add_completion=False, rich_markup_mode=None)
    holder.command(name, cls=HelpfulCommand, context_settings=CONTEXT)(_exiting(getattr(module, name)))
    return get_command(holder)


def program() -> Any:
    """The parser of the whole command line."""
    app = typer.Typer(
        cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True
    )
    app.callback(context_settings=CONTEXT)(_program)
    return get_command(app)


def main(argv: Sequence[str]) -> int:
    """Run one command line; its exit code. Nothing but an internal error is ever shown with a traceback."""
    arguments, debug = _without_debug(argv)
    try:
        _refuse_foreign(arguments)
        program().main(args=arguments, prog_name=PROGRAM)
    except SystemExit as leaving:
        return _flushed(leaving.code if isinstance(leaving.code, int) else 0)
    except OrchestratorError as error:
        return _refuse(error, debug=debug)
    except BrokenPipeError:
        return _closed()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _broken(error, debug=debug)
    return _flushed(0)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Build, run and mend firmware here and on far hosts, and get a verdict."""


def _exiting(function: Callable[..., int]) -> Callable[..., None]:
    """The same command, its result being the process's exit code."""

    @functools.wraps(function)
    def exiting(*args: Any, **kwargs: Any) -> None:
        try:
            code = function(*args, **kwargs)
        except BrokenPipeError:  # the parser would make a 1 of it, which here means that a build failed
            code = _closed()
        raise typer.Exit(code)

    return exiting


def _without_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """--debug may stand before or behind the command, but not behind `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    kept = [argument for argument in argv[:end] if argument != "--debug"]
    return [*kept, *argv[end:]], len(kept) < end


def _refuse_foreign(arguments: Sequence[str]) -> None:
    """Bytes that are no UTF-8 arrive as lone surrogates, which no table takes; `diagnose` only opens files."""
    if arguments[:1] == ["diagnose"]:
        return
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise BadInput(f"argument {number}", "holds bytes that are not UTF-8: use another name") from None


def _refuse(error: OrchestratorError, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"{PROGRAM}: {refusal_in_commands(str(error))}", err=True)
    return REFUSED


def _broken(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    place = _keep(error)
    details = f"the details are in {place}" if place else "--debug shows the details"
    typer.echo(f"{PROGRAM}: internal error ({type(error).__name__}); {details}", err=True)
    return REFUSED


def _keep(error: Exception) -> Path | None:
    """Append the traceback to HOME/logs/cli.log; None where even that cannot be done."""
    from mcp_server.config import load_config  # noqa: PLC0415  # only when all else has gone wrong

    try:
        logs = load_config().make_home() / "logs"
        path = logs / "cli.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as log:
            if log.tell() > MOST_LOG_BYTES:
                log.truncate(0)
            log.write(f"{datetime.now(UTC).isoformat()} {PROGRAM} {__version__}\n")
            log.writelines(traceback.format_exception(error))
    except (OrchestratorError, OSError):
        return None
    return path


def _flushed(code: int) -> int:
    """Find out here, not while the interpreter shuts down, that nobody reads our output any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed()
    return code


def _closed() -> int:
    """Nothing more can be written: let the interpreter's last flush go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # a test's stdout has no descriptor
        os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return PIPE_CLOSED
