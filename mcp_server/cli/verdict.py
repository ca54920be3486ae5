"""What a build came to, in a few lines, with the command that shows more."""

import re
from typing import TYPE_CHECKING

from rich.text import Text

from mcp_server.cli.screen import Screen
from mcp_server.cli.words import in_commands, typed
from mcp_server.report import build_report
from mcp_server.report_story import NOBODY_MENDS

if TYPE_CHECKING:
    from mcp_server.views import BuildView

MOST_BYTES = 1500  # of a verdict: about a dozen lines, which a terminal shows at a glance

_LINE = re.compile(r"(?P<place>\S+:\d+(?::\d+)?)?(?P<label>.*?\b(?:error|interrupted):)(?P<rest>.*)")
_HEAD = re.compile(
    r"(?P<build>build \d+ )(?P<state>succeeded|failed|refused|cancelled|is being cancelled|timed out|was lost"
    r"|gave up|was not mended|ran out of budget)"
)
_GOOD = "succeeded"
_TO_COPY = re.compile(r" |in /|\S+:\d+")
"""How a line begins that programs read, or that is to be copied: source or output, a folder, a place in a file."""


def verdict_lines(view: "BuildView") -> list[Text]:
    """The report that a model gets, a little longer, its errors set off."""
    report = build_report(view, limit_bytes=MOST_BYTES).replace("`build-orchestrator fix", f"`{typed()} fix")
    mend = f"`{typed()} fix {view.build.id}` lets an agent mend it"
    return coloured(in_commands(report.replace(NOBODY_MENDS, mend)))


def show(view: "BuildView", screen: Screen) -> None:
    """Print the verdict. What is said is folded, in a pipe too; a tool's message, its source and a path stay whole."""
    for line in verdict_lines(view):
        if screen.console.is_terminal:
            screen.fold(line)
        elif _TO_COPY.match(line.plain):
            screen.say(line)
        else:
            screen.fold_words(line, hang=2)


def coloured(text: str) -> list[Text]:
    """A report or a rendered diagnosis, its errors and hints set off."""
    return [_coloured_line(line) for line in text.split("\n")]


def _coloured_line(line: str) -> Text:
    if line.startswith("hint: "):
        return Text.assemble(("hint:", "yellow"), line.removeprefix("hint:"))
    if line.startswith("more: "):
        return Text(line, "dim")
    if found := _HEAD.match(line):
        colour = "bold green" if found["state"] == _GOOD else "bold red"
        return Text.assemble(found["build"], (found["state"], colour), line[found.end() :])
    found = None if line.startswith(" ") else _LINE.fullmatch(line)
    if found is None:
        return Text(line)
    return Text.assemble((found["place"] or "", "bold"), (found["label"], "red"), found["rest"])
