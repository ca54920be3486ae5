"""Statistics as tables, one below the other."""

import dataclasses
from typing import Any

from rich.text import Text

from mcp_server import report_stats
from mcp_server.build_statistics import Stats
from mcp_server.cli.table import Column, table_lines

FAILURES = (
    Column("TIMES", right=True),
    Column("KIND", spare=2),
    Column("CAUSE", shrinks=True, least=20),
    Column("PLACE", spare=1, shrinks=True),
    Column("LAST IN", right=True),
)
STAGES = (Column("SLOWEST STAGE", shrinks=True), Column("MEDIAN", right=True), Column("RUNS", right=True))
HOSTS = (Column("HOST", shrinks=True), Column("JOBS", right=True), Column("FAILED", right=True))
DAYS = (
    Column("DAY"),
    Column("BUILDS", right=True),
    Column("SUCCESSFUL", right=True),
    Column("FAILED", right=True),
)
MOST_DAYS = 7


def lines(stats: Stats, width: int | None) -> list[Text]:
    """Counts, then what fails, what is slow, where it ran and the last days, each where there is something to say."""
    counts = [(name, value) for name, value in report_stats.count_rows(stats) if value]
    wide = max(len(name) for name, _ in counts)
    shown = [Text(f"{name:<{wide}}  {value}") for name, value in counts]
    tables = (
        (FAILURES, report_stats.failure_rows(stats)),
        (STAGES, report_stats.stage_rows(stats)),
        (HOSTS, report_stats.host_rows(stats)),
        (DAYS, report_stats.trend_rows(stats)[:MOST_DAYS]),
    )
    for columns, rows in tables:
        if rows:
            shown += [Text(), *table_lines(columns, [[Text(cell) for cell in row] for row in rows], width)]
    return shown


def record(stats: Stats) -> dict[str, Any]:
    """Everything, for programs; days as ISO 8601."""
    row = dataclasses.asdict(stats)
    row["trend"] = [{**day, "day": day["day"].isoformat()} for day in row["trend"]]
    return row
