"""Hosts as a table, a line a host, and below it what is wrong with them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from mcp_server.cli.table import Column, table_lines
from mcp_server.cli.words import one_line
from mcp_server.config_rules import LOCAL
from mcp_server.report_hosts import gib, milliseconds

if TYPE_CHECKING:
    from mcp_server.machines import HostView

COLUMNS = (
    Column("HOST", shrinks=True, least=16),
    Column("ALIAS", spare=5),
    Column("STATE"),
    Column("DELAY", spare=7, right=True),
    Column("LOAD", spare=1, right=True),
    Column("DISK FREE", spare=2, right=True),
    Column("MEMORY", spare=9, right=True),
    Column("SLOTS", spare=3, right=True),
    Column("JOBS", spare=4, right=True),
    Column("OTHER BUILDS", spare=6, shrinks=True, least=12),
    Column("TASKS", spare=8, shrinks=True, least=12),
    Column("WORKDIR", spare=10, shrinks=True, least=12),
    Column("PURPOSE", spare=11, shrinks=True, least=12),
)


def host_lines(views: "Sequence[HostView]", width: int | None) -> list[Text]:
    """The table's lines. `width` None, as in a pipe, cuts nothing."""
    return table_lines(COLUMNS, [_row(view) for view in views], width)


def notes(views: "Sequence[HostView]") -> list[Text]:
    """Why a host does not answer, and what would go wrong there."""
    lines: list[Text] = []
    for view in views:
        if view.trouble:
            lines.append(Text.assemble((f"{view.name}: ", "red"), one_line(view.trouble)))
        for warning in view.facts.warnings if view.facts else ():
            lines.append(Text.assemble((f"{view.name}: ", "yellow"), one_line(warning)))
    return lines


def _row(view: "HostView") -> list[Text]:
    facts, server = view.facts, view.server
    state = ("unreachable", "red") if view.trouble else ("ok", "green") if facts else ("not asked", "dim")
    if facts and facts.warnings:
        state = ("look", "yellow")
    load = f"{facts.load[0]:.1f}/{facts.cpus}" if facts and facts.load else ""
    disk = f"{gib(facts.disk_free)} GiB" if facts and facts.disk_free is not None else ""
    memory = f"{gib(facts.memory_free)} GiB" if facts and facts.memory_free is not None else ""
    others = ", ".join(f"{one_line(o.name, 20)} x {o.count}" for o in facts.other_builds) if facts else ""
    words = (
        milliseconds(facts.latency_s) if facts else "",
        load,
        disk,
        memory,
        f"{len(view.held)}/{view.slots}",
        str(len(facts.running_jobs)) if facts else "",
        others,
        one_line(server.build or "", 60),
        one_line(server.workdir, 60) if server.workdir else "" if view.name == LOCAL else "none",
        one_line(server.purpose or "", 60),
    )
    called = ",".join([*([server.alias] if server.alias else []), *server.tags])
    return [Text(one_line(view.name, 60)), Text(one_line(called, 60)), Text(*state), *map(Text, words)]
