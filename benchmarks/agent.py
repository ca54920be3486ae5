"""What an agent's start costs as our job, beside the same agent driven by its SDK alone.

    python -m benchmarks.agent [--runs 7] [--only claude]

From the start of a process to the first word of the agent, the two in turn, in one folder, against one stand-in for the
Messages API on loopback that answers at once. An agent whose program or SDK is missing is left out. On a machine that
others use, too, the quickest of each say more than the medians.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mcp_server.agents.opencode_rules import RULES
from tests.support.opencode_client import MODEL, NOWHERE, OPENCODE, opencode_environment, opencode_settings
from tests.support.scripted_model import Say, ScriptedModel

LIMIT = 1.10
RUN_S = 120
PROMPT = "say a word"

CLAUDE = """
import asyncio, sys
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, StreamEvent

async def main():
    options = ClaudeAgentOptions(cwd=sys.argv[1], model="claude-opus-5", setting_sources=[], mcp_servers={},
        system_prompt={"type": "preset", "preset": "claude_code"}, strict_mcp_config=True,
        include_partial_messages=True)
    async with ClaudeSDKClient(options) as client:
        await client.query(sys.argv[2])
        async for message in client.receive_response():
            if isinstance(message, StreamEvent) and message.event.get("type") == "content_block_delta":
                print("| word", flush=True)
asyncio.run(main())
"""

ACP = """
import asyncio, os, sys
import acp

class Client:
    async def session_update(self, session_id, update, **_):
        if isinstance(update, acp.schema.AgentMessageChunk):
            print("| word", flush=True)

async def main():
    command = (sys.argv[3], "acp")
    async with acp.spawn_agent_process(Client(), *command, env=os.environ, cwd=sys.argv[1]) as (connection, _):
        await connection.initialize(protocol_version=acp.PROTOCOL_VERSION)
        session = await connection.new_session(cwd=sys.argv[1], mcp_servers=[])
        await connection.prompt(session_id=session.session_id, prompt=[acp.text_block(sys.argv[2])])
asyncio.run(main())
"""

ANTHROPIC = """
import asyncio, sys
from anthropic import AsyncAnthropic

async def main():
    async with AsyncAnthropic() as client:
        words = [{"role": "user", "content": sys.argv[2]}]
        async with client.messages.stream(model="claude-opus-5", max_tokens=1000, messages=words) as stream:
            async for text in stream.text_stream:
                print("| word", flush=True)
asyncio.run(main())
"""


@dataclass(frozen=True)
class Contest:
    """An agent: how our job is told of it, and the program that drives it alone, with its environment."""

    name: str
    agent: Mapping[str, object]
    model: str
    alone: str
    environment: Mapping[str, str]


def contests(place: Path, url: str) -> list[Contest]:
    """Those whose SDK and program are here."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    proxies = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
    api = {**kept, **proxies, "HOME": str(place), "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "no-key"}
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}
    found: list[Contest] = []
    if importlib.util.find_spec("claude_agent_sdk"):
        agent = {"name": "claude", "provider": "claude"}
        found.append(Contest("claude", agent, "claude-opus-5", CLAUDE, api | quiet))
    if OPENCODE and importlib.util.find_spec("acp"):
        agent = {"name": "opencode", "provider": "acp", "acp": [OPENCODE, "acp"]}
        rules = {"OPENCODE_PERMISSION": json.dumps(dict(RULES))}
        found.append(Contest("opencode", agent, MODEL, ACP, opencode_environment(place / "opencode") | rules))
    if importlib.util.find_spec("anthropic"):
        agent = {"name": "anthropic", "provider": "anthropic"}
        found.append(Contest("anthropic", agent, "claude-opus-5", ANTHROPIC, api))
    return found


async def first_word(argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> float:
    """Seconds from the start of a program to the agent's first word; it is waited for to its end."""
    began, took = time.monotonic(), 0.0
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(RUN_S):
        async for line in process.stdout:
            said += line
            if not took and line.startswith(b"| "):
                took = time.monotonic() - began
        await process.wait()
    assert took, said.decode()
    return took


async def compared(contest: Contest, place: Path, folder: Path, runs: int) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds of ours and of it alone; the first of each is for the disk, and not in them."""
    task = place / f"TASK-{contest.name}.json"
    request = {"prompt": PROMPT, "folder": str(folder), "model": contest.model}
    task.write_text(json.dumps({"agent": contest.agent, "request": request}))
    ours = (sys.executable, "-P", "-m", "mcp_server.agents.run", str(task))
    alone = (sys.executable, "-P", "-c", contest.alone, str(folder), PROMPT, OPENCODE)
    found: list[tuple[float, float]] = []
    for number in range(runs + 1):
        both = [alone, ours] if number % 2 else [ours, alone]
        took = {argv: await first_word(argv, contest.environment, folder) for argv in both}
        found.append((took[ours], took[alone]))
    return [first for first, _ in found[1:]], [second for _, second in found[1:]]


async def run(runs: int, only: str | None) -> bool:
    kept = True
    with tempfile.TemporaryDirectory(prefix="bo-agent-") as name, ScriptedModel([Say("hello")]) as model:
        place = Path(name)
        (folder := place / "project").mkdir()
        (folder / "opencode.json").write_text(opencode_settings(model))
        for contest in contests(place, model.url):
            if only in (None, contest.name):
                ours, alone = await compared(contest, place, folder, runs)
                ratio, quickest = median(ours) / median(alone), min(ours) / min(alone)
                kept &= ratio <= LIMIT
                print(
                    f"{contest.name}: first word after {median(ours):.2f} s, alone {median(alone):.2f} s = "
                    f"{ratio:.2f} × (limit {LIMIT:.2f} ×); "
                    f"the quickest {min(ours):.2f} s, {min(alone):.2f} s = {quickest:.2f} ×",
                    flush=True,
                )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", help="claude, opencode or anthropic")
    given = parser.parse_args()
    return 0 if asyncio.run(run(given.runs, given.only)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
