"""The doctor's checks as a list with marks, each missing thing with the command that brings it."""

from collections.abc import Sequence
from typing import Protocol

from rich.text import Text

from mcp_server.cli.screen import Screen, out, print_json
from mcp_server.cli.words import one_line
from mcp_server.report_parts import NO_IDF_BUILD

MARKS = {"ok": ("✓", "ok  ", "green"), "warn": ("!", "warn", "yellow"), "fail": ("✗", "miss", "red")}


class Check(Protocol):
    """One thing that the doctor looked at. `status` is ok, warn or fail; `mend` the next step, if one is due."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def found(self) -> str: ...
    @property
    def mend(self) -> str | None: ...


def show(checks: Sequence[Check], *, json: bool) -> int:
    """Print the checks; 1 if one says that something needed is missing."""
    if json:
        print_json([{name: getattr(check, name) for name in ("name", "status", "found", "mend")} for check in checks])
    else:
        screen = out()
        screen.say_text(*_lines(checks, screen), hang=8)
    return 1 if any(check.status == "fail" for check in checks) else 0


def _lines(checks: Sequence[Check], screen: Screen) -> list[Text]:
    wide = min(max((len(check.name) for check in checks), default=0), 24)
    lines: list[Text] = []
    for check in checks:
        mark, word, colour = MARKS.get(check.status, MARKS["warn"])
        name = Text(one_line(check.name, 60))
        name.truncate(wide, overflow="ellipsis", pad=True)
        shown = word if screen.ascii else f"{mark} {word}"
        lines.append(Text.assemble((shown, colour), "  ", name, "  ", one_line(check.found)))
        if check.mend and check.status != "ok":
            lines.append(Text.assemble(" " * (len(shown) + 2), ("mend: ", "yellow"), one_line(check.mend, 500)))
    lines.append(_conclusion(checks))
    return lines


def _conclusion(checks: Sequence[Check]) -> Text:
    missing = sum(check.status == "fail" for check in checks)
    if missing:
        return Text(f"{missing} of {len(checks)} missing: {NO_IDF_BUILD}", "bold red")
    warned = sum(check.status == "warn" for check in checks)
    return Text("all that an ESP-IDF build needs is here" + (f"; {warned} to look at" if warned else ""), "bold green")
