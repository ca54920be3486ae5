"""/api/builds: list, look, log, files, cancel, retry."""

import contextlib
import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse, Response
from starlette.requests import Request

from mcp_server import record, report
from mcp_server.compared import compared
from mcp_server.file_links import MOST_S
from mcp_server.logs import LogSlice
from mcp_server.model import BuildStatus
from mcp_server.text import clip
from mcp_server.views import BuildView
from mcp_server.web.context import Service, who_of
from mcp_server.web.feed import encode
from mcp_server.web.heavy import heavy_of
from mcp_server.web.linked import file_of_build
from mcp_server.web.shapes import (
    LAST,
    MOST_PROMPT_BYTES,
    MOST_ROWS,
    BuildPage,
    BuildRow,
    BuildWhole,
    Compared,
    RetryAsk,
    Triggered,
)
from mcp_server.web.trend_shapes import compile_of, coverage_of
from mcp_server.workflows import wish_of

router = APIRouter(prefix="/api/builds", tags=["builds"])

MOST_LOG_BYTES = 1_000_000
_NUMBER = {"pattern": "^([1-9][0-9]{0,17}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$", "examples": ["42"]}
Number = Annotated[
    str, Path(description="A build's number, or its task's UUID.", max_length=64, json_schema_extra=_NUMBER)
]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]


@router.get("")
async def list_builds(
    service: Service,
    status: BuildStatus | None = None,
    project: Annotated[str | None, Query(max_length=4096, description="Its id, name or path.")] = None,
    limit: Limit = 50,
    after: Annotated[int | None, Query(ge=1, le=LAST, description="`next` of the page before.")] = None,
) -> BuildPage:
    """Builds, the newest first."""
    found = await service.list(project=project, status=status, limit=limit + 1, below=after)
    projects = await service.projects_of(found)
    places = await service.queue.of(found)
    rows = [BuildRow.of(build, projects.get(build.project_id), places.get(build.id)) for build in found[:limit]]
    return BuildPage(builds=rows, next=rows[-1].id if len(found) > limit else None)


@router.get("/{build}")
async def get_build(service: Service, build: Number) -> BuildWhole:
    """A build with its stages, what it left and what it came to."""
    return whole(await service.get(build))


@router.get("/{build}/compare")
async def compare_build(
    service: Service, build: Number, to: Annotated[str, Query(max_length=64, description="The other build.")]
) -> Compared:
    """What a build left and weighs against another, from what is recorded: neither's files need be there any more."""
    return Compared(**compared(await service.get(build), await service.get(to)))


@router.post("/{build}/retry", status_code=202)
async def retry_build(service: Service, build: Number, ask: RetryAsk | None = None) -> Triggered:
    """Start a failed or cancelled build again, as a new build with `retry_of`. 409: it is neither."""
    started = await service.retry(build, failed_only=ask is None or ask.failed_only, agreed=True)
    return triggered(started.build.id, started.build.status, started.build.project_id, started.build.commit_sha)


@router.post("/{build}/cancel", status_code=202)
async def cancel_build(
    service: Service,
    build: Number,
    force: Annotated[bool, Query(description="Do not wait for the machine of its jobs, if that is away.")] = False,
) -> Triggered:
    """Ask for a build's end; its jobs are gone within two seconds. 409: it is over.

    Jobs on a machine that is away are ended when it is back, unless `force` lets the build end without them.
    """
    row = (await service.cancel(build, force=force)).build
    return triggered(row.id, row.status, row.project_id, row.commit_sha)


@router.get("/{build}/events")
async def list_events(service: Service, build: Number, limit: Limit = MOST_ROWS) -> list[dict[str, Any]]:
    """The newest events of a build, the oldest of them first, as `/ws` told them."""
    return [json.loads(encode(event).text) for event in await service.newest_events(build, limit)]


