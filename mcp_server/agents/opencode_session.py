"""One prompt on an OpenCode server: its events, its questions, its end."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import httpx2

from mcp_server.agents.base import AgentRequest, AgentResult, Tell, Update, Usage
from mcp_server.agents.opencode_rules import RULES
from mcp_server.agents.own_files import OwnFiles
from mcp_server.agents.permission import Policy
from mcp_server.agents.pieces import Pieces
from mcp_server.agents.tool_request import ToolRequest
from mcp_server.text import one_line

SILENT_S = 20.0  # without an event that says something; heartbeats come each ten seconds and say nothing
KEPT = 1000

Data = Mapping[str, Any]
_KINDS = {
    **{"edit": "edit", "bash": "execute", "read": "read", "external_directory": "outside"},
    **dict.fromkeys(("glob", "grep", "list"), "search"),
    **dict.fromkeys(("todowrite", "todoread"), "think"),
}
_RULES = [{"permission": name, "pattern": "*", "action": action} for name, action in RULES.items()]


class Trouble(Exception):
    """The server does not do what was asked; the sentence says what."""


class Session:
    """A session on the server. `busy`: it may be working, so that it must be told to stop."""

    def __init__(self, http: httpx2.AsyncClient, policy: Policy, tell: Tell, own: OwnFiles) -> None:
        self._http, self._policy, self._tell, self._own, self._silent_s = http, policy, tell, own, SILENT_S
        self._pieces = Pieces(tell)
        self._events: asyncio.Queue[Data | None] = asyncio.Queue(KEPT)
        self._open = asyncio.Event()
        self._messages: dict[str, Usage] = {}
        self._users: set[str] = set()
        self._told: dict[str, None] = {}
        self.id: str | None = None
        self.busy = False
        self.usage = Usage()
        self.denied = 0
        self._error = ""
        self._before: set[str] = set()

    async def play(self, request: AgentRequest) -> AgentResult:
        """One prompt to its end. Raises Trouble, and what the HTTP client raises."""
        listening = asyncio.ensure_future(self._listen())
        try:
            await self._begin(request)
            opened = asyncio.ensure_future(self._open.wait())
            await asyncio.wait([opened, listening], timeout=self._silent_s, return_when=asyncio.FIRST_COMPLETED)
            opened.cancel()
            if listening.done():
                listening.result()
            body: dict[str, Any] = {"parts": [{"type": "text", "text": request.prompt}]}
            if request.model is not None:
                provider, _, model = request.model.partition("/")
                if not model:
                    raise Trouble(f"the model {request.model[:80]!r} should be named provider/model")
                body["model"] = {"providerID": provider, "modelID": model}
            self.busy = True
            await self._post(f"/session/{self.id}/prompt_async", body)
            return await self._until_idle()
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def abort(self) -> None:
        await self._post(f"/session/{self.id}/abort", {})

    async def _begin(self, request: AgentRequest) -> None:
        if request.session is not None:
            with suppress(httpx2.HTTPStatusError):
                self.id = (await self._get(f"/session/{request.session}"))["id"]
            if self.id is None:
                self._tell(Update(kind="note", text=f"session {request.session} is not there: a new one begins"))
            else:
                patch = await self._http.patch(f"/session/{self.id}", json={"permission": _RULES})
                patch.raise_for_status()
                await self._note_messages(before=True)
        if self.id is None:
            made = await self._post("/session", {"title": "build-orchestrator", "permission": _RULES})
            self.id = str(made["id"])
        self._tell(Update(kind="session", text=self.id))

    async def _listen(self) -> None:
        """Events into the queue, anew where the stream ends; None wakes who waits for them."""
        while True:
            timeout = httpx2.Timeout(10, read=None)
            async with self._http.stream("GET", "/event", timeout=timeout) as response:
                response.raise_for_status()
                self._open.set()
                async for event in httpx2.EventSource(response):
                    with suppress(ValueError, RecursionError):
                        data = json.loads(event.data)
                        if isinstance(data, dict) and _session_of(cast("Data", data)) == self.id:
                            await self._events.put(cast("Data", data))
            await self._events.put(None)
            await asyncio.sleep(1)

    async def _until_idle(self) -> AgentResult:
        seen_busy = False
        while True:
            event: Data | None = None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._silent_s):
                    event = await self._events.get()
            if event is None:  # silent, or the stream was cut: what was missed is asked for
                await self._answer_open_requests()
                if await self._is_idle():
                    return await self._over()
                continue
            properties = cast("Data", event.get("properties") or {})
            match event["type"]:
                case "session.status":
                    seen_busy |= properties.get("status", {}).get("type") != "idle"
                case "session.error":
                    self._error = _words(properties.get("error"))
                case "permission.asked":
                    await self._answer(properties)
                case "session.idle" if seen_busy:
                    return await self._over()
                case kind:
                    self._progress(kind, properties)

    def _progress(self, kind: str, properties: Data) -> None:
        if kind == "message.updated":
            self._message(cast("Data", properties.get("info") or {}))
        elif kind == "message.part.delta" and properties.get("field") == "text":
            if properties.get("partID") not in self._told:
                self._pieces.add(str(properties.get("delta", "")), str(properties.get("partID", "")))
        elif kind == "message.part.updated":
            self._part(cast("Data", properties.get("part") or {}))

    def _part(self, part: Data) -> None:
        if part.get("type") == "reasoning" and len(self._told) < KEPT:
            self._told[str(part.get("id"))] = None  # its pieces are thoughts, not words
        if part.get("type") != "tool":
            return
        state = cast("Data", part.get("state") or {})
        status, key = state.get("status"), f"{part.get('callID')} {state.get('status') == 'error'}"
        if status in ("running", "completed", "error") and key not in self._told and len(self._told) < KEPT:
            self._told[key] = None
            call = ToolRequest()
            call.note(_KINDS.get(str(part.get("tool")), str(part.get("tool"))), None, state.get("input"))
            self._pieces.end()
            failed = f": failed, {one_line(state.get('error'), 200)}" if status == "error" else ""
            self._tell(Update(kind="tool", text=f"{call}{failed}"))

    def _message(self, info: Data) -> None:
        """What an answer of the model cost; told again and again while it grows, and never for those before."""
        name = str(info.get("id"))
        if info.get("role") != "assistant" or name in self._before:
            return
        tokens = cast("Data", info.get("tokens") or {})
        cache = cast("Data", tokens.get("cache") or {})
        self._messages[name] = Usage(
            turns=1,
            input_tokens=_count(tokens.get("input")) + _count(cache.get("read")) + _count(cache.get("write")),
            output_tokens=_count(tokens.get("output")) + _count(tokens.get("reasoning")),
            cost_usd=float(info.get("cost") or 0),
        )
        used = list(self._messages.values())
        usage = Usage(
            turns=len(used),
            input_tokens=sum(one.input_tokens for one in used),
            output_tokens=sum(one.output_tokens for one in used),
            cost_usd=sum(one.cost_usd or 0 for one in used),
        )
        if usage != self.usage:
            self.usage = usage
            self._tell(Update(kind="usage", usage=usage))

    async def _answer(self, asked: Data) -> None:
        call = ToolRequest()
        metadata = dict(cast("Data", asked.get("metadata") or {}))
        call.note(_KINDS.get(str(asked.get("permission")), str(asked.get("permission"))), None, metadata)
        patterns = [str(pattern) for pattern in cast("Sequence[object]", asked.get("patterns") or ())]
        if call.kind == "execute" and not call.commands:
            call.commands.update(dict.fromkeys(patterns))
        elif call.kind != "execute" and not call.paths:
            call.paths.update(dict.fromkeys(patterns))
        why = call.refused(self._policy)
        self._pieces.end()
        body = {"reply": "once"}
        if why is not None:
            self.denied += 1
            self._tell(Update(kind="denied", text=f"{call}: {why}"))
            body = {"reply": "reject", "message": why}  # with a message the model goes on, without one all ends
        else:
            self._own.edited(call.changes)
        answer = await self._http.post(f"/permission/{asked.get('id')}/reply", json=body)
        if answer.status_code != 404:  # answered meanwhile
            answer.raise_for_status()

    async def _answer_open_requests(self) -> None:
        for asked in await self._get("/permission"):
            if asked.get("sessionID") == self.id:
                await self._answer(asked)

    async def _is_idle(self) -> bool:
        status = (await self._get("/session/status")).get(self.id)
        return status is None or status.get("type") == "idle"

    async def _over(self) -> AgentResult:
        self.busy = False
        self._pieces.end()
        last = await self._note_messages()
        if self._error:
            return self.result("error", self._error)
        return self.result("end", last)

    def result(self, stopped: str, text: str) -> AgentResult:
        """How it ended, with what is known of it."""
        found = {"stopped": stopped, "text": text, "session": self.id, "denied": self.denied}
        return AgentResult.model_validate(found | {"usage": self.usage})

    async def _note_messages(self, *, before: bool = False) -> str:
        """All messages as they stand, for what no event told; the last one's text."""
        text = ""
        for message in await self._get(f"/session/{self.id}/message"):
            info = message.get("info", {})
            if before:
                self._before.add(str(info.get("id")))
            self._message(info)
            if info.get("role") == "assistant":
                text = "".join(str(part.get("text", "")) for part in message["parts"] if part.get("type") == "text")
                self._error = self._error or ("" if before else _words(info.get("error")))
        return text.strip()[-500:]

    async def _get(self, path: str) -> Any:
        return _body(await self._http.get(path))

    async def _post(self, path: str, body: Data) -> Any:
        return _body(await self._http.post(path, json=body))


def _body(response: httpx2.Response) -> Any:
    if response.status_code == 400:
        raise Trouble(f"the OpenCode server refused the request: {one_line(response.text, 300)}")
    response.raise_for_status()
    try:
        return response.json() if response.content else None
    except ValueError:
        raise Trouble(
            f"{response.url.copy_with(query=None)} answered with no JSON: is it an OpenCode server?"
        ) from None


def _session_of(event: Data) -> object:
    properties = cast("Data", event.get("properties") or {})
    for inner in (properties, properties.get("info"), properties.get("part")):
        if isinstance(inner, dict) and "sessionID" in inner:
            return cast("Data", inner)["sessionID"]
    return None


def _words(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    given = cast("Data", error)
    data = cast("Data", given.get("data") or {})
    return one_line(f"OpenCode: {data.get('message') or given.get('name') or 'an error without a name'}", 600)


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0
