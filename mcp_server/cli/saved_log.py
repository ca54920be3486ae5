"""Reads saved logs of any size and shows what each came to."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from mcp_server.cli.screen import Screen, out, print_json
from mcp_server.cli.verdict import coloured
from mcp_server.cli.words import one_line
from mcp_server.errors import NotFound
from mcp_server.idf.diagnostics import Diagnoser, render
from mcp_server.model import Diagnosis

PIECE_BYTES = 1_048_576  # a log of any size is read in these
MOST_BYTES = 1000  # of the answer on one file, its title included
STDIN = "-"


NO_END = "no end of a build found: the log was cut short, or is no build's"


def diagnose_files(names: Sequence[str], *, json: bool) -> int:
    """Show the verdict on each; 2 if one cannot be read, else 1 if any tells of a failure, else 0."""
    screen, missing = out(), False
    found: list[tuple[str, Diagnosis, bool | None]] = []
    for name in names:
        try:
            diagnosis, ended = _read(name)
        except NotFound as error:
            typer.echo(f"build-orchestrator: {error}", err=True)
            missing = True
            continue
        found.append((name, diagnosis, ended))
        if not json:
            _show(screen, name if len(names) > 1 else None, diagnosis, ended)
    if json:
        print_json([_row(*one) for one in found])
    failed = any(diagnosis.errors for _, diagnosis, _ in found)
    return 2 if missing else 1 if failed else 0


def _read(name: str) -> tuple[Diagnosis, bool | None]:
    """The diagnosis, and whether the log shows a success; None where it shows no end of a build at all."""
    diagnoser = Diagnoser(Path.cwd())
    for piece in _pieces(name):
        diagnoser.feed(piece)
    diagnosis = diagnoser.finish(None)
    return diagnosis, diagnoser.ended


def _pieces(name: str) -> Iterator[bytes]:
    """The bytes of a file or of stdin. NotFound says why there are none."""
    try:
        descriptor = os.dup(sys.stdin.fileno()) if name == STDIN else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NotFound(f"{one_line(name, 200)} cannot be read: {why}") from None


def _show(screen: Screen, title: str | None, diagnosis: Diagnosis, ended: bool | None) -> None:
    room = MOST_BYTES - 1  # the last line's end
    if title is not None:
        head = f"== {one_line('stdin' if title == STDIN else title, 200)} =="
        screen.say(head)
        room -= len(head.encode()) + 1
    if ended is None and not diagnosis.errors:
        screen.say(NO_END)
        return
    screen.say_text(*coloured(render(diagnosis, room)))


def _row(name: str, diagnosis: Diagnosis, ended: bool | None) -> dict[str, object]:
    return {
        "file": one_line(name),
        "failed": bool(diagnosis.errors),
        "ended": ended,
        **diagnosis.model_dump(mode="json"),
    }
