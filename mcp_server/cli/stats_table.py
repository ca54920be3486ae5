"""Statistics as tables, one below the other."""

import dataclasses
from typing import Any

from rich.text import Text

from mcp_server import report_figures, report_stats
from mcp_server.build_statistics import Stats
from mcp_server.build_trends import Trends
from mcp_server.cli.table import Column, table_lines
from mcp_server.cli.words import one_line

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
FILES = (
    Column("SLOWEST TO COMPILE", shrinks=True, least=20),
    Column("MEDIAN", right=True),
    Column("LAST", right=True),
    Column("BUILDS", spare=1, right=True),
)
TESTS = (
    Column("FAILING TEST", shrinks=True, least=20),
    Column("STAGE", spare=1, shrinks=True),
    Column("FAILED", right=True),
    Column("LAST IN", right=True),
)
SLOW_TESTS = (
    Column("SLOWEST TEST", shrinks=True, least=20),
    Column("STAGE", spare=1, shrinks=True),
    Column("MEDIAN", right=True),
    Column("RUNS", right=True),
)
MOST_DAYS = 7
MOST_FILES = 10
MOST_TESTS = 5


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


def trend_lines(trends: Trends | None, width: int | None, *, ascii_only: bool) -> list[Text]:
    """The last builds as a picture, then files and tests that stand out; nothing where there is nothing to say."""
    if trends is None:
        return []
    drawn = report_figures.picture(trends, ascii_only=ascii_only)
    shown = [Text(), *(Text(line) for line in drawn)] if drawn else []
    tables = (
        (FILES, report_figures.slow_file_rows(trends)[:MOST_FILES]),
        (TESTS, report_figures.failing_test_rows(trends)[:MOST_TESTS]),
        (SLOW_TESTS, report_figures.slow_test_rows(trends)[:MOST_TESTS]),
    )
    for columns, rows in tables:
        if rows:
            cells = [[Text(one_line(cell, 300)) for cell in row] for row in rows]
            shown += [Text(), *table_lines(columns, cells, width)]
    return shown


def record(stats: Stats, trends: Trends | None = None) -> dict[str, Any]:
    """Everything, for programs; days and times as ISO 8601. `builds` are the last ones of the project, oldest first."""
    row = dataclasses.asdict(stats)
    row |= {name: value for name, value in dataclasses.asdict(trends).items() if name != "project_id"} if trends else {}
    row["builds"] = [{**one, "created_at": one["created_at"].isoformat()} for one in row.get("builds", ())]
    row["trend"] = [{**day, "day": day["day"].isoformat()} for day in row["trend"]]
    return row
