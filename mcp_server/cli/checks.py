"""The doctor's checks as a table with marks, each missing thing with the command that brings it."""

from collections.abc import Sequence
from typing import Protocol

from rich.cells import cell_len
from rich.text import Text

from mcp_server.cli.screen import Screen, out, print_json
from mcp_server.cli.words import one_line
from mcp_server.report_parts import NO_IDF_BUILD

WIDEST_NAME = 24  # columns; a longer name has a line of its own
MARKS = {"ok": ("✓", "ok  ", "green"), "warn": ("!", "warn", "yellow"), "fail": ("✗", "miss", "red")}


class Check(Protocol):
    """One thing that the doctor looked at. `status` is ok, warn or fail; `mend` the next step, if one is due.

    `about` is build or board: what a `fail` stands in the way of.
    """

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def found(self) -> str: ...
    @property
    def mend(self) -> str | None: ...
    @property
    def about(self) -> str: ...


def show(checks: Sequence[Check], *, json: bool) -> int:
    """Print the checks; 1 if one says that something needed, or asked about, is missing."""
    if json:
        print_json([{name: getattr(check, name) for name in ("name", "status", "found", "mend")} for check in checks])
    else:
        _show_table(checks, out())
    return 1 if any(check.status == "fail" for check in checks) else 0


def _show_table(checks: Sequence[Check], screen: Screen) -> None:
    """Mark, name and what was found in columns that all rows share; folded between words, in a pipe too."""
    names = [one_line(check.name, 200) for check in checks]
    wide = max((cell_len(name) for name in names if cell_len(name) <= WIDEST_NAME), default=0)
    for check, name in zip(checks, names, strict=True):
        mark, word, colour = MARKS.get(check.status, MARKS["warn"])
        shown = word if screen.ascii else f"{mark} {word}"
        found = one_line(check.found, 500)
        left = cell_len(shown) + 2
        if cell_len(name) > wide:
            screen.fold_words(Text.assemble((shown, colour), "  ", name), hang=left)
            screen.fold_words(Text(found), " " * (left + wide + 2))
        else:
            padded = name + " " * (wide - cell_len(name))
            screen.fold_words(Text.assemble((shown, colour), "  ", padded, "  ", found), hang=left + wide + 2)
        if check.mend and check.status != "ok":
            mend = Text.assemble(("mend: ", "yellow"), one_line(check.mend, 500))
            screen.fold_words(mend, " " * left, hang=6)
    screen.fold_words(_conclusion(checks))


def _conclusion(checks: Sequence[Check]) -> Text:
    builds = [check for check in checks if check.about == "build"]
    missing = sum(check.status == "fail" for check in builds)
    absent = [one_line(check.name, 60) for check in checks if check.status == "fail" and check.about != "build"]
    said = [f"{missing} of {len(checks)} missing: {NO_IDF_BUILD}"] if missing else []
    said += [f"{', '.join(absent)}: not to be had"] if absent else []
    if said:
        return Text("; ".join(said), "bold red")
    warned = sum(check.status == "warn" for check in checks)
    said = ["all that an ESP-IDF build needs is here"] if builds else []
    said += [f"{warned} to look at"] if warned else []
    return Text("; ".join(said) or "nothing to mend", "bold green" if builds or not warned else "bold yellow")
