"""/webhooks/github: whoever comes here proves himself by a signature of the body."""

import json
import re
from typing import Any, cast

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from mcp_server.web.context import Service
from mcp_server.web.problems import problem

router = APIRouter(tags=["webhooks"])
_DELIVERY = re.compile(r"[A-Za-z0-9-]{1,100}")


@router.post("/webhooks/github", status_code=202, response_model=None)
async def github(service: Service, request: Request) -> Response:
    """GitHub tells of a push: that commit is built, once for each delivery. `X-Hub-Signature-256` is checked.

    The secret, and which branches and paths count, are in config.yaml under `webhooks.github`.
    """
    body = await request.body()
    if not await service.webhooks.signed(body, request.headers.get("x-hub-signature-256", "")):
        return problem(401, "X-Hub-Signature-256 is not that of webhooks.github.secret in config.yaml")
    event, delivery = request.headers.get("x-github-event", ""), request.headers.get("x-github-delivery", "")
    if event == "ping":
        return JSONResponse({"said": "pong"})
    if event != "push":
        return JSONResponse({"said": "ignored: only pushes build"}, 202)
    if not _DELIVERY.fullmatch(delivery):
        return problem(400, "X-GitHub-Delivery should be the delivery's id")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        return problem(400, "the body should be a JSON object: choose application/json as the content type")
    said = await service.webhooks.pushed(delivery, cast("dict[str, Any]", payload), body)
    return JSONResponse({"said": said}, 202)
