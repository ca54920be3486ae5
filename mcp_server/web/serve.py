"""One process that serves the web app until a signal ends it."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING

import uvicorn
from sse_starlette.sse import AppStatus

from mcp_server import process_log
from mcp_server.clock import Clock
from mcp_server.errors import BadInput, Conflict, OrchestratorError
from mcp_server.heaps import keep_giving_back, steady_heaps
from mcp_server.loading import calm_collector
from mcp_server.log_masking import Masking
from mcp_server.text import one_line
from mcp_server.web.app import make_app
from mcp_server.web.connections import MOST_CONNECTIONS, Curt, Impatient
from mcp_server.web.faults import Faults
from mcp_server.web.feed import Feed
from mcp_server.web.guard import is_loopback
from mcp_server.web.mcp import McpOverHttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server.orchestrator import Orchestrator

LOG = "serve"
STOP_S = 5  # for requests that are being answered when the end is asked for
DEAF_S = 60  # a connection that could not be written to for so long is over
WS_BYTES = 65_536  # of one message of a client; none says anything that matters


class _Server(uvicorn.Server):
    """One whose signals are ours: uvicorn raises a signal that it caught once more at its end."""

    def __init__(self, config: uvicorn.Config, ready: "Callable[[], None]") -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it is open once it is; whoever serves looks at `started`."""
        try:
            await super().startup(sockets=sockets)
        except SystemExit:  # its way of saying that the application did not start
            self.should_exit = True
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def serve(orchestrator: "Orchestrator", host: str, port: int, say: "Callable[[str], None]") -> int:
    """Serve until SIGINT or SIGTERM. `say`: where it listens, once it does.

    BadInput: it would be open to others without a token. Conflict: the port is taken, or it could not be started.
    """
    process_log.configure(
        LOG,
        orchestrator.environment,
        unseen=("uvicorn", "websockets", "asyncio", "mcp"),
        json_lines=orchestrator.config.log_format == "json",
        mask=Masking(orchestrator.config, orchestrator.environment).text,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of whatever clients get wrong
    await orchestrator.store()
    orchestrator.tokens.check_fixed()
    closed = await orchestrator.tokens.any()
    if not closed and not is_loopback(host):
        raise BadInput("host", f"{host[:60]} is open to others: first `build-orchestrator tokens create NAME`")
    listening = _listen(host, port)
    app, routes = make_app(orchestrator)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=STOP_S,
        ws_max_size=WS_BYTES,
        http=Impatient,
        ws=Curt,
    )
    open_to = "whoever has a token" if closed else "every user of this machine, as there is no token"
    # The unknown are no reason to stay away: they may be imported over the service.
    said = [f"{_address(listening)} is open to {open_to}; API: /api/docs", *await orchestrator.schedules.unknown()]
    server = _Server(config, lambda: say("\n".join(said)))
    streaming = (routes.state.feed, routes.state.tools, app)
    steady_heaps()
    calm_collector()
    with contextlib.closing(listening):
        await _until_signal(server, listening, streaming, orchestrator.clock)
    if not server.started:
        raise _not_started(orchestrator, getattr(routes.state, "cause", None))
    return 0


def _not_started(orchestrator: "Orchestrator", cause: BaseException | None) -> OrchestratorError:
    if isinstance(cause, OrchestratorError):
        return cause
    log = process_log.log_file(orchestrator.environment)
    why = str(cause) if isinstance(cause, OSError) else f"see {log}"
    return Conflict(f"the service could not be started: {one_line(why, 300)}")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=256)
    except socket.gaierror:
        raise BadInput("host", f"{host[:60]!r} is no address of this machine") from None
    except OSError as error:
        raise Conflict(f"port {port} of {host[:60]} cannot be had: {error.strerror}; another one: --port") from None
    listening.set_inheritable(False)
    # Its connections inherit it. asyncio sets it only where a socket says that it is of TCP, which this one does not,
    # and without it an answer's body waits 40 ms for the client to acknowledge its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # What is written to a client that takes nothing would hold its connection for ever. Linux alone ends such ones.
    if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, DEAF_S * 1000)
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _until_signal(
    server: uvicorn.Server, listening: socket.socket, streaming: tuple[Feed, McpOverHttp, Faults], clock: Clock
) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True
        for one in streaming:
            one.end()
        AppStatus.should_exit = True  # MCP sessions' streams, which would be waited for

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    giving_back = asyncio.create_task(keep_giving_back(clock))
    try:
        await server.serve(sockets=[listening])
    finally:
        giving_back.cancel()
        await asyncio.wait({giving_back})
        AppStatus.should_exit = False
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
