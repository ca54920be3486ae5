"""HEAD, answered as GET without its body, as HTTP says; but for what has no end."""

from mcp_server.web.guard import App, Message, Receive, Send

HEAD = "build_orchestrator.asked"
"""In a scope that says GET: the method that came, where an answer can spare itself work by it."""

NOT = ("/mcp", "/api/events")


class Heads:
    """ASGI before the routes."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"] in NOT:
            await self._app(scope, receive, send)
            return
        over = False

        async def without_body(message: Message) -> None:
            nonlocal over
            if message["type"] == "http.response.body" and not over:
                over = True
                await send({"type": "http.response.body", "body": b""})
            elif message["type"] != "http.response.body":
                await send(message)

        await self._app({**scope, "method": "GET", HEAD: "HEAD"}, receive, without_body)
