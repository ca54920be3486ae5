"""Agents that speak the Agent Client Protocol: OpenCode, Claude Code's adapter, and any other, by a command.

The agent edits with its own tools and asks before. One that does not ask is not held back by this: what it did to the
folder is seen by Git afterwards, what it did elsewhere is not.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mcp_server.agents.base import EXTRA, AgentRequest, AgentResult, Availability, Capabilities, Tell, Update
from mcp_server.agents.opencode_rules import OWN_FILES, RULES
from mcp_server.agents.own_files import OwnFiles
from mcp_server.agents.permission import Policy
from mcp_server.agents.task import AgentSettings
from mcp_server.text import one_line

if TYPE_CHECKING:
    from mcp_server.agents import acp_session

VERSION_S = 1.8
END_S = 1.0  # for the agent to leave by itself once its input is closed, and once more after TERM
LOOK_S = 0.02
LAST_S = 0.5
KEPT_STDERR = 4000
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_LOGINS = {  # program → variables by which it finds its own login or key; more belongs into config.yaml's `env`
    "opencode": ("OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR", "OPENCODE_API_KEY", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    "claude-agent-acp": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN"),
    "claude-code-acp": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN"),
}
_INSTALL = {
    "opencode": "npm install -g opencode-ai",
    "claude-agent-acp": "npm install -g @agentclientprotocol/claude-agent-acp",
}


class AcpAgent:
    """One command. Tokens and cost are what it tells, which with some is only the last answer's."""

    capabilities = Capabilities(resume=True)

    def __init__(self, settings: AgentSettings) -> None:
        self.name, self._command = settings.name, settings.acp
        self._program = Path(settings.acp[0]).name if settings.acp else ""
        self._is_opencode = any("opencode" in word for word in settings.acp)  # also by `npx opencode-ai acp`
        self.wants: tuple[str, ...] = next(
            (names for program, names in _LOGINS.items() if any(program in word for word in settings.acp)), ()
        )

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        program = shutil.which(self._command[0], path=environment.get("PATH"))
        if program is None:
            brings = _INSTALL.get(self._program, "install it, or set agents.NAME.acp to its command")
            return Availability(False, f"no program {self._command[0]} is there: {brings}")
        if importlib.util.find_spec("acp") is None:
            return Availability(False, f"needs the Agent Client Protocol's SDK: {EXTRA}")
        version = await _version(program, environment) if self._program == "opencode" else ""
        return Availability(True, f"{self._program} {version}".strip() if version else " ".join(self._command))

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        from mcp_server.agents import acp_session  # noqa: PLC0415  # the SDK takes half a second

        own = OwnFiles(Path(request.folder), OWN_FILES if self._is_opencode else ())
        client = acp_session.Client(Policy.of(request), tell, own)
        try:
            process = await self._started(request.folder, environment)
        except OSError as error:
            return AgentResult(stopped="error", text=f"{self._command[0]} cannot be run: {error.strerror or error}")
        try:
            return await self._talk(request, environment, process, client, tell)
        finally:
            await _end(process)
            if (sentence := own.put_back()) is not None:
                tell(Update(kind="note", text=sentence))

    async def _talk(
        self,
        request: AgentRequest,
        environment: Mapping[str, str],
        process: asyncio.subprocess.Process,
        client: "acp_session.Client",
        tell: Tell,
    ) -> AgentResult:
        from mcp_server.agents import acp_session  # noqa: PLC0415  # the SDK takes half a second

        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        said = asyncio.ensure_future(_last_of(process.stderr))
        pipe = acp_session.Pipe(process.stdout, process.stdin)
        try:
            return await acp_session.talk(request, pipe, client, tell)
        except Exception as error:
            await _end(process)
            await asyncio.wait([said], timeout=LAST_S)  # a child that left the group may keep it open
            last = said.result() if said.done() else ""
            why = self._why(error, pipe.trouble, last, process.returncode, environment)
            return AgentResult(stopped="error", text=why, usage=client.usage, denied=client.denied)
        finally:
            said.cancel()

    async def _started(self, folder: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        own: Mapping[str, str] = _for_opencode(environment) if self._is_opencode else dict[str, str]()
        return await asyncio.create_subprocess_exec(
            *self._command,
            cwd=folder,
            env={**environment, **own},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_MESSAGE_BYTES,
            process_group=0,  # ended as one, and still in the job's session
        )

    def _why(
        self, error: Exception, trouble: str, stderr: str, code: int | None, environment: Mapping[str, str]
    ) -> str:
        """One sentence of what went wrong, with the agent's own last words where they are all there is."""
        details = json.dumps(getattr(error, "data", None) or "", ensure_ascii=False)
        words = f"{error} {details} {stderr}"
        if "exited with code 1" in words and _is_root() and "IS_SANDBOX" not in environment:
            return (
                f"{self.name} does not run as root: if this machine may be harmed, set "
                f"agents.{self.name}.env: {{IS_SANDBOX: '1'}} in config.yaml, else run the worker as another user"
            )
        if getattr(error, "code", None) == -32000:
            return (
                f"{self.name} asks for a login first: run {self._command[0]} once and log in ({one_line(error, 120)})"
            )
        last = f"; it said last: {one_line(stderr[-600:], 600)}" if stderr.strip() else ""
        if isinstance(error, TimeoutError):
            return f"{self.name} did not begin in time{last}"
        if isinstance(error, ConnectionError):
            return f"{self.name} {trouble or f'ended in the middle (exit code {code})'}{last}"
        told = "" if details == '""' else f" {details}"
        return one_line(f"{self.name} answered with an error: {error}{told}", 600) + last


def _for_opencode(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Its settings as variables, which stand over those of the user and of the project."""
    try:
        given: object = json.loads(environment.get("OPENCODE_CONFIG_CONTENT") or "{}")
    except ValueError:
        given = {}
    settings = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    # Without it a refused request ends the whole prompt as if all was done.
    settings["experimental"] = {"continue_loop_on_deny": True}
    return {
        "OPENCODE_CONFIG_CONTENT": json.dumps(settings),
        "OPENCODE_PERMISSION": json.dumps(dict(RULES)),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
    }


def _is_root() -> bool:
    return os.geteuid() == 0


async def _version(program: str, environment: Mapping[str, str]) -> str:
    try:
        asked = await asyncio.create_subprocess_exec(
            *(program, "--version"),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            process_group=0,
        )
    except OSError:
        return ""
    assert asked.stdout is not None
    try:
        async with asyncio.timeout(VERSION_S):
            return one_line((await asked.stdout.read(200)).decode("utf-8", "replace"), 40)
    except TimeoutError:
        return ""
    finally:
        _signal(asked, signal.SIGKILL)
        await _ended(asked)


async def _last_of(stream: asyncio.StreamReader) -> str:
    """The end of what a stream says, until it is closed."""
    kept = b""
    while data := await stream.read(65_536):
        kept = (kept + data)[-KEPT_STDERR:]
    return kept.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the agent and what it started; in the end by force. Also where this is cancelled meanwhile."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        if not await _ended(process):
            _signal(process, signal.SIGTERM)
            await _ended(process)
    finally:
        _signal(process, signal.SIGKILL)
        await _ended(process)
        # A pipe that is not read to its end, or that a child far away still holds, would keep it open.
        cast("asyncio.SubprocessTransport", getattr(process, "_transport")).close()  # noqa: B009


async def _ended(process: asyncio.subprocess.Process) -> bool:
    """Whether it ends soon. Not by `wait()`, which waits also for every child that holds one of its pipes."""
    deadline = asyncio.get_running_loop().time() + END_S
    while process.returncode is None:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # its group has its pid; what it left there is ended, too
