"""Code agents as a table, a line an agent."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from mcp_server.cli.table import Column, table_lines
from mcp_server.cli.words import one_line

if TYPE_CHECKING:
    from mcp_server.workflows import AgentView

COLUMNS = (
    Column("AGENT", shrinks=True, least=10),
    Column("PROVIDER", spare=3),
    Column("USABLE"),
    Column("DEFAULT", spare=2),
    Column("VERSION, OR WHAT IS MISSING", spare=1, shrinks=True, least=24),
)


def agent_lines(views: "Sequence[AgentView]", width: int | None) -> list[Text]:
    """The table's lines. `width` None, as in a pipe, folds nothing.

    Where it is too narrow, what is missing stands whole below its agent: the end is the command that brings it.
    """
    rows = [_row(view) for view in views]
    whole = table_lines(COLUMNS, rows, None)
    if width is None or max(line.cell_len for line in whole) <= width:
        return whole
    head, *lines = table_lines(COLUMNS[:-1], [row[:-1] for row in rows], width)
    said = [_folded(row[-1].plain, width) for row in rows]
    return [head, *(text for line, below in zip(lines, said, strict=True) for text in (line, *below))]


def _folded(text: str, width: int) -> list[Text]:
    lines = textwrap.wrap(text, max(width - 2, 20), break_long_words=False, break_on_hyphens=False)
    return [Text(f"  {line}", "dim") for line in lines]


def _row(view: "AgentView") -> list[Text]:
    usable = ("yes", "green") if view.availability.available else ("no", "dim")
    return [
        Text(one_line(view.name, 60)),
        Text(view.provider),
        Text(*usable),
        Text("default" if view.default else ""),
        Text(one_line(view.availability.text, 200)),
    ]
