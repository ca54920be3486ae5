"""Builds as JSON: the model's own keys, times in ISO 8601 with their zone, durations in seconds.

May import: model, expected, views. Never: store, engine, a front.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcp_server.model import Build, Project, Stage, StageStatus

if TYPE_CHECKING:
    from mcp_server.expected import Place
    from mcp_server.machines import HostView
    from mcp_server.views import BuildView
    from mcp_server.workflows import AgentView

# The plan is the engine's, the output is `logs`' business: 16 kB that no table needs.
LEFT_OUT = {"plan", "args_key", "build_output"}


def of_build(build: Build, project: Project | None = None, place: "Place | None" = None) -> dict[str, Any]:
    """One build's row, with its project's name and path, and its place in the queue where it waits."""
    row = build.model_dump(mode="json", exclude=LEFT_OUT)
    row["queue"] = of_place(place)
    if project is not None:
        row["project"] = {"name": project.name, "path": project.path}
    return row


def of_view(view: "BuildView") -> dict[str, Any]:
    """A build with everything that belongs to it; `verdict` is that of the stage that decided it."""
    decided = deciding(view)
    return {
        "build": of_build(view.build, place=view.queue),
        "project": view.project.model_dump(mode="json"),
        "stages": [row.model_dump(mode="json") for row in view.stages],
        "verdict": decided.verdict.model_dump(mode="json") if decided and decided.verdict else None,
        "artifacts": [artifact.model_dump(mode="json") for artifact in view.artifacts],
        "blocked_by": [lease.model_dump(mode="json") for lease in view.blocked_by],
        "idle": view.idle or None,
        "typical_s": view.typical_s,
        "elapsed_s": view.elapsed_s,
        "eta_s": view.eta_s,
    }


def of_builds(
    builds: Sequence[Build], projects: Mapping[str, Project], places: "Mapping[int, Place] | None" = None
) -> list[dict[str, Any]]:
    """Rows of several builds; `places` of those that wait."""
    known = places or {}
    return [of_build(build, projects.get(build.project_id), known.get(build.id)) for build in builds]


def of_place(place: "Place | None") -> dict[str, Any] | None:
    """A place in the queue; None where a build has none."""
    if place is None:
        return None
    return {**dataclasses.asdict(place), "expected_start": place.expected_start and place.expected_start.isoformat()}


def deciding(view: "BuildView") -> Stage | None:
    """The stage whose verdict is the build's: the first of its round that did not pass, else the last one.

    A fix is not a stage of the graph: it explains nothing about what is wrong, unless it was to come first and ended
    the build.
    """
    names = {stage.name for stage in view.build.plan.stages}
    rows = [
        row for row in view.stages if row.round == view.build.round and row.stage in names and not row.status.is_open
    ]
    newest = {row.stage: row for row in sorted(rows, key=lambda row: row.attempt)}
    bad = [row for row in newest.values() if row.status in (StageStatus.FAILED, StageStatus.CANCELLED)]
    ended = sorted(
        bad or newest.values(), key=lambda row: (row.ended_at is None, row.ended_at or view.build.created_at)
    )
    if not ended:
        fix = view.build.plan.fix
        fixes = [row for row in view.stages if fix and row.stage == fix.name and not row.status.is_open]
        return fixes[-1] if fixes and not view.build.status.is_open else None
    return ended[0] if bad else ended[-1]


def of_host(view: "HostView") -> dict[str, Any]:
    """A host: what config.yaml says without secrets, who holds what of it, its facts or why there are none."""
    server = view.server
    return {
        "name": view.name,
        "alias": server.alias,
        "tags": list(server.tags),
        "purpose": server.purpose,
        "build": server.build,
        "workdir": server.workdir,
        "slots": view.slots,
        "held": [lease.model_dump(mode="json") for lease in view.held],
        "boards": [lease.model_dump(mode="json") for lease in view.boards],
        "trouble": view.trouble or None,
        "facts": dataclasses.asdict(view.facts) if view.facts else None,
    }


def of_agent(view: "AgentView") -> dict[str, Any]:
    """A code agent: whether it can be used, its version or what is missing, and what it can."""
    return {
        "name": view.name,
        "provider": view.provider,
        "available": view.availability.available,
        "text": view.availability.text,
        "default": view.default,
        "capabilities": dataclasses.asdict(view.capabilities),
    }
