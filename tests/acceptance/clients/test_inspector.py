"""The MCP Inspector's command line drives the server: an independent client that shows what is on the wire."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import given_database
from tests.support.three_hosts import write_config
from tests.support.workers import end_everything

INSPECTOR = os.environ.get("BO_TEST_INSPECTOR") or shutil.which("mcp-inspector") or ""

pytestmark = [
    pytest.mark.skipif(not INSPECTOR, reason="no MCP Inspector: BO_TEST_INSPECTOR or PATH should name mcp-inspector"),
    pytest.mark.timeout(120),
]
REPOSITORY = Path(__file__).parents[3]
TOOLS = 12

Inspect = Callable[..., Any]


@pytest.fixture
def inspect(home: Path, tmp_path: Path) -> Iterator[Inspect]:
    """`inspect("tools/list")`, `inspect("tools/call", "--tool-name", …)`: the JSON that it prints."""
    write_config(home, tmp_path / "far")
    given = {"BUILD_ORCHESTRATOR_HOME": str(home), "PYTHONPATH": str(REPOSITORY), **given_database()}

    def call(method: str, *arguments: str) -> Any:
        done = subprocess.run(
            [
                *(INSPECTOR, "--cli"),
                *(word for name, value in given.items() for word in ("-e", f"{name}={value}")),
                *(sys.executable, "-m", "mcp_server", "mcp", "--method", method, *arguments),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    yield call
    end_everything(home)


def text_of(result: Any) -> str:
    (content,) = result["content"]
    return content["text"]


def test_every_tool_is_listed_with_a_schema(inspect: Inspect) -> None:
    """Ours. What the Inspector takes, other clients' schema checks take, too."""
    tools = inspect("tools/list")["tools"]

    assert len(tools) >= TOOLS
    assert {"remote_build", "pipeline_run", "hosts", "build_stats"} <= {tool["name"] for tool in tools}
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools)


def test_a_build_its_failure_and_its_record_are_told_apart(inspect: Inspect) -> None:
    """interfaces: isError with the report; build://{id}."""
    call = ("tools/call", "--tool-name", "remote_build", "--tool-arg", "host=yocto", "--tool-arg")

    good = inspect(*call, "task=linux-s32")
    bad = inspect(*call, "command=echo 'a.c:1:2: error: boom'; exit 3")
    (content,) = inspect("resources/read", "--uri", "build://1")["contents"]

    assert text_of(good).startswith("build 1 succeeded · ") and "on yocto-builder" in text_of(good)
    assert not good.get("isError")
    assert bad["isError"] is True
    assert "a.c:1:2 error: boom" in text_of(bad)
    assert content["text"].startswith("build 1 succeeded")
