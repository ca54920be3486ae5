"""The service without a socket: requests go straight into the app, from whatever address a test says."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from mcp_server.clock import Clock
from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from mcp_server.web.app import make_app
from mcp_server.web.guard import App, Guard
from tests.support.postgres import given_database

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Service:
    """A running service and what is behind it."""

    orchestrator: Orchestrator
    routes: Any
    app: App
    guarded: Guard

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        client: str = LOOPBACK,
        host: str = "localhost:8000",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Response:
        """One request."""
        given = {"Host": host, **(headers or {})}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        transport = httpx2.ASGITransport(app=self.app, client=(client, 50_000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            return await http.request(method, path, headers=given, **more)


@contextlib.asynccontextmanager
async def web_service(clock: Clock | None = None, **environment: str) -> AsyncGenerator[Service]:
    """A service over this test's home."""
    orchestrator = Orchestrator(load_config(), clock=clock, environment={**given_database(), **environment})
    app, routes = make_app(orchestrator)
    assert isinstance(app._app, Guard)  # pyright: ignore[reportPrivateUsage]
    ready, over = asyncio.Event(), asyncio.Event()

    async def run() -> None:  # a task of its own: a fixture's beginning and end are two
        async with routes.router.lifespan_context(routes):
            ready.set()
            await over.wait()

    running = asyncio.create_task(run())
    try:
        await ready.wait()
        yield Service(orchestrator, routes, app, app._app)  # pyright: ignore[reportPrivateUsage]
    finally:
        over.set()
        await running
        await orchestrator.aclose()
