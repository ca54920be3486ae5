"""/api/projects: what is known, its figures, and builds of it."""

import asyncio
import dataclasses
from pathlib import Path as Folder
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request

from mcp_server.errors import Conflict
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

    409: the project is not active, or its folder is gone.
    """
    ask = ask or Trigger()
    if ask.flash:
        need(request, "flash")
    found = await service.find_project(project)
    await asyncio.to_thread(check_active, found)
    started = await service.workflows.run(
        WorkflowAsk(
            found.path,
            target=ask.target or found.target,
            flash=ask.flash,
            qemu=ask.qemu,
            agent=ask.agent,
            max_rounds=ask.max_rounds,
        ),
        triggered_by=ask.trigger,
        agreed=True,
    )
    build = started.build
    return triggered(build.id, build.status, build.project_id, build.commit_sha)


def check_active(project: Project) -> None:
    """Conflict: the project cannot be built now. Reads."""
    if project.status != "active":
        raise Conflict(f"Project status is {project.status!r}, must be 'active'")
    if not Folder(project.path).is_dir():
        raise Conflict(f"the folder of project {project.name} is gone: {project.path}")
