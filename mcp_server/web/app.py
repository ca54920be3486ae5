"""The web app: routes behind the guard, errors as problems, the event feed for as long as it runs."""

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import Route

from mcp_server import __version__
from mcp_server.web import bots, builds, docs, linked, live, machines, metrics, problems, projects, queue, webhooks
from mcp_server.web.dashboard import files, login
from mcp_server.web.faults import Faults
from mcp_server.web.feed import Feed
from mcp_server.web.guard import Guard
from mcp_server.web.heads import Heads
from mcp_server.web.heavy import Heavy
from mcp_server.web.mcp import McpOverHttp
from mcp_server.web.sessions import Sessions

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

DESCRIPTION = (
    "Builds, their logs, verdicts and files. Send `Authorization: Bearer TOKEN`; "
    "`build-orchestrator tokens create NAME` makes one. Every error is problem+json with one sentence in `detail`."
)
ROUTERS = (
    builds.router,
    linked.router,
    projects.router,
    bots.router,
    queue.router,
    machines.router,
    live.router,
    metrics.router,
    webhooks.router,
    docs.router,
    files.router,
    login.router,
)


def make_app(orchestrator: "Orchestrator") -> tuple[Faults, FastAPI]:
    """What a server runs, and the routes behind its guard, whose state has the feed, and in `cause` why it failed."""
    routes = make_routes(orchestrator)
    tools: McpOverHttp = routes.state.tools
    sessions: Sessions = routes.state.sessions
    return Faults(Guard(Heads(tools), orchestrator.tokens, orchestrator.clock, sessions)), routes


def _methods_of(path: str) -> set[str]:
    """What can be done at an address, by any of the routes: the framework names those of the first one only."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]
    return {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}


@contextlib.asynccontextmanager
async def _running(app: FastAPI) -> AsyncGenerator[None]:
    """What works for the routes, from the first request to the last."""
    orchestrator: Orchestrator = app.state.orchestrator
    feed: Feed = app.state.feed
    tools: McpOverHttp = app.state.tools
    try:
        await feed.start()
    except Exception as error:
        app.state.cause = error
        raise
    resumes = orchestrator.config.webhooks.github is not None
    try:
        if resumes:
            orchestrator.webhooks.resume()
        orchestrator.schedules.start()
        async with tools.running():
            yield
    finally:
        if resumes:
            await orchestrator.webhooks.aclose()
        await orchestrator.schedules.aclose()
        await feed.aclose()


def make_routes(orchestrator: "Orchestrator") -> FastAPI:
    """The routes without guard and tools."""
    app = FastAPI(
        title="build-orchestrator",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=_running,
        responses=problems.RESPONSES,
    )
    app.state.orchestrator, app.state.feed = orchestrator, Feed(orchestrator)
    app.state.tools = McpOverHttp(app, orchestrator)
    app.state.sessions = Sessions(orchestrator.clock)
    app.state.heavy = Heavy(orchestrator.clock)
    for router in ROUTERS:
        app.include_router(router)
    app.state.methods_of = _methods_of
    problems.register(app)
    return app
