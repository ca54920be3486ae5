"""/api/queue: who waits, in which order, and until when; /api/schedules: what comes round by the clock."""

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Query

from mcp_server.web.builds import Limit
from mcp_server.web.context import Service
from mcp_server.web.shapes import LAST, QueuedBuild, QueuePage, ScheduleRow

router = APIRouter(prefix="/api", tags=["queue"])


@router.get("/queue")
async def get_queue(
    service: Service,
    limit: Limit = 50,
    after: Annotated[int, Query(ge=0, le=LAST, description="`next` of the page before: a position.")] = 0,
) -> QueuePage:
    """Pending builds in the order in which they will be taken, each with what it waits for and when it will begin."""
    await service.refresh()
    seen = await service.queue.picture()
    first = min(after, len(seen.places))
    page = list(seen.places.items())[first : first + limit]
    rows = [
        QueuedBuild(
            build=number,
            project_id=seen.rows[number].project,
            project=seen.rows[number].project_name,
            priority=seen.rows[number].priority,
            **dataclasses.asdict(place),
        )
        for number, place in page
    ]
    last = first + len(rows)
    return QueuePage(
        builds=seen.limits.builds or 0,
        per_project=seen.limits.per_project,
        running=seen.running,
        pending=len(seen.places),
        queue=rows,
        next=last if last < len(seen.places) else None,
    )


@router.get("/schedules")
async def list_schedules(service: Service) -> list[ScheduleRow]:
    """The schedules of config.yaml, by name."""
    return [
        ScheduleRow(
            name=one.name,
            project=one.schedule.project,
            cron=one.schedule.cron,
            timezone=one.schedule.timezone,
            branch=one.schedule.branch,
            next=one.next,
            last_build=one.last and one.last.id,
            last_status=one.last and one.last.status,
            last_at=one.last and one.last.created_at,
            problem=one.problem,
        )
        for one in await service.schedules.list()
    ]
