"""/files: one file of a build for whoever has a signed link to it; and how any file of a build is answered."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.requests import Request

from mcp_server.artifact_files import artifact_file
from mcp_server.errors import Elsewhere, NotFound
from mcp_server.file_links import PLACE
from mcp_server.views import BuildView
from mcp_server.web.context import Service
from mcp_server.web.file_answers import sent_file
from mcp_server.web.heavy import heavy_of
from mcp_server.web.shapes import LAST

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

router = APIRouter(tags=["builds"])

PRIVATE = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}
"""Nobody between keeps what a link gave, and no page is told the link."""


@router.get(f"{PLACE}{{build}}/{{path:path}}", response_class=FileResponse)
async def get_linked(
    service: Service,
    request: Request,
    build: Annotated[int, Path(ge=1, le=LAST)],
    path: str,
    expires: Annotated[int, Query(ge=0, le=LAST)],
    key: Annotated[str, Query(max_length=100)],
    signature: Annotated[str, Query(max_length=100)],
) -> Response:
    """A build's file by a link of `…/artifacts?link_s=…`; it needs no token. 403: it has ended or was revoked."""
    await service.kept.links.check(build, path, expires, key, signature)
    answer = await file_of_build(service, request, await service.get(build), path)
    answer.headers.update(PRIVATE)
    return answer


async def file_of_build(service: "Orchestrator", request: Request, view: BuildView, path: str) -> Response:
    """A file, from here or by a link to the object store. NotFound, ArchiveError: as `Kept.link`."""
    try:
        async with heavy_of(request).turn():
            found = await asyncio.to_thread(artifact_file, view, path)
    except NotFound:
        if (link := await service.kept.link(view, path)) is None:
            other = await service.kept.gone(view, path)
            if isinstance(other, Elsewhere):
                raise other from None
            raise
        return RedirectResponse(link, 307, headers={"Cache-Control": "no-store"})
    return await sent_file(found, request.headers.get("range", ""))
