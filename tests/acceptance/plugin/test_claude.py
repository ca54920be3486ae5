"""The plugin in the real client, whose model plays a script: what connects, and what reaches the model."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.config import load_config
from mcp_server.demo.place import lay_out
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.claude_client import CLAUDE, REPOSITORY, SERVER, TOOLS, ClaudeClient, Conversation
from tests.support.faults import worker_pid
from tests.support.messages_api import MessagesApi, Say, Use
from tests.support.plugin_root import PluginRoot
from tests.support.workers import end_everything

pytestmark = [
    pytest.mark.skipif(not CLAUDE, reason="no claude client: BO_TEST_CLAUDE or PATH should name one"),
    pytest.mark.timeout(150),
]

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")

MAX_VERDICT_BYTES = 700  # ours: what a failed build may cost a model

DOCTOR, BUILD, WAIT, SETUP = (f"{TOOLS}__{name}" for name in ("doctor", "idf_build", "build_wait", "setup"))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ClaudeClient]:
    yield ClaudeClient(tmp_path)
    end_everything(tmp_path / "home")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def test_plugin_is_valid_to_the_client(tmp_path: Path) -> None:
    """Spec. Manifest, marketplace, skill and agents pass the client's own strict check."""
    environ = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [CLAUDE, "plugin", "validate", "--strict", str(REPOSITORY)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@needs_compiler
async def test_plugin_connects_mends_firmware_and_its_last_build_outlives_the_client(
    client: ClaudeClient, tmp_path: Path
) -> None:
    """Ours. One conversation, since each start takes seconds.

    The server connects, its tools are offered under names that fit, and an answer reaches the model. The whole loop of
    the skill: a failure that is flagged and short, an edit, and a success. Then the client leaves while a build runs,
    and clients kill healthy servers, too: nothing may live in one.
    """
    client.make_ready()
    project = lay_out(tmp_path / "firmware")
    source = str(project / "main" / "thermostat.c")
    script = [
        Use(DOCTOR, {"project": "."}),
        Use(BUILD, {"project": "."}),
        Use("Read", {"file_path": source}),
        Use("Edit", {"file_path": source, "old_string": "valve_opne", "new_string": "valve_open"}),
        Use(BUILD, {"project": "."}),
        Use(BUILD, {"project": ".", "clean": True, "wait_s": 0}),
        Say("mended"),
    ]
    with MessagesApi(script) as api:
        conversation = client.run(api, "what is missing here? then build it", project, "Read", "Edit")
    orchestrator = Orchestrator(load_config())
    view = await orchestrator.wait(3, 30)
    await orchestrator.aclose()

    _has_all_of_the_plugin(conversation)
    ours = [name for name in api.tools() if name.startswith(TOOLS)]
    assert {DOCTOR, BUILD, WAIT} <= set(ours)
    assert max(map(len, ours)) <= 64
    assert SETUP not in ours
    assert '"protocolEra":"modern"' in client.log_of_server()
    doctor, failure, _, edit, success, started = api.tool_results()
    assert "No such tool" not in doctor.text
    assert failure.is_error
    assert "main/thermostat.c:8" in failure.text
    assert "valve_opne" in failure.text
    assert len(failure.text.encode()) <= MAX_VERDICT_BYTES
    assert not edit.is_error, edit.text
    assert not success.is_error, success.text
    assert "build 2 succeeded" in success.text
    assert "build 3" in started.text and not started.is_error
    assert worker_pid(tmp_path / "home"), "the worker ended with its client"
    assert view.build.status is BuildStatus.SUCCESS


def _has_all_of_the_plugin(conversation: Conversation) -> None:
    init = conversation.one("system", "init")
    assert [server["status"] for server in init["mcp_servers"] if server["name"] == SERVER] == ["connected"]
    assert "build-orchestrator:build-orchestrator" in init["skills"]
    assert {"build-orchestrator:builder", "build-orchestrator:developer"} <= set(init["agents"])
    assert conversation.one("result", "success")["result"] == "mended"


def test_first_start_offers_setup_until_the_tools_are_there(
    client: ClaudeClient, project: Path, tmp_path: Path
) -> None:
    """Ours. During a slow installation the client is connected; afterwards it has the server's tools, unasked."""
    plugin = PluginRoot(tmp_path / "box").with_uv(waits=True)
    manifest = json.loads((plugin.root / ".claude-plugin" / "plugin.json").read_text())
    del manifest["agents"]
    (plugin.root / ".claude-plugin" / "plugin.json").write_text(json.dumps(manifest))
    slow = ClaudeClient(tmp_path / "slow", plugin.root)
    opener = Use("Bash", {"command": f"touch {plugin.gate}", "description": "let the installation go on"})
    with MessagesApi([opener, Use(SETUP), Use(DOCTOR), Say("done")]) as api:
        path = f"{plugin.path}:/usr/bin:/bin"
        slow.run(api, "begin", project, "Bash", PATH=path)

    _, setup, doctor = api.tool_results()
    assert "is installed" in setup.text
    assert "the real server" in doctor.text
    assert {SETUP, DOCTOR} <= set(api.tools())
