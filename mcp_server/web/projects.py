"""/api/projects: what is known, its figures, and builds of it."""

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request

from mcp_server.model import Project
from mcp_server.web.builds import Limit, triggered
from mcp_server.web.context import Service, need
from mcp_server.web.shapes import ImportAsk, ImportedProject, RemoveAsk, Removed, SyncAsk, Trigger, Triggered
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
    need(request, "admin")
    made = await service.projects.import_(
        ask.source, ask.name, ask.target, ask.branch, public=True, triggered_by="webhook"
    )
    return ImportedProject(project=made.project, build_id=made.build)


@router.post("/{project}/sync", status_code=202)
async def sync_project(service: Service, request: Request, project: Name, ask: SyncAsk | None = None) -> Triggered:
    """Bring a clone to what its branch is at its origin, by fast-forward only; with `build`, build it then."""
    need(request, "admin")
    started = await service.projects.sync(
        project, build=ask is not None and ask.build, public=True, triggered_by="webhook"
    )
    build = started.build
    return triggered(build.id, build.status, build.project_id, build.commit_sha)


@router.delete("/{project}")
async def remove_project(service: Service, request: Request, project: Name, ask: RemoveAsk | None = None) -> Removed:
    """Forget a project. The records of its builds stay; its folder does, too, unless `delete` takes a clone away."""
    need(request, "admin")
    return Removed(removed=await service.projects.remove(project, delete=ask is not None and ask.delete))


@router.get("/{project}")
async def get_project(service: Service, project: Name) -> Project:
    """One project."""
    return await service.find_project(project)


@router.get("/{project}/stats")
async def get_stats(service: Service, project: Name) -> dict[str, Any]:
    """Counts, success rate in percent, durations in seconds, and what builds failed of by first cause."""
    return dataclasses.asdict(await service.stats(project))


@router.post("/{project}/build", status_code=202)
async def trigger_build(service: Service, request: Request, project: Name, ask: Trigger | None = None) -> Triggered:
    """Run the whole workflow on a project: build, emulator, board where `flash` asks for it, checks.

    With `commit_sha` or `branch` in a checkout of its own, fetched from the origin where needed; the project's folder
    stays as it is. 409: the project is not active, its folder is gone, or it is no Git repository.
    """
    ask = ask or Trigger()
    if ask.flash:
        need(request, "flash")
    started = await service.projects.build(
        WorkflowAsk(project, ask.target, ask.flash, ask.qemu, ask.agent, ask.max_rounds),
        commit=ask.commit_sha,
        branch=ask.branch,
        triggered_by=ask.trigger,
        priority=ask.priority,
    )
    build = started.build
    return triggered(build.id, build.status, build.project_id, build.commit_sha)
