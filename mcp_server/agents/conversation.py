"""A task as a conversation with a model over the Messages API: it answers, its tools are used, until it is done.

Every request carries the whole conversation and all tools. The SDK's own tool runner would leave both out after the
first turn and have the server keep them, which compatible servers do not.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mcp_server.agents import api_errors
from mcp_server.agents.base import AgentRequest, AgentResult, Tell, Update, Usage
from mcp_server.agents.folder_tools import FolderTools
from mcp_server.agents.prices import DEAREST, Tokens, price_of
from mcp_server.text import clip, one_line

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message, MessageParam

MAX_CONTEXT_TOKENS = 180_000  # of one request; what is longer is dear, and beyond the smaller models
MAX_ANSWER_BYTES = 1_000_000  # a server that ignores max_tokens is hung up on
_RESULT_BYTES = 4000
_CUTS = 3  # answers that reach max_tokens before the task is given up
_ATTEMPTS = 3  # of one answer that breaks off in its middle
_AGAIN_S = 1.0

SYSTEM = """\
You mend and write code in one project folder, with the tools given and nothing else. Only files inside the folder can
be changed, and only the listed commands can be run; what is refused stays refused, so do not try ways around it.
Look before you change, make the smallest change that does what is asked, and never weaken or delete a test.
When you are done, say in two sentences what you changed and why."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a model is served. `priced`: it costs money, at the list prices where they are known."""

    base_url: str
    key: str
    model: str
    max_tokens: int
    priced: bool = True
    caches: bool = True


class _Limit(Exception):
    """A budget is used up; the message says which."""


