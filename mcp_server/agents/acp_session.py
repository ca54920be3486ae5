"""One task of an agent that speaks the Agent Client Protocol, over its pipes. Imports the protocol's SDK."""

import asyncio
import contextlib
import json
from typing import Any, cast

import acp
from acp import schema
from acp.client.connection import ClientSideConnection

from mcp_server.agents.base import AgentRequest, AgentResult, Tell, Update, Usage
from mcp_server.agents.own_files import OwnFiles
from mcp_server.agents.permission import Policy
from mcp_server.agents.pieces import Pieces
from mcp_server.agents.tool_request import ToolRequest
from mcp_server.text import one_line

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
BEGIN_S = 120.0  # until there is a session; a first start may have to load the agent
CANCELLED_S = 1.5
KEPT_CALLS = 1000

STOPS = {"end_turn": "end", "max_tokens": "limit", "max_turn_requests": "limit", "refusal": "refused"}
_LIMITS = {"max_tokens": "the agent's own limit of tokens", "max_turn_requests": "the agent's own limit of turns"}


class Pipe:
    """Messages of bounded size, a line each. `trouble` says why there are no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.trouble = ""

    async def send(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                self.trouble = f"it sent a message of more than {MAX_MESSAGE_BYTES:,} bytes"
                return None
            except (asyncio.IncompleteReadError, OSError):
                return None
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(message := json.loads(line), dict):
                    return cast("dict[str, Any]", message)

    async def close(self) -> None:
        self._writer.close()


class Client:
    """Our side: answers what the agent asks, and tells what it does. Files it reads and writes by itself."""

    def __init__(self, policy: Policy, tell: Tell, own: OwnFiles) -> None:
        self._policy, self._tell, self._own = policy, tell, own
        self._pieces = Pieces(tell)
        self._calls: dict[str, ToolRequest] = {}
        self.usage = Usage()
        self.denied = 0
        self.listening = False
        """Not while an old session is loaded, which tells all of it again."""
        self._in_turn = False

    @property
    def last_words(self) -> str:
        return self._pieces.last.strip()

    async def request_permission(
        self, session_id: str, tool_call: schema.ToolCallUpdate, options: list[schema.PermissionOption], **_: Any
    ) -> schema.RequestPermissionResponse:
        call = self._call(tool_call)
        self._pieces.end()
        why = call.refused(self._policy)
        if why is None:
            self._own.edited(call.changes)
            self._say(call)
        else:
            self.denied += 1
            call.told = True
            self._tell(Update(kind="denied", text=f"{call}: {why}"))
        wanted = ("allow_once",) if why is None else ("reject_once", "reject_always")
        chosen = next((option for kind in wanted for option in options if option.kind == kind), None)
        if chosen is None:  # never an "always": what it would let through later, nobody has seen
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        outcome = schema.AllowedOutcome(outcome="selected", option_id=chosen.option_id)
        return schema.RequestPermissionResponse(outcome=outcome)

    async def session_update(self, session_id: str, update: object, **_: Any) -> None:
        if not self.listening:
            return
        match update:
            case schema.AgentMessageChunk(content=schema.TextContentBlock(text=text)):
                self._turn()
                self._pieces.add(text, getattr(update, "message_id", None) or "")
            case schema.AgentThoughtChunk():
                self._turn()
            case schema.ToolCallStart() | schema.ToolCallProgress():
                self._pieces.end()
                if isinstance(update, schema.ToolCallStart):
                    self._turn()
                self._tool(update)
            case schema.UsageUpdate():
                cost = update.cost.amount if update.cost and update.cost.currency == "USD" else self.usage.cost_usd
                tokens = max(self.usage.input_tokens, update.used)
                self._use(self.usage.model_copy(update={"input_tokens": tokens, "cost_usd": cost}))
            case _:
                pass

    def finish(self, usage: schema.Usage | None) -> None:
        """The end of the prompt, with what the agent counted itself."""
        self._pieces.end()
        if usage is not None:
            cached = (usage.cached_read_tokens or 0) + (usage.cached_write_tokens or 0)
            tokens = max(self.usage.input_tokens, usage.input_tokens + cached)
            self._use(self.usage.model_copy(update={"input_tokens": tokens, "output_tokens": usage.output_tokens}))

    def _tool(self, update: schema.ToolCallStart | schema.ToolCallProgress) -> None:
        call = self._call(update)
        if update.status in ("in_progress", "completed", "failed"):
            self._say(call)
        if update.status in ("completed", "failed"):
            self._in_turn = False
            self._calls.pop(update.tool_call_id, None)
        if update.status == "failed":
            self._tell(Update(kind="tool", text=f"{call}: failed"))

    def _call(self, update: schema.ToolCall | schema.ToolCallUpdate) -> ToolRequest:
        if len(self._calls) >= KEPT_CALLS:
            self._calls.pop(next(iter(self._calls)))
        call = self._calls.setdefault(update.tool_call_id, ToolRequest())
        call.note(update.kind, update.title, update.raw_input)
        for location in update.locations or ():
            call.path(location.path)
        for content in update.content or ():
            if isinstance(content, schema.FileEditToolCallContent):
                call.path(content.path)
        return call

    def _say(self, call: ToolRequest) -> None:
        if not call.told:
            call.told = True
            self._tell(Update(kind="tool", text=str(call)))

    def _turn(self) -> None:
        """The protocol knows no turns of a model: one begins with the first thing it says after a tool's end."""
        if not self._in_turn:
            self._in_turn = True
            self._use(self.usage.model_copy(update={"turns": self.usage.turns + 1}))

    def _use(self, usage: Usage) -> None:
        if usage != self.usage:
            self.usage = usage
            self._tell(Update(kind="usage", usage=usage))


