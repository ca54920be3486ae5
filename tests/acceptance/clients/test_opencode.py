"""OpenCode, a second coding agent, with our server: its tools reach the model, and so do their answers and failures."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.messages_api import MessagesApi, Say, ToolResult, Use
from tests.support.postgres import given_database
from tests.support.three_hosts import write_config
from tests.support.workers import end_everything

OPENCODE = os.environ.get("BO_TEST_OPENCODE") or shutil.which("opencode") or ""

pytestmark = [
    pytest.mark.skipif(not OPENCODE, reason="no opencode: BO_TEST_OPENCODE or PATH should name one"),
    pytest.mark.timeout(120),
]
REPOSITORY = Path(__file__).parents[3]
NOWHERE = "http://127.0.0.1:9"  # the discard port: a proxy that refuses, for whatever is not loopback


@pytest.fixture(autouse=True)
def three_hosts(home: Path, tmp_path: Path) -> Iterator[None]:
    write_config(home, tmp_path / "far")
    yield
    end_everything(home)


def settings(api: MessagesApi, home: Path) -> dict[str, object]:
    """opencode.json: the stub as the only model, our server as docs/clients.md says."""
    options = {"baseURL": f"{api.url}/v1", "apiKey": "no-key"}
    command = [sys.executable, "-m", "mcp_server", "mcp"]
    environment = {"BUILD_ORCHESTRATOR_HOME": str(home), "PYTHONPATH": str(REPOSITORY), **given_database()}
    return {
        "provider": {"stub": {"npm": "@ai-sdk/anthropic", "options": options, "models": {"m1": {"name": "m1"}}}},
        "model": "stub/m1",
        "small_model": "stub/m1",
        "autoupdate": False,
        "share": "disabled",
        "mcp": {"bo": {"type": "local", "command": command, "environment": environment, "timeout": 60_000}},
    }


def played(tmp_path: Path, home: Path, *script: Use) -> tuple[MessagesApi, list[ToolResult]]:
    """One prompt to its end, in a user's home of its own."""
    user, project = tmp_path / "opencode", tmp_path / "project"
    user.mkdir()
    project.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    switches = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS")
    environment = kept | {f"OPENCODE_DISABLE_{name}": "1" for name in switches}
    environment |= {"HOME": str(user), "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
    with MessagesApi([*script, Say("done")]) as api:
        (project / "opencode.json").write_text(json.dumps(settings(api, home)))
        done = subprocess.run(
            [OPENCODE, "run", "--format", "json", "begin"],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    return api, api.tool_results()


def test_hosts_builds_and_failures_reach_the_model(tmp_path: Path, home: Path) -> None:
    """Ours. A success, and the whole report of a failure: this client, too, must not swallow the text of an error."""
    broken = "echo 'a.c:1:2: error: boom'; exit 3"
    api, (hosts, built, failed, stages) = played(
        tmp_path,
        home,
        Use("bo_hosts", {"check": False}),
        Use("bo_remote_build", {"host": "yocto", "task": "linux-s32"}),
        Use("bo_remote_build", {"host": "host", "command": broken}),
        Use("bo_build_get", {"build": 2, "detail": "stages"}),
    )

    assert {"bo_remote_build", "bo_pipeline_run", "bo_hosts", "bo_build_stats", "bo_idf_build"} <= set(api.tools())
    assert "yocto-builder (yocto)" in hosts.text
    assert built.text.startswith("build 1 succeeded · ") and "on yocto-builder" in built.text
    assert "build 2 failed in stage build" in failed.text
    assert "a.c:1:2 error: boom" in failed.text
    assert "build failed" in stages.text and "on ccu2-builder" in stages.text