class Conversation:
    """One task from its prompt to its result; `client` is closed by whoever made it."""

    def __init__(
        self, client: "AsyncAnthropic", server: Server, tools: FolderTools, request: AgentRequest, tell: Tell
    ) -> None:
        self._client, self._server, self._tools, self._request = client, server, tools, request
        self._definitions = tools.definitions()
        self._messages: list[dict[str, Any]] = [{"role": "user", "content": [_text(request.prompt)]}]
        self._say = Speaker(tell)
        self._usage, self._spent = Usage(cost_usd=0.0 if server.priced else None), 0.0
        self._context = self._cuts = self._denied = 0

    async def run(self) -> AgentResult:
        """Until the model is done, a budget is used up or the server fails. Never raises but when cancelled."""
        try:
            while True:
                self._within_budgets()
                message = await self._answered()
                if (end := await self._continued(message)) is not None:
                    return end
        except _Limit as limit:
            return self._result("limit", str(limit))
        except Exception as error:
            server = self._server
            said = api_errors.sentence(error, base_url=server.base_url, model=server.model, key=server.key)
            return self._result("error", said)
        finally:
            self._say.rest()

    def _within_budgets(self) -> None:
        request, usage = self._request, self._usage
        if request.max_turns is not None and usage.turns >= request.max_turns:
            raise _Limit(f"{usage.turns} turns were allowed")
        used = usage.input_tokens + usage.output_tokens
        if request.max_tokens is not None and used >= request.max_tokens:
            raise _Limit(f"{request.max_tokens:,} tokens were allowed, {used:,} are used")
        if request.max_cost_usd is not None and self._spent >= request.max_cost_usd:
            guess = "" if usage.cost_usd is not None else " by the dearest known price, as this model's is not known"
            raise _Limit(f"${request.max_cost_usd:g} was allowed, ${self._spent:.4g} is spent{guess}")
        if self._context > MAX_CONTEXT_TOKENS:
            raise _Limit(f"the conversation has {self._context:,} tokens: at most {MAX_CONTEXT_TOKENS:,} are sent")
        if self._cuts > _CUTS:
            raise _Limit(f"{self._cuts} answers were cut at {self._server.max_tokens:,} tokens")

    async def _answered(self) -> "Message":
        """The next answer, asked for again where it breaks off; those tokens count too."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._streamed()
            except Exception as error:
                if attempt == _ATTEMPTS or not api_errors.passes(error):
                    raise
                self._say.note("the answer broke off; it is asked for again")
                await asyncio.sleep(_AGAIN_S * attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _streamed(self) -> "Message":
        left = MAX_ANSWER_BYTES
        before, spent = self._usage, self._spent
        async with self._client.messages.stream(
            model=self._server.model,
            max_tokens=self._room(),
            system=[{"type": "text", "text": SYSTEM}],
            tools=cast(Any, self._definitions),
            messages=cast("list[MessageParam]", self._sent()),
        ) as stream:
            async for event in stream:
                if event.type == "content_block_delta":
                    delta = event.delta
                    left -= sum(len(getattr(delta, kind, "") or "") for kind in ("text", "thinking", "partial_json"))
                    if left < 0:
                        raise _Limit(f"one answer went on after {MAX_ANSWER_BYTES:,} letters")
                    if delta.type == "text_delta":
                        self._say.piece(delta.text)
                elif event.type == "content_block_stop":
                    self._say.rest()
                elif event.type in ("message_start", "message_delta"):
                    self._count(before, spent, stream.current_message_snapshot)
            return await stream.get_final_message()

    def _room(self) -> int:
        """Tokens that an answer may have."""
        if self._request.max_tokens is None:
            return self._server.max_tokens
        used = self._usage.input_tokens + self._usage.output_tokens
        return max(1, min(self._server.max_tokens, self._request.max_tokens - used))

    def _sent(self) -> list[dict[str, Any]]:
        """The conversation; its last block marked, so that the server keeps all before it for the next request."""
        *earlier, last = self._messages
        if not self._server.caches or last["role"] != "user":
            return self._messages
        *blocks, block = last["content"]
        return [*earlier, {**last, "content": [*blocks, {**block, "cache_control": {"type": "ephemeral"}}]}]

    def _count(self, before: Usage, spent: float, message: "Message") -> None:
        told = message.usage
        tokens = Tokens(
            fresh=told.input_tokens or 0,
            stored=told.cache_creation_input_tokens or 0,
            cached=told.cache_read_input_tokens or 0,
            output=told.output_tokens or 0,
        )
        price = price_of(self._server.model, tokens) if self._server.priced else None
        if self._server.priced:
            self._spent = spent + (price or DEAREST).of(tokens)
        known = price is not None and before.cost_usd is not None
        self._usage = Usage(
            turns=before.turns + 1,
            input_tokens=before.input_tokens + tokens.input,
            output_tokens=before.output_tokens + tokens.output,
            cost_usd=round(self._spent, 8) if known else None,
        )
        self._context = tokens.input + tokens.output
        self._say.usage(self._usage)

    async def _continued(self, message: "Message") -> AgentResult | None:
        """The result if this answer is the last; else what is said next has joined the conversation."""
        said = "\n".join(block.text for block in message.content if block.type == "text")
        calls = [block for block in message.content if block.type == "tool_use"]
        match message.stop_reason:
            case "refusal":
                return self._result("refused", said or "the model refuses this task")
            case "model_context_window_exceeded":
                raise _Limit("the conversation is longer than this model can read")
            case "max_tokens":
                self._cuts += 1
                cut = f"your answer was cut at {self._server.max_tokens:,} tokens: go on in smaller steps"
                answers = [_tool_result(call.id, cut, error=True) for call in calls] or [_text(cut)]
            case "pause_turn":
                answers = []
            case _ if not calls:
                return self._result("end", said)
            case _:
                answers = [await self._used(call.id, call.name, call.input) for call in calls]
        if not message.content:
            raise _Limit("the model answered with nothing")
        self._messages.append(cast("dict[str, Any]", message.to_param()))
        if answers:
            self._messages.append({"role": "user", "content": answers})
        return None

    async def _used(self, call: str, name: str, given: object) -> dict[str, Any]:
        self._say.tool(name, given)
        answer = await self._tools.call(name, given)
        if answer.denied:
            self._denied += 1
            self._say.denied(answer.text)
        return _tool_result(call, answer.text or "nothing was printed", error=answer.error)

    def _result(self, stopped: Any, text: str) -> AgentResult:
        return AgentResult(stopped=stopped, text=clip(text, _RESULT_BYTES), usage=self._usage, denied=self._denied)


class Speaker:
    """Tells what a model says line by line, not letter by letter, and what it does."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._held = tell, ""

    def piece(self, text: str) -> None:
        """Some letters; whole lines are told, and a line that does not end in pieces of 1,000."""
        *lines, self._held = (self._held + text).split("\n")
        for line in lines:
            self._lines(line)
        if len(self._held) > 1000:
            self.rest()

    def rest(self) -> None:
        """The line that is open."""
        held, self._held = self._held, ""
        self._lines(held)

    def tool(self, name: str, given: object) -> None:
        """`str_replace_based_edit_tool str_replace main/main.c`."""
        words = " ".join(_shown(cast("dict[str, object]", given))) if isinstance(given, dict) else ""
        self._tell(Update(kind="tool", text=one_line(f"{name} {words}", 300)))

    def denied(self, why: str) -> None:
        """A request that the policy refused."""
        self._tell(Update(kind="denied", text=one_line(why, 500)))

    def note(self, text: str) -> None:
        """Something of ours that a reader should know."""
        self._tell(Update(kind="note", text=one_line(text, 500)))

    def usage(self, usage: Usage) -> None:
        """What was used so far."""
        self._tell(Update(kind="usage", usage=usage))

    def _lines(self, line: str) -> None:
        for at in range(0, len(line), 1000):
            if piece := line[at : at + 1000].strip():
                self._tell(Update(kind="text", text=piece))


def _shown(given: dict[str, object]) -> Iterator[str]:
    for name in ("command", "path", "file_path", "pattern", "notebook_path"):
        if isinstance(value := given.get(name), str):
            yield value


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _tool_result(call: str, text: str, *, error: bool) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": text, "is_error": error}
