"""Code agents as a table, a line an agent."""

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
    """The table's lines. `width` None, as in a pipe, cuts nothing."""
    return table_lines(COLUMNS, [_row(view) for view in views], width)


def _row(view: "AgentView") -> list[Text]:
    usable = ("yes", "green") if view.availability.available else ("no", "dim")
    return [
        Text(one_line(view.name, 60)),
        Text(view.provider),
        Text(*usable),
        Text("default" if view.default else ""),
        Text(one_line(view.availability.text, 200)),
    ]
