"""Outermost: an error that nothing foresaw is a problem for who asked and a line in the log, never a traceback."""

import asyncio
import contextlib
import logging

from mcp_server.errors import OrchestratorError
from mcp_server.web.guard import App, Message, Receive, Send
from mcp_server.web.problems import FULL, of_fault, problem, takes_answer

log = logging.getLogger(__name__)

INTERNAL = 1011  # a WebSocket's close


class Faults:
    """ASGI around the guard and all behind it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._ending = False

    def end(self) -> None:
        """The service stops: who is not answered in time is told so."""
        self._ending = True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if not self._ending or scope["type"] != "http" or begun:
                raise
            await problem(503, "the service is stopping: ask again when it is back")(scope, receive, send)
        except Exception as error:
            if scope["type"] not in ("http", "websocket"):
                raise  # of the lifespan: whoever serves is told
            _tell(scope, error)
            if scope["type"] == "websocket" and (begun or not takes_answer(scope)):
                with contextlib.suppress(Exception):  # it may be closed already
                    await send({"type": "websocket.close", "code": INTERNAL, "reason": "internal error"})
            elif not begun:
                await of_fault(error)(scope, receive, send)


def _tell(scope: Message, error: Exception) -> None:
    """One line; the traceback only of what is nobody's fault but ours."""
    what = f"{scope.get('method', 'GET')} {scope['path']}"
    if isinstance(error, OrchestratorError) or (isinstance(error, OSError) and error.errno in FULL):
        log.warning("%r: %s", what, error)
    else:
        log.error("%r: internal error: %s", what, type(error).__name__, exc_info=error)
