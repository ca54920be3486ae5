"""One task of Claude Code: what it says and asks for, and how it ended."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mcp_server.agents.base import AgentRequest, AgentResult, Tell, Update, Usage
from mcp_server.agents.claude_rules import Rules
from mcp_server.agents.conversation import MAX_ANSWER_BYTES, Speaker
from mcp_server.text import clip, one_line

if TYPE_CHECKING:
    from claude_agent_sdk import (
        ClaudeAgentOptions,
        ClaudeSDKClient,
        PermissionResult,
        ResultMessage,
        ToolPermissionContext,
    )
    from claude_agent_sdk.types import HookContext, HookEvent, HookInput, HookJSONOutput, HookMatcher

_INTERRUPT_S = 1.5  # until the interrupted CLI has said its result; 15 ms is usual
_CLOSE_S = 1.5
_KILLED_S = 0.5
_RESULT_BYTES = 4000
_STDERR_BYTES = 2000
_UNKNOWN_SESSION = "No conversation found"


class Talk:
    """Answers the CLI's questions by the rules, tells what it does, keeps the limit on tokens."""

    def __init__(self, rules: Rules, request: AgentRequest, tell: Tell) -> None:
        self._rules, self._request, self._tell = rules, request, tell
        self._say = Speaker(tell)
        self._usage = Usage()
        self._before = Usage()  # what the answers before the one in the making used
        self._denied: set[str] = set()
        self._session: str | None = None
        self._stderr = ""
        self._left = MAX_ANSWER_BYTES
        self._limit: str | None = None

    def rules_in_words(self) -> str:
        """What the model is told beside the CLI's own prompt, so that it does not try in vain."""
        commands = "; ".join(self._rules.policy.commands) or "none"
        return (
            f"Only files in {self._rules.policy.folder} can be changed. The only commands that can be run, each as it "
            f"stands with arguments behind it and without shell operators, are: {commands}. What is refused stays "
            "refused: do not look for ways around it. Make the smallest change that does what is asked, and never "
            "weaken or delete a test. When you are done, say in two sentences what you changed and why."
        )

    async def run(self, options: "ClaudeAgentOptions", session: str | None) -> AgentResult:
        """To the end; a session that is not known here any more is begun anew."""
        from claude_agent_sdk import ClaudeSDKError  # noqa: PLC0415

        options.resume = session
        try:
            return await self._attended(options)
        except (ClaudeSDKError, OSError) as error:
            if session is not None and _UNKNOWN_SESSION in f"{error} {self._stderr}":
                self._say.note(f"session {session[:60]} is not known here any more: a new one is begun")
                return await self.run(options, None)
            return self._result("error", self._failed(error))
        finally:
            self._say.rest()

    async def _attended(self, options: "ClaudeAgentOptions") -> AgentResult:
        """Reads the CLI in a task of its own, which goes on while it is being interrupted."""
        from claude_agent_sdk import ClaudeSDKClient  # noqa: PLC0415

        client = ClaudeSDKClient(options)
        connecting = asyncio.create_task(client.connect())
        try:
            await asyncio.shield(connecting)
            reader = asyncio.create_task(self._read(client))
            try:
                return await asyncio.shield(reader)
            finally:
                if not reader.done():
                    await self._interrupted(client, reader)
        finally:
            await _closed(client, connecting)

    async def _interrupted(self, client: "ClaudeSDKClient", reader: "asyncio.Task[AgentResult]") -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_INTERRUPT_S):
                await client.interrupt()
                await asyncio.wait({reader})
        reader.cancel()
        await asyncio.wait({reader})

    async def _read(self, client: "ClaudeSDKClient") -> AgentResult:
        from claude_agent_sdk import (  # noqa: PLC0415
            AssistantMessage,
            ResultMessage,
            StreamEvent,
            SystemMessage,
            ToolUseBlock,
        )

        await client.query(self._request.prompt)
        interrupting: asyncio.Task[None] | None = None
        async for message in client.receive_response():
            match message:
                case SystemMessage(subtype="init"):
                    self._begun(message.data.get("session_id"))
                case StreamEvent():
                    self._heard(message.event)
                case AssistantMessage():
                    self._say.rest()
                    for block in message.content:
                        if isinstance(block, ToolUseBlock):
                            self._say.tool(block.name, block.input)
                case ResultMessage():
                    return self._ended(message)
                case _:
                    pass
            if self._limit is not None and interrupting is None:
                # In a task: its answer is read by this very loop.
                interrupting = asyncio.create_task(client.interrupt())
                interrupting.add_done_callback(_looked_at)
        return self._result("error", self._failed(None))

    def _begun(self, session: object) -> None:
        if isinstance(session, str) and session != self._session:
            self._session = session
            self._tell(Update(kind="session", text=session[:200]))

    def _heard(self, event: Mapping[str, Any]) -> None:
        """A piece of an answer as the API streams it."""
        kind = event.get("type")
        if kind == "message_start":
            self._before, self._left = self._usage, MAX_ANSWER_BYTES
            self._count(_part(_part(event, "message"), "usage"))
        elif kind == "message_delta":
            self._count(_part(event, "usage"))
        elif kind == "content_block_delta":
            delta = _part(event, "delta")
            said = [str(delta.get(name) or "") for name in ("text", "thinking", "partial_json")]
            self._left -= sum(map(len, said))
            self._say.piece(said[0])
            if self._left < 0:
                self._limit = f"one answer went on after {MAX_ANSWER_BYTES:,} letters"
        elif kind == "content_block_stop":
            self._say.rest()

    def _count(self, used: Mapping[str, Any]) -> None:
        before, now = self._before, self._usage
        read = _tokens(used, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        # The second count of an answer may leave out what it read.
        self._usage = Usage(
            turns=before.turns + 1,
            input_tokens=before.input_tokens + read if read else max(now.input_tokens, before.input_tokens),
            output_tokens=before.output_tokens + _tokens(used, "output_tokens"),
        )
        self._say.usage(self._usage)
        most, all_ = self._request.max_tokens, self._usage.input_tokens + self._usage.output_tokens
        if most is not None and all_ > most:
            self._limit = f"{most:,} tokens were allowed, {all_:,} are used"

    def _ended(self, message: "ResultMessage") -> AgentResult:
        self._begun(message.session_id)
        used = message.usage or {}
        read = _tokens(used, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        self._usage = Usage(
            turns=message.num_turns,
            input_tokens=max(read, self._usage.input_tokens),
            output_tokens=max(_tokens(used, "output_tokens"), self._usage.output_tokens),
            cost_usd=message.total_cost_usd,
        )
        self._say.usage(self._usage)
        said = message.result or "; ".join(message.errors or []) or ""
        if self._limit is not None:
            return self._result("limit", self._limit)
        if message.subtype == "error_max_turns":
            return self._result("limit", f"{self._request.max_turns} turns were allowed")
        if message.subtype == "error_max_budget_usd":
            return self._result("limit", f"${self._request.max_cost_usd:g} was allowed, {_money(message)} is spent")
        if message.is_error or message.subtype != "success":
            return self._result("error", one_line(said, 600) or f"it ended with {message.subtype}")
        return self._result("refused" if message.stop_reason == "refusal" else "end", said)

    def _failed(self, error: Exception | None) -> str:
        """One sentence of what the CLI said last."""
        said = one_line(self._stderr or error or "", 500)
        return f"Claude Code ended without a result{': ' if said else ''}{said}"

    def _result(self, stopped: Any, text: str) -> AgentResult:
        return AgentResult(
            stopped=stopped,
            text=clip(text, _RESULT_BYTES),
            session=self._session,
            usage=self._usage,
            denied=len(self._denied),
        )

    def stderr(self, line: str) -> None:
        """What the CLI complains of; the end of it is kept."""
        self._stderr = f"{self._stderr} {line}"[-_STDERR_BYTES:]

    def hooks(self) -> "dict[HookEvent, list[HookMatcher]]":
        """Every call is judged before it is made: what only reads would else not be asked for. Failing is a no."""
        from claude_agent_sdk.types import HookMatcher  # noqa: PLC0415

        return {"PreToolUse": [HookMatcher(hooks=[self._before_use], on_failure="block")]}

    async def may_use(self, tool: str, given: dict[str, Any], context: "ToolPermissionContext") -> "PermissionResult":
        """The CLI's own question, for what it would ask a person."""
        from claude_agent_sdk import PermissionResultAllow, PermissionResultDeny  # noqa: PLC0415

        if (why := self._judged(tool, given, context.tool_use_id)) is None:
            return PermissionResultAllow(updated_input=self._rules.changed(tool, given) or given)
        return PermissionResultDeny(message=why)

    async def _before_use(self, given: "HookInput", call: str | None, context: "HookContext") -> "HookJSONOutput":
        asked = cast("dict[str, Any]", given)
        tool, wanted = str(asked.get("tool_name")), dict(_part(asked, "tool_input"))
        decision: dict[str, Any] = {"hookEventName": "PreToolUse", "permissionDecision": "allow"}
        if (why := self._judged(tool, wanted, call)) is not None:
            decision |= {"permissionDecision": "deny", "permissionDecisionReason": why}
        elif (instead := self._rules.changed(tool, wanted)) is not None:
            decision["updatedInput"] = instead
        return cast("HookJSONOutput", {"hookSpecificOutput": decision})

    def _judged(self, tool: str, given: Mapping[str, object], call: str | None) -> str | None:
        """Why not, told and counted once a call though the CLI may ask twice."""
        why = self._rules.why_not(tool, given)
        name = call or f"{tool} {len(self._denied)}"
        if why is not None and name not in self._denied:
            self._denied.add(name)
            self._say.denied(f"{tool}: {why}")
        return why


async def _closed(client: "ClaudeSDKClient", connecting: "asyncio.Task[None]") -> None:
    """The end of the CLI: by itself in time, else by force. The SDK alone would take ten seconds for one that hangs."""
    # Not of the SDK's public face; without it the job's end takes the process.
    process = getattr(getattr(client, "_transport", None), "_process", None)
    closing = asyncio.create_task(_disconnected(client, connecting))
    done, _ = await asyncio.wait({closing}, timeout=_CLOSE_S)
    if done:
        return
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.wait({closing}, timeout=_KILLED_S)
    closing.cancel()


async def _disconnected(client: "ClaudeSDKClient", connecting: "asyncio.Task[None]") -> None:
    connecting.cancel()
    await asyncio.wait({connecting})
    with contextlib.suppress(Exception):
        await client.disconnect()


def _looked_at(task: "asyncio.Task[None]") -> None:
    """An interruption that fails is no news: the CLI is ended anyway."""
    if not task.cancelled():
        task.exception()


def _part(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _tokens(used: Mapping[str, Any], *names: str) -> int:
    return sum(value for name in names if isinstance(value := used.get(name), int))


def _money(message: "ResultMessage") -> str:
    return f"${message.total_cost_usd:.4g}" if message.total_cost_usd is not None else "more"
