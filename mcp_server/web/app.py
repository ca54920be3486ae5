"""The web app: routes behind the guard, errors as problems, the event feed for as long as it runs."""

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from fastapi import FastAPI

from mcp_server import __version__
from mcp_server.web import bots, builds, docs, live, machines, metrics, problems, projects
from mcp_server.web.feed import Feed
from mcp_server.web.guard import App, Guard

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

DESCRIPTION = (
    "Builds, their logs, verdicts and files. Send `Authorization: Bearer TOKEN`; "
    "`build-orchestrator tokens create NAME` makes one. Every error is problem+json with one sentence in `detail`."
)
ROUTERS = (
    builds.router,
    projects.router,
    bots.router,
    machines.router,
    live.router,
    metrics.router,
    docs.router,
)


def make_routes(orchestrator: "Orchestrator") -> FastAPI:
    """The app without its guard."""
    feed = Feed(orchestrator)

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncGenerator[None]:
        await feed.start()
        try:
            yield
        finally:
            await feed.aclose()

    app = FastAPI(
        title="build-orchestrator",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=running,
    )
    app.state.orchestrator, app.state.feed = orchestrator, feed
    for router in ROUTERS:
        app.include_router(router)
    problems.register(app)
    return app


def guarded(routes: FastAPI) -> App:
    """What a server runs."""
    orchestrator = cast("Orchestrator", routes.state.orchestrator)
    return Guard(routes, orchestrator.tokens, orchestrator.clock)
