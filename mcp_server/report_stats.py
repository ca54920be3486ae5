"""Statistics of builds as text for a model or a pipe, and as rows for a terminal.

May import: build_statistics, build_trends, text and other reports. Never: store, engine, hosts, a front.
"""

from collections.abc import Sequence

from mcp_server import report_figures
from mcp_server.build_statistics import Stats
from mcp_server.build_trends import Trends
from mcp_server.text import duration, fit, one_line

STATS_BYTES = 1500
Rows = Sequence[Sequence[str]]

_WEEK_DAYS = 7


def stats_text(stats: Stats, project: str = "", trends: Trends | None = None) -> str:
    """Counts, durations, the causes of failures, then what is slow: at most 1,500 bytes, causes before the rest."""
    changes = report_figures.trend_text(trends) if trends else []
    lines = [one_line(line, 260) for line in (*_head(stats, project), *_causes(stats), *changes, *_rest(stats))]
    return fit(lines, STATS_BYTES)


def count_rows(stats: Stats) -> Rows:
    """Name and value of each count."""
    return [
        ("builds", str(stats.total_builds)),
        ("successful", str(stats.successful)),
        ("failed", str(stats.failed)),
        ("cancelled", str(stats.cancelled)),
        ("running", str(stats.running)),
        ("pending", str(stats.pending)),
        ("success rate", f"{stats.success_rate:g} %" if stats.total_builds else ""),
        ("average duration", duration(stats.average_duration)),
        ("half within", duration(stats.p50_duration)),
        ("nine of ten within", duration(stats.p90_duration)),
    ]


def failure_rows(stats: Stats) -> Rows:
    """Count, kind, message, place and the newest build of each cause, most frequent first."""
    return [
        (str(found.count), found.kind, one_line(found.message, 300), found.place, str(found.last_build))
        for found in stats.failures
    ]


def stage_rows(stats: Stats) -> Rows:
    """Stage, median duration and number of runs, slowest first."""
    return [(found.stage, duration(found.median_s), str(found.runs)) for found in stats.slowest]


def host_rows(stats: Stats) -> Rows:
    """Host, jobs and failures, busiest first."""
    return [(found.host, str(found.jobs), str(found.failures)) for found in stats.hosts]


def trend_rows(stats: Stats) -> Rows:
    """Day, builds, successes and failures of the days that had builds, newest first."""
    days = (day for day in reversed(stats.trend) if day.total)
    return [(day.day.isoformat(), str(day.total), str(day.successful), str(day.failed)) for day in days]


def _head(stats: Stats, project: str) -> list[str]:
    whose = f"{project}: " if project else ""
    if not stats.total_builds:
        return [f"{whose}no builds yet"]
    counted = (("failed", stats.failed), ("cancelled", stats.cancelled))
    under_way = (("running", stats.running), ("pending", stats.pending))
    parts = [f"{number} {word}" for word, number in (*counted, *under_way) if number]
    builds = "build" if stats.total_builds == 1 else "builds"
    head = [
        f"{whose}{stats.total_builds} {builds}",
        f"{stats.successful} successful ({stats.success_rate:g} %)",
        *parts,
    ]
    lines = [" · ".join(head)]
    if stats.p50_duration is not None:
        lines.append(
            f"successes take {duration(stats.average_duration)} on average, half {duration(stats.p50_duration)} "
            f"at most, nine of ten {duration(stats.p90_duration)} at most"
        )
    week = stats.trend[-_WEEK_DAYS:]
    month = f"{sum(day.total for day in stats.trend)} builds, {sum(day.failed for day in stats.trend)} failed"
    lines.append(
        f"last 7 days: {sum(d.total for d in week)} builds, {sum(d.failed for d in week)} failed · 30 days: {month}"
    )
    return lines


def _causes(stats: Stats) -> list[str]:
    if not stats.failures:
        return []
    lines = ["failed most often by:"]
    for found in stats.failures:
        place = f" at {found.place}" if found.place else ""
        times = f"{found.count} x" if found.count > 1 else "once"
        tail = f"{place}, last in build {found.last_build}"
        lines.append(f"  {times} {found.kind}: {one_line(found.message, 120)}{tail}")
    return lines


def _rest(stats: Stats) -> list[str]:
    slow = ", ".join(f"{found.stage} {duration(found.median_s)}" for found in stats.slowest)
    hosts = ", ".join(f"{one_line(found.host, 40)} {found.jobs} ({found.failures} failed)" for found in stats.hosts[:6])
    return [line for line in (f"slowest stages: {slow}" if slow else "", f"jobs: {hosts}" if hosts else "") if line]
