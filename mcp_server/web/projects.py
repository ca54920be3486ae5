"""/api/projects: what is known, its figures, and builds of it."""

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request

from mcp_server import scopes
from mcp_server.build_trends import MOST_BUILDS
from mcp_server.model import Project
from mcp_server.web.builds import Limit, triggered
from mcp_server.web.context import Service, trigger_of
from mcp_server.web.shapes import ImportAsk, ImportedProject, RemoveAsk, Removed, SyncAsk, Trigger, Triggered
from mcp_server.web.trend_shapes import TrendsShape
from mcp_server.workflows import WorkflowAsk

router = APIRouter(prefix="/api/projects", tags=["projects"])
Name = Annotated[str, Path(description="A project's id or name.", max_length=300)]


@router.get("")
async def list_projects(service: Service, limit: Limit = 50, after: str | None = None) -> dict[str, Any]:
    """Projects by name; `next` as `after` brings those that follow, null at the end."""
    found = await service.projects.list(limit=limit + 1, after=after)
    return {"projects": found[:limit], "next": found[limit - 1].id if len(found) > limit else None}


@router.post("", status_code=202)
async def import_project(service: Service, request: Request, ask: ImportAsk) -> ImportedProject:
    """Make a folder of this machine or a Git repository a project; `build_id` is the build that clones it.

    It is `pending` until that is over, then `active`, or `error` with the `reason`. A known one is synced.
    """
    scopes.need("admin")
    made = await service.projects.import_(
        ask.source, ask.name, ask.target, ask.branch, public=True, triggered_by=trigger_of(request)
    )
    return ImportedProject(project=made.project, build_id=made.build)


@router.post("/{project}/sync", status_code=202)
async def sync_project(service: Service, request: Request, project: Name, ask: SyncAsk | None = None) -> Triggered:
    """Bring a clone to what its branch is at its origin, by fast-forward only; with `build`, build it then."""
    scopes.need("admin")
    started = await service.projects.sync(
        project, build=ask is not None and ask.build, public=True, triggered_by=trigger_of(request)
    )
    build = started.build
    return triggered(build.id, build.status, build.project_id, build.commit_sha)


@router.delete("/{project}")
async def remove_project(service: Service, project: Name, ask: RemoveAsk | None = None) -> Removed:
    """Forget a project. The records of its builds stay; its folder does, too, unless `delete` takes a clone away.

    409 with the type `urn:build-orchestrator:unpushed`: the clone holds commits that no remote-tracking branch has, or
    changes that are not committed, which `detail` names; nothing is removed then, unless `unpushed` is true.
    """
    scopes.need("admin")
    ask = ask or RemoveAsk()
    return Removed(removed=await service.projects.remove(project, delete=ask.delete, unpushed=ask.unpushed))


@router.get("/{project}")
async def get_project(service: Service, project: Name) -> Project:
    """One project."""
    return await service.find_project(project)


@router.get("/{project}/stats")
async def get_stats(service: Service, project: Name) -> dict[str, Any]:
    """Counts, success rate in percent, durations in seconds, and what builds failed of by first cause.

    `sizes`: bytes in flash and RAM and how full the app partition is, in percent, of the newest `build` that tells.
    """
    found = await service.stats(project)
    sizes = await service.figures.sizes(found.project_id or "")
    return {
        **dataclasses.asdict(found),
        "sizes": {"build": sizes[0], **dataclasses.asdict(sizes[1])} if sizes else None,
    }


@router.get("/{project}/trends")
async def get_trends(
    service: Service, project: Name, limit: Annotated[int, Query(ge=1, le=MOST_BUILDS)] = 50
) -> TrendsShape:
    """How long the newest builds that are over took, what they weigh and what their tests ran, the oldest first.

    With the files that take longest to compile, the tests that fail most often and the slowest ones.
    """
    return TrendsShape.of(await service.figures.trends(project, limit))


@router.post("/{project}/build", status_code=202)
async def trigger_build(service: Service, request: Request, project: Name, ask: Trigger | None = None) -> Triggered:
    """Run the whole workflow on a project: build, emulator, board where `flash` asks for it, checks.

    What is no ESP-IDF project is built by its own `.build-orchestrator.yaml`, without `flash` and `agent`.

    With `commit_sha` or `branch` in a checkout of its own, fetched from the origin where needed; the project's folder
    stays as it is. 409: the project is not active, its folder is gone, or it is no Git repository.
    """
    ask = ask or Trigger()
    started = await service.projects.build(
        WorkflowAsk(project, ask.target, ask.flash, ask.qemu, ask.agent, ask.max_rounds, expect=tuple(ask.expect)),
        commit=ask.commit_sha,
        branch=ask.branch,
        triggered_by=ask.trigger or trigger_of(request),
        priority=ask.priority,
    )
    build = started.build
    return triggered(build.id, build.status, build.project_id, build.commit_sha)
