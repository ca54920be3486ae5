"""Whether the `claude` agent can be used: its SDK, its CLI, and which version that is."""

import importlib.util
import os
import time
from pathlib import Path

import pytest

from mcp_server.agents.claude import ClaudeAgent
from tests.acceptance.agents.test_claude_agent import KEY, Given, agent

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("claude_agent_sdk") is None, reason="claude-agent-sdk is not installed"
)


async def test_availability_says_what_is_missing(tmp_path: Path) -> None:
    """Ours. Key or login; a login is only looked for."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    without = await agent().availability(environment)
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").write_text("{}")
    within = await agent().availability(environment)

    assert (without.available, within.available) == (False, True)
    assert "log in" in without.text
    assert within.text.startswith("Claude Code 2.")


@pytest.mark.parametrize(
    ("prints", "version"), [("echo '2.0.9 (Claude Code)'", "2.0.9"), ("exec sleep 1000", "of unknown version")]
)
async def test_version_of_an_installed_cli_is_asked_for_in_time(tmp_path: Path, prints: str, version: str) -> None:
    """Ours. A stand-in for the CLI."""
    cli = tmp_path / "claude"
    cli.write_text(f"#!/bin/sh\n{prints}\n")
    cli.chmod(0o755)
    begun = time.monotonic()
    found = await ClaudeAgent(Given(), cli=str(cli)).availability({"ANTHROPIC_API_KEY": KEY})

    assert found.text.startswith(f"Claude Code {version}, SDK ")
    assert time.monotonic() - begun < 4
