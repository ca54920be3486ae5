"""Claude Code by its agent SDK: the CLI works, our policy answers each of its calls, and it keeps turns and money.

Never the SDK's `query()`: cancelling that waits five seconds for the CLI. A client is interrupted first, and is read
on meanwhile, as the answer to the interruption comes behind all that was said before it.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path

from mcp_server.agents.anthropic_api import Settings
from mcp_server.agents.base import EXTRA, AgentRequest, AgentResult, Availability, Capabilities, Tell
from mcp_server.agents.claude_rules import KEYS, NEVER, rules_of
from mcp_server.agents.claude_talk import Talk
from mcp_server.agents.permission import Policy
from mcp_server.text import one_line

_VERSION_S = 1.5
_KEPT = frozenset({"BO_JOB"})  # the job's own mark, by which its end finds every process of it
_QUIET: Mapping[str, str] = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "ENABLE_TOOL_SEARCH": "false",  # a tool that finds tools, of which there are none
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
}
_MAX_LINE_BYTES = 16 * 1024 * 1024  # of the CLI's own messages: a file that it read is in one of them


class ClaudeAgent:
    """The user's Claude Code, by its key or login. `read`: folders beside the task's in which files may be read.

    `cli`: another program than the SDK's own or the `claude` on the PATH.
    """

    wants: tuple[str, ...] = (*KEYS, "ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR")
    capabilities = Capabilities(resume=True, cost=True, turns=True, money=True)

    def __init__(self, settings: Settings, *, read: Sequence[str] = (), cli: str | None = None) -> None:
        self.name, self._model, self._url = settings.name, settings.model, settings.url
        self._read, self._cli = tuple(read), cli

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        """The CLI's version, or what is missing: SDK, CLI, key or login. No key is read, only looked for."""
        if not util.find_spec("claude_agent_sdk"):
            return Availability(False, f"the claude-agent-sdk package is missing: {EXTRA}")
        if (cli := self._found(environment)) is None:
            return Availability(
                False, "no `claude` program: install Claude Code, npm install -g @anthropic-ai/claude-code"
            )
        if not (any(environment.get(name) for name in KEYS) or _logged_in(environment)):
            return Availability(False, "no login: run `claude` once and log in, or set ANTHROPIC_API_KEY")
        return Availability(True, f"Claude Code {await _version(cli)}, SDK {metadata.version('claude-agent-sdk')}")

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        """One prompt to its end; cancelling interrupts the CLI first, then ends it."""
        if not util.find_spec("claude_agent_sdk"):
            return AgentResult(stopped="error", text=f"the claude-agent-sdk package is missing: {EXTRA}")
        if (cli := self._found(environment)) is None:
            return AgentResult(stopped="error", text="there is no `claude` program: install Claude Code")
        from claude_agent_sdk import ClaudeAgentOptions  # noqa: PLC0415  # 0.6 s, and an extra

        rules = rules_of(Policy.of(request), self._read)
        talk = Talk(rules, request, tell)
        options = ClaudeAgentOptions(
            cwd=request.folder,
            cli_path=cli,
            env=self._environment(environment),
            model=request.model or self._model,
            tools=rules.offered(),
            disallowed_tools=list(NEVER),
            permission_mode="default",
            can_use_tool=talk.may_use,
            hooks=talk.hooks(),
            setting_sources=[],
            mcp_servers={},
            strict_mcp_config=True,
            add_dirs=list(self._read),
            system_prompt={"type": "preset", "preset": "claude_code", "append": talk.rules_in_words()},
            max_turns=request.max_turns,
            max_budget_usd=request.max_cost_usd,
            include_partial_messages=True,
            max_buffer_size=_MAX_LINE_BYTES,
            stderr=talk.stderr,
        )
        return await talk.run(options, request.session)

    def _found(self, environment: Mapping[str, str]) -> str | None:
        if self._cli is not None:
            return self._cli if os.access(self._cli, os.X_OK) else None
        bundled = _bundled()
        return str(bundled) if bundled is not None else shutil.which("claude", path=environment.get("PATH"))

    def _environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """What the CLI is given. The SDK adds this process' own environment, so that is emptied name by name."""
        emptied = {name: "" for name in os.environ if name not in given and name not in _KEPT}
        server = {"ANTHROPIC_BASE_URL": self._url} if self._url else {}
        return {**emptied, **_QUIET, **given, **server}


def _bundled() -> Path | None:
    """The program that the SDK's wheel brings, found without importing the SDK."""
    spec = util.find_spec("claude_agent_sdk")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder, "_bundled", "claude")
        if os.access(program, os.X_OK):
            return program
    return None


def _logged_in(environment: Mapping[str, str]) -> bool:
    home = environment.get("HOME") or "~"
    folder = Path(environment.get("CLAUDE_CONFIG_DIR") or f"{home}/.claude").expanduser()
    if (folder / ".credentials.json").exists():
        return True
    # macOS keeps the login in its keychain; that there is one is not asked, as it would ask the user.
    return sys.platform == "darwin" and Path(home, ".claude.json").expanduser().exists()


async def _version(cli: str) -> str:
    """As the wheel notes it, or as the program says in time."""
    noted = Path(cli).with_name("claude.version")
    if noted.is_file():
        return one_line(noted.read_text(errors="replace").split("(")[0], 40)
    process = await asyncio.create_subprocess_exec(
        cli,
        "--version",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_VERSION_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return "of unknown version"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return one_line(said.decode("utf-8", "replace").split("(")[0], 40) or "of unknown version"
