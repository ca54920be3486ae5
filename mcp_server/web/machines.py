"""/api/hosts, /api/workers, /api/agents, /api/pipelines, /api/stats."""

import dataclasses
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from mcp_server import record, report_plan, scopes
from mcp_server.web.builds import triggered
from mcp_server.web.context import Service
from mcp_server.web.shapes import PipelineAsk, WorkerList, WorkerRow

router = APIRouter(prefix="/api", tags=["hosts, agents, pipelines"])


@router.get("/hosts")
async def list_hosts(service: Service, name: str | None = None, check: bool = True) -> list[dict[str, Any]]:
    """The hosts: reachable or why not, load, disk, slots and who holds them."""
    return [record.of_host(view) for view in await service.look_at_hosts(name, check=check)]


@router.get("/workers")
async def list_workers(service: Service) -> WorkerList:
    """The workers, also those not heard of any more; `text` says in a sentence what is to be known of them."""
    found = await service.crew()
    return WorkerList(text=found.text, workers=[WorkerRow(**dataclasses.asdict(one)) for one in found.workers])


@router.get("/agents")
async def list_agents(service: Service) -> list[dict[str, Any]]:
    """The code agents: which can be used, and what the others lack."""
    return [record.of_agent(view) for view in await service.workflows.agents()]


@router.get("/stats")
async def get_stats(service: Service) -> dict[str, Any]:
    """Figures over all projects."""
    return dataclasses.asdict(await service.stats())


@router.post("/pipelines", status_code=202)
async def run_pipeline(service: Service, ask: PipelineAsk) -> dict[str, Any]:
    """Run a YAML pipeline in a known project's folder; with `dry_run` only check and show it.

    Its commands run as the service's own user: this needs a token that may do everything.
    """
    scopes.need("admin")
    pipeline = await service.read_pipeline(text=ask.yaml, params=ask.params)
    folder = Path((await service.find_project(ask.project)).path)
    if ask.dry_run:
        usual = await service.projects.usual_durations(folder, pipeline.name)
        return report_plan.record(pipeline, service.machines.hosts, usual, service.config)
    build = (await service.start_pipeline(pipeline, folder, triggered_by="api", agreed=True)).build
    return triggered(build.id, build.status, build.project_id, build.commit_sha).model_dump(mode="json")
