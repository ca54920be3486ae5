"""tools/list as clients get it: recorded, lean, and the same in both eras.

After a wanted change: `RECORD=1 pytest tests/unit/tools/test_schemas.py`, and look at the diff.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

RECORDED = Path(__file__).parents[2] / "recorded" / "tools"
MOST_BYTES = 700  # a tool
ALL_BYTES = 10_000  # of all 20
LONGEST_NAME = 64  # with the prefix that Claude Code puts before it
PREFIX = "mcp__plugin_build-orchestrator_bo__"
RECORD = "RECORD" in os.environ  # read here: the tests' own environment is closed off


async def listed(client: Client) -> dict[str, dict[str, Any]]:
    tools = (await client.list_tools()).tools
    return {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_unset=True) for tool in tools}


async def test_each_tool_is_as_recorded(client: Client) -> None:
    """Style: the public surface is recorded."""
    tools = await listed(client)
    if RECORD:
        for name, tool in tools.items():
            (RECORDED / f"{name}.json").write_text(json.dumps(tool, indent=2, ensure_ascii=False) + "\n")

    recorded = {path.stem: json.loads(path.read_text()) for path in RECORDED.glob("*.json")}

    assert tools == recorded


async def test_tools_cost_few_bytes(client: Client) -> None:
    """interfaces: all 20 tools at or under 10,000 bytes."""
    tools = await listed(client)

    sizes = {name: len(json.dumps(t, separators=(",", ":"), ensure_ascii=False).encode()) for name, t in tools.items()}

    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert sum(sizes.values()) <= ALL_BYTES
    assert len(tools) == 20
    assert max(len(PREFIX + name) for name in tools) <= LONGEST_NAME


async def test_nothing_is_listed_that_tells_a_model_nothing(client: Client) -> None:
    """Style: no generated titles, no nulls, no output schema."""
    for tool in (await listed(client)).values():
        text = json.dumps(tool)
        assert not {"title", "outputSchema", "icons", "_meta"} & set(tool)
        assert '"title"' not in text
        assert "null" not in text


@pytest.mark.parametrize(
    ("names", "hints"),
    [
        (
            ("build_wait", "build_get", "build_log", "build_list", "build_stats", "hosts", "projects"),
            {"readOnlyHint": True, "openWorldHint": False},
        ),
        (
            ("doctor", "idf_build", "qemu_run", "serial_monitor", "build_retry"),
            {"destructiveHint": False, "openWorldHint": False},
        ),
        (("idf_flash", "serial_send", "build_cancel"), {"destructiveHint": True, "openWorldHint": False}),
    ],
)
async def test_hints_are_true(client: Client, names: tuple[str, ...], hints: dict[str, bool]) -> None:
    """interfaces: a tool either reads or changes."""
    tools = await listed(client)

    assert [tools[name]["annotations"] for name in names] == [hints] * len(names)
    # What runs anything has no hints: the defaults say the worst.
    for name in ("remote_build", "pipeline_run", "workflow_run", "create_and_build"):
        assert not tools[name].get("annotations")