async def talk(request: AgentRequest, pipe: Pipe, client: Client, tell: Tell) -> AgentResult:
    """One prompt to its end. Cancelled, it tells the agent so and waits a moment. Raises what the SDK raises."""
    connection = acp.connect_to_agent(cast("acp.Client", client), pipe)
    try:
        async with asyncio.timeout(BEGIN_S):
            session = await _session(connection, request, tell)
        tell(Update(kind="session", text=session))
        client.listening = True
        words = [acp.text_block(request.prompt)]
        asked = asyncio.ensure_future(connection.prompt(session_id=session, prompt=list(words)))
        try:
            answer = await asyncio.shield(asked)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CANCELLED_S):
                    await connection.cancel(session_id=session)
                    await asyncio.wait([asked])
            raise
        finally:
            asked.cancel()
        client.finish(answer.usage)
        stopped = STOPS.get(answer.stop_reason, "cancelled")
        said = _LIMITS.get(answer.stop_reason)
        text = f"{said} was used up" if said else client.last_words
        found = {"stopped": stopped, "text": text, "session": session, "denied": client.denied}
        return AgentResult.model_validate(found | {"usage": client.usage})
    finally:
        await connection.close()


async def _session(connection: ClientSideConnection, request: AgentRequest, tell: Tell) -> str:
    """A session in the folder: the one that is to be continued where the agent can, else a new one."""
    # No file or terminal access is offered: the agent's own tools are the ones that it asks permission for, and a
    # second way to the same files would need the same guard again.
    hello = await connection.initialize(protocol_version=acp.PROTOCOL_VERSION)
    can = hello.agent_capabilities or schema.AgentCapabilities()
    options: object = None
    session = request.session
    if session is not None:
        try:
            if can.session_capabilities and can.session_capabilities.resume is not None:
                resumed = await connection.resume_session(session_id=session, cwd=request.folder, mcp_servers=[])
                options = resumed.config_options
            elif can.load_session:
                loaded = await connection.load_session(cwd=request.folder, session_id=session, mcp_servers=[])
                options = loaded.config_options
            else:
                session = None
        except acp.RequestError as error:
            tell(Update(kind="note", text=f"session {session} cannot be continued: {one_line(error, 200)}"))
            session = None
        else:
            if session is None:
                tell(Update(kind="note", text="this agent cannot continue a session: a new one begins"))
    if session is None:
        made = await connection.new_session(cwd=request.folder, mcp_servers=[])
        session, options = made.session_id, made.config_options
    if request.model is not None:
        await _choose(connection, session, request.model, options, tell)
    return session


async def _choose(connection: ClientSideConnection, session: str, model: str, options: object, tell: Tell) -> None:
    """Set the model where the agent lets its client choose one."""
    listed = cast("list[object]", options) if isinstance(options, list) else []
    selects = [option for option in listed if isinstance(option, schema.SessionConfigOptionSelect)]
    choice = next((option for option in selects if "model" in (option.category, option.id)), None)
    if choice is None:
        tell(Update(kind="note", text=f"this agent lets nobody choose the model: {model} is not set"))
    elif choice.current_value != model:
        await connection.set_config_option(config_id=choice.id, session_id=session, value=model)
