"""/mcp: the tools of the plugin over HTTP, for clients on other machines; with sessions, and without where they can."""

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecuritySettings

from mcp_server.server import make_server
from mcp_server.web.guard import App, Message, Receive, Send

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

PATH = "/mcp"
IDLE_S = 1800
MOST_SESSIONS = 500


class McpOverHttp:
    """ASGI: what is for /mcp goes to the tools, everything else to `app`."""

    def __init__(self, app: App, orchestrator: "Orchestrator") -> None:
        async def opener() -> "Orchestrator":
            return orchestrator

        self._app = app
        self._tools = make_server(opener)
        self._mcp = self._tools.streamable_http_app(
            streamable_http_path=PATH,
            session_idle_timeout=IDLE_S,
            max_sessions=MOST_SESSIONS,
            # The guard has seen Host and Origin already, and knows more names of ours than the SDK.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )

    def end(self) -> None:
        """Let streams go that have no end of their own."""
        self._tools.end_streams()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Sessions live as long as this."""
        async with self._mcp.router.lifespan_context(self._mcp):
            yield

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        unfinished = False

        async def noted(message: Message) -> None:
            nonlocal unfinished
            unfinished = message["type"] == "http.response.start" or bool(message.get("more_body"))
            await send(message)

        await self._mcp(scope, receive, noted)
        if unfinished:  # a stream that ended because the service does
            await send({"type": "http.response.body", "body": b""})
