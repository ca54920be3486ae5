"""Builds as a table, a line a build."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from mcp_server.cli.frame import COLOURS
from mcp_server.cli.table import Column, table_lines
from mcp_server.cli.words import ago, one_line
from mcp_server.model import Build, Project
from mcp_server.report import duration
from mcp_server.report_parts import came_from, queue_words, why

if TYPE_CHECKING:
    from mcp_server.expected import Place

COLUMNS = (
    Column("BUILD", right=True),
    Column("PROJECT", spare=1, shrinks=True),
    Column("TARGET", spare=3),
    Column("STATUS"),
    Column("STARTED"),
    Column("TOOK", spare=2, right=True),
    Column("NOTE", spare=4, shrinks=True, least=12),
)


def build_table(
    builds: Sequence[Build],
    projects: Mapping[str, Project],
    now: datetime,
    width: int | None,
    places: "Mapping[int, Place] | None" = None,
) -> list[Text]:
    """The table's lines. `width` None, as in a pipe, cuts nothing. `places` in the queue, of those that wait."""
    at = places or {}
    rows = [_row(build, projects.get(build.project_id), now, at.get(build.id)) for build in builds]
    return table_lines(COLUMNS, rows, width)


def _row(build: Build, project: Project | None, now: datetime, place: "Place | None") -> list[Text]:
    seconds = build.duration
    if seconds is None and build.started_at is not None:
        seconds = max((now - build.started_at).total_seconds(), 0.0)
    return [
        Text(str(build.id)),
        Text(one_line(project.name if project else "?")),
        Text(one_line(build.target or (project.target if project else None) or "", 20)),
        Text(build.status, COLOURS.get(build.status, "")),
        Text(ago(build.started_at or build.created_at, now)),
        Text(duration(seconds)),
        Text(_note(build, queue_words(place, now)), "dim"),
    ]


def _note(build: Build, queued: str) -> str:
    notes = [
        queued,
        build.name if build.name not in ("idf_build", "fix") else "",
        why(build),
        came_from(build),
        "is being cancelled" if build.cancel_requested and build.status.is_open else "",
        f"round {build.round}" if build.round > 1 else "",
    ]
    return one_line(", ".join(note for note in notes if note))
