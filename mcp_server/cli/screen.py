"""Where text goes: data to stdout, all else to stderr, each as its reader can take it."""

import json
import sys
import textwrap
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the base ends the process with 1, which here means that a build failed


class Screen:
    """One of the two standard streams. `lively`: its lines may be painted over."""

    def __init__(self, file: TextIO) -> None:
        reconfigure = getattr(file, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a Latin-1 terminal shows `?` for what it lacks, not a traceback
        self.console = _Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
        # Not the console's word alone: FORCE_COLOR makes a pipe a terminal in its eyes.
        self.lively = file.isatty() and self.console.is_terminal and not self.console.is_dumb_terminal
        self.ascii = self.console.options.ascii_only

    @property
    def width(self) -> int:
        """Columns of the terminal as it is now; of a pipe what COLUMNS says, else 80."""
        return max(self.console.width, 20)

    @property
    def height(self) -> int:
        """Lines of the terminal as it is now."""
        return max(self.console.height, 5)

    def say(self, *lines: Text | str) -> None:
        """Print whole lines; longer ones than the terminal is wide are the terminal's to wrap."""
        for line in lines:
            self.console.print(
                Text(line) if isinstance(line, str) else line, no_wrap=True, overflow="ignore", crop=False
            )

    def fold(self, line: Text, indent: str = "", hang: int = 2) -> None:
        """Print a line indented, folded between words; what is folded hangs `hang` columns further in."""
        room = max(self.width - len(indent), 20)
        first, *rest = line.wrap(self.console, room) or [Text()]
        if rest:
            rest = Text(line.plain[len(first.plain) :].lstrip()).wrap(self.console, max(room - hang, 10))
        first.rstrip()
        self.say(Text.assemble(indent, first), *(f"{indent}{' ' * hang}{part.plain.rstrip()}" for part in rest))

    def fold_words(self, line: Text, indent: str = "", hang: int = 0) -> None:
        """Print a line folded between its words, in a pipe too; a word is never cut, as it may be a path to copy.

        What is folded hangs `hang` columns further in, or fewer where its longest word would not fit otherwise.
        """
        longest = max(map(len, line.plain.split()), default=0)
        hanging = " " * max(min(len(indent) + hang, self.width - longest), 0)
        first, *rest = textwrap.wrap(
            line.plain,
            self.width,
            initial_indent=indent,
            subsequent_indent=hanging,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
        self.say(Text.assemble(indent, line[: len(first) - len(indent)]) if first else "", *rest)

    def say_text(self, *lines: Text, hang: int = 2) -> None:
        """Print lines for a person: a terminal gets them folded, a pipe as they are."""
        for line in lines:
            if self.console.is_terminal:
                self.fold(line, hang=hang)
            else:
                self.say(line)

    def ask(self, question: str) -> None:
        """Print without a line's end."""
        self.console.print(Text(question), end="", soft_wrap=True)


def out() -> Screen:
    """stdout: data."""
    return Screen(sys.stdout)


def err() -> Screen:
    """stderr: progress, notes, errors."""
    return Screen(sys.stderr)


def print_json(value: Any) -> None:
    """One JSON value on stdout, for programs: ASCII only, so that no encoding can hurt it."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()
