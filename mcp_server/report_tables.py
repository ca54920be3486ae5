"""Builds, stages, files, sizes, events and checks as lists: a line each, bounded in bytes.

May import: compared, expected, idf, logs, model, text and other reports. Never: store, engine, hosts, a front.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mcp_server import report_parts as parts
from mcp_server.compared import compared
from mcp_server.idf.doctor import SERIAL_PORTS
from mcp_server.model import Build, BuildStatus, Event, Project
from mcp_server.report_figures import figure_lines
from mcp_server.report_parts import number_of_bytes
from mcp_server.report_pipeline import stage_lines
from mcp_server.report_sizes import size_lines
from mcp_server.text import duration, fit, one_line, size

if TYPE_CHECKING:  # views are only read here; the orchestrator brings a database along
    from mcp_server.expected import Place
    from mcp_server.idf.doctor import Check
    from mcp_server.logs import LogSlice
    from mcp_server.views import BuildView

DOCTOR_BYTES = 1500
BOARDS_BYTES, FINE_BYTES = 500, 400  # of it for boards and ports that are fine, and for what else is
MOST_EVENTS = 40
MOST_LINKS, MOST_PATH = 8, 120  # 2 kB of the table at most
NOT_HERE = "not here"
_MAIN_PARTS = ("app", "elf", "bootloader", "partition-table")


def build_list(
    builds: Sequence[Build], projects: Mapping[str, Project], places: "Mapping[int, Place] | None" = None
) -> str:
    """One line a build, newest first; with their places in the queue where they wait."""
    if not builds:
        return "no builds yet: idf_build, remote_build and pipeline_run start one"
    at = places or {}
    lines = [build_line(build, projects.get(build.project_id), at.get(build.id)) for build in builds]
    return fit(lines, parts.TABLE_BYTES)


def build_line(build: Build, project: Project | None, place: "Place | None" = None) -> str:
    """`42 failed · 2026-01-31 12:00 UTC · 38 s · blink · esp32c3`."""
    words = [
        f"{build.id} {build.status}",
        f"{build.created_at:%Y-%m-%d %H:%M} UTC",
        duration(build.duration) if build.duration is not None else "",
        project.name if project else "",
        build.target or "",
        build.name if build.name != "fix" else "",
        parts.why(build) if build.status is BuildStatus.FAILED else "",
        parts.came_from(build),
        f"place {place.position} of {place.of}" if place else "",
    ]
    return one_line(" · ".join(word for word in words if word), 200)


def stage_table(view: "BuildView") -> str:
    """One line an attempt with its host, then the stages that were not begun; of very many those that matter first."""
    return fit([parts.head(view, view.build.status), *stage_lines(view)], parts.TABLE_BYTES)


def event_list(view: "BuildView", events: Sequence[Event]) -> str:
    """The newest events, oldest of them first: time, type and data."""
    lines = [f"{e.id} {e.ts:%H:%M:%S} {e.type} {json.dumps(dict(e.data), default=str)}" for e in events]
    newest = ", the newest" if len(events) >= MOST_EVENTS else ""
    head = f"build {view.build.id}: {parts.plural(len(events), 'event')}{newest}"
    return fit([head, *(one_line(line, 240) for line in lines)], parts.TABLE_BYTES)


def artifact_changes(view: "BuildView", other: "BuildView") -> str:
    """What one build left against what another did: new, gone and changed files, by their hashes."""
    told = compared(view, other)
    same = parts.plural(told["unchanged"], "file")
    lines = [f"build {view.build.id} against build {other.build.id}: {same} unchanged"]
    for file in told["files"]:
        if file["change"] == "new":
            lines.append(f"{file['path']} new, {file['size']:,}")
        elif file["change"] == "gone":
            lines.append(f"{file['path']} gone, was {file['was']:,}")
        else:
            lines.append(f"{file['path']} changed, {file['size']:,} ({file['size'] - file['was']:+,})")
    return fit([one_line(line, 300) for line in lines], parts.TABLE_BYTES)


def artifact_table(view: "BuildView", kept: str = "", links: Mapping[str, str] | None = None) -> str:
    """Path, size, flash offset and hash of every file that was left; `kept`: where else; links by path, to some."""
    if not view.artifacts:
        return f"build {view.build.id} left no artifacts: it is {view.build.status}"
    place = f" in {view.build.artifacts_path or '?'}" if not kept.startswith(NOT_HERE) else ""
    head = f"build {view.build.id}: {parts.plural(len(view.artifacts), 'file')}{place}{f' · {kept}' if kept else ''}"
    lines = [
        f"{a.path} · {number_of_bytes(a.size)} · {a.kind}{f' · at {a.offset}' if a.offset else ''} · "
        f"sha256 {a.sha256[:16]}"
        for a in view.artifacts
    ]
    if not links:
        return fit([one_line(line, 300) for line in (head, *lines)], parts.TABLE_BYTES)
    told = ["links, for an hour and without a token:", *links.values()]
    room = parts.TABLE_BYTES - sum(len(line.encode()) + 1 for line in told)
    return "\n".join([fit([one_line(line, 300) for line in (head, *lines)], room), *told])


def linked_files(view: "BuildView") -> Sequence[str]:
    """The paths of those files that whoever is far away wants first: what is flashed, then the others."""
    kinds = [*_MAIN_PARTS, "file"]
    found = sorted(view.artifacts, key=lambda a: (not a.offset, kinds.index(a.kind) if a.kind in kinds else 9))
    return list(dict.fromkeys(a.path for a in found if len(a.path) <= MOST_PATH))[:MOST_LINKS]


def size_table(view: "BuildView", other: "BuildView | None" = None) -> str:
    """Sizes of binaries, memories and components, coverage, times of files; beside `other` with the differences."""
    now, then = _sizes(view), _sizes(other) if other else {}
    told = [*figure_lines(view, other)]
    if not now and not then and told:
        return fit([f"build {view.build.id}:", *map(_kept_indent, told)], parts.TABLE_BYTES)
    if not now and not then:
        return f"build {view.build.id} left no binaries: it is {view.build.status}"
    against = f" against build {other.build.id}" if other else ""
    lines = [f"build {view.build.id}{against}: bytes on disk"]
    for path in sorted({*now, *then}, key=lambda path: (path not in now, list(now).index(path) if path in now else 0)):
        lines.append(_size_line(path, now.get(path), then.get(path), compared=other is not None))
    lines += [*size_lines(view, other), *told]
    return fit([_kept_indent(line) for line in lines], parts.TABLE_BYTES)


def _kept_indent(line: str) -> str:
    return f"{'  ' * line.startswith('  ')}{one_line(line, 240)}"


def _size_line(path: str, now: int | None, then: int | None, *, compared: bool) -> str:
    if now is None:
        return f"{path} gone, was {then:,}"
    if not compared:
        return f"{path} {now:,}"
    if then is None:
        return f"{path} {now:,} new"
    return f"{path} {now:,} unchanged" if now == then else f"{path} {now:,} {now - then:+,}"


def log_text(build: int, piece: "LogSlice") -> str:
    """A slice of a log, and how to read on."""
    lines = [piece.text.rstrip("\n")] if piece.text else [f"nothing in the log of stage {piece.stage} here"]
    if piece.note:
        lines.append(f"[{piece.note}]")
    if piece.next_offset is not None:
        lines.append(f'[more: build_log({build}, "{piece.stage}", offset={piece.next_offset})]')
    return "\n".join(lines)


def doctor_report(checks: "Sequence[Check]") -> str:
    """Boards and ports, a line each; what is missing with the command that mends it; what else is fine in one line."""
    order = {"fail": 0, "warn": 1}
    bad = sorted((c for c in checks if c.status in order), key=lambda c: (c.about != "board", order[c.status]))
    good = [c for c in checks if c.status not in order]
    boards = [c for c in good if c.about == "board" and c.name != SERIAL_PORTS]
    others = [c for c in good if c not in boards]
    first = fit([one_line(f"{c.name}: {c.found}", 300) for c in boards], BOARDS_BYTES) + "\n" if boards else ""
    fine = one_line("fine: " + ", ".join(f"{c.name} {c.found}".strip() for c in others), FINE_BYTES) if others else ""
    stops = f" {parts.NO_IDF_BUILD}" if any(c.status == "fail" and c.about == "build" for c in bad) else ""
    lines = [f"{parts.plural(len(bad), 'problem')}:{stops}" if bad else "all is well"]
    for check in bad:
        warning = "warning: " if check.status == "warn" else ""
        lines.append(one_line(f"{warning}{check.name}: {check.found}", 300))
        if check.mend:
            lines.append(f"  mend: {one_line(check.mend, 300)}")
    return first + fit(lines, DOCTOR_BYTES - size(first) - size(fine) - 1) + (f"\n{fine}" if fine else "")


def _sizes(view: "BuildView") -> dict[str, int]:
    order = {kind: place for place, kind in enumerate(_MAIN_PARTS)}
    shown = [a for a in view.artifacts if a.kind in order or a.offset or a.path.endswith((".bin", ".elf"))]
    return {a.path: a.size for a in sorted(shown, key=lambda a: (order.get(a.kind, len(order)), a.path))}
