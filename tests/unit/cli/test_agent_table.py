"""`agents`: a table that keeps the command which brings what is missing."""

from mcp_server.agents.base import Availability, Capabilities
from mcp_server.agents.registry import AgentView
from mcp_server.cli.agent_table import agent_lines

MISSING = (
    "the claude-agent-sdk package is missing: /opt/tools/.venv/bin/python -m pip install 'build-orchestrator[agents]'"
)
VIEWS = [
    AgentView("claude", "claude", Availability(False, MISSING), Capabilities(), False),
    AgentView("opencode", "acp", Availability(True, "1.0.3"), Capabilities(), True),
]


def test_what_is_missing_is_whole_in_a_narrow_terminal() -> None:
    """Ours. The end of the sentence is what the command was started for."""
    narrow = [line.plain for line in agent_lines(VIEWS, 80)]
    piped = [line.plain for line in agent_lines(VIEWS, None)]

    assert all(len(line) <= 80 for line in narrow)
    assert " ".join(line.strip() for line in narrow[2:-2]) == MISSING
    assert narrow[-2].split() == ["opencode", "acp", "yes", "default"]
    assert narrow[-1] == "  1.0.3"
    assert len(piped) == 3 and piped[1].endswith(MISSING)