@router.get("/{build}/log/{stage}", response_class=Response)
async def get_log(
    service: Service,
    request: Request,
    build: Number,
    stage: Annotated[str, Path(max_length=300, description="`build`, or `build:1.2` for round 1, attempt 2.")],
    grep: Annotated[str | None, Query(max_length=1000)] = None,
    around: Annotated[int | None, Query(ge=1, le=LAST)] = None,
    tail: Annotated[int | None, Query(ge=1, le=LAST)] = None,
    offset: Annotated[int | None, Query(ge=0, le=LAST)] = None,
    line: Annotated[int | None, Query(ge=1, le=LAST, description="From this line on.")] = None,
    before: Annotated[int | None, Query(ge=0, le=LAST, description="Whole lines up to this byte, or the end.")] = None,
    whole: Annotated[
        bool, Query(description="With `offset`: end behind a line. An unfinished one comes again.")
    ] = False,
    max_bytes: Annotated[int, Query(ge=1, le=MOST_LOG_BYTES)] = 100_000,
) -> Response:
    """A slice of a stage's log as text: its end, or by one of grep, around, tail, offset, line and before.

    The header `X-Next-Offset` is the `offset` that goes on where this slice ends, where there is more;
    `X-Start-Offset` and `X-End-Offset` of a slice by bytes or line are where it begins and ended, also at the log's end
    as it is now. With `grep`, `X-Log-Matches` lines of `X-Log-Lines` match, as many of them as fit are in the answer.
    """
    slow = grep is not None or around is not None or line is not None
    async with heavy_of(request).turn() if slow else contextlib.nullcontext():
        piece = await service.log(
            build,
            stage,
            grep=grep,
            around=around,
            tail=tail,
            offset=offset,
            line=line,
            before=before,
            whole=whole,
            max_bytes=max_bytes,
        )
    return Response(piece.text, media_type="text/plain; charset=utf-8", headers=_told(piece))


def _told(piece: LogSlice) -> dict[str, str]:
    headers = {"X-Content-Type-Options": "nosniff", "X-Log-Stage": quote(piece.stage)}
    numbers = {
        "X-Next-Offset": piece.next_offset,
        "X-Start-Offset": piece.start_offset,
        "X-End-Offset": piece.end_offset,
        "X-Log-Matches": piece.matches,
        "X-Log-Lines": piece.lines,
    }
    headers |= {name: str(number) for name, number in numbers.items() if number is not None}
    if piece.note:
        headers["X-Log-Note"] = quote(piece.note)
    return headers


@router.get("/{build}/artifacts")
async def list_artifacts(
    service: Service,
    request: Request,
    build: Number,
    link_s: Annotated[
        int | None, Query(ge=1, le=MOST_S, description="With it each file has a link that needs no token so long.")
    ] = None,
) -> list[dict[str, object]]:
    """What the build left: paths, sizes in bytes, SHA-256, flash addresses; on request `url`, and when that ends."""
    view = await service.get(build)
    rows = [artifact.model_dump(mode="json") for artifact in view.artifacts]
    if link_s is None:
        return rows
    paths = [artifact.path for artifact in view.artifacts]
    links, expires = await service.kept.links.make(view, paths, who_of(request).at, link_s)
    return [{**row, "url": url, "url_expires_at": expires} for row, url in zip(rows, links, strict=True)]


@router.get("/{build}/artifacts/{path:path}", response_class=FileResponse)
async def get_artifact(service: Service, request: Request, build: Number, path: str) -> Response:
    """One of these files, as it was recorded. 307: it is in the object store only. 404: it is gone, or was changed."""
    return await file_of_build(service, request, await service.get(build), path)


def whole(view: BuildView) -> BuildWhole:
    """A build with all that belongs to it."""
    told = record.of_view(view)
    decided = record.deciding(view)
    specs = view.build.plan.stages
    return BuildWhole(
        **BuildRow.of(view.build, view.project, view.queue).model_dump(),
        build_output=view.build.build_output,
        prompt=clip(wish_of(view.build.plan), MOST_PROMPT_BYTES) or None,
        verdict=report.build_report(view),
        decided_by=f"{decided.stage}:{decided.round}.{decided.attempt}" if decided else None,
        graph=[
            {
                "stage": one.name,
                "depends_on": list(one.depends_on),
                "role": one.role,
                "once": one.once,
                "allow_failure": one.allow_failure,
            }
            for one in specs
        ],
        stages=told["stages"],
        artifacts=told["artifacts"],
        compile=compile_of(view.stages),
        coverage=coverage_of(view.stages),
        blocked_by=told["blocked_by"],
        idle=told["idle"],
        elapsed_s=view.elapsed_s,
        eta_s=view.eta_s,
    )


def triggered(number: int, status: BuildStatus, project_id: str, commit_sha: str) -> Triggered:
    """What whoever starts or ends a build is answered."""
    return Triggered(build_id=number, status=status, project_id=project_id, commit_sha=commit_sha)
