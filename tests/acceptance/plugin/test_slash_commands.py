"""Each form of `/build-orchestrator` in the real client: the skill stands before the model with these words, the tool
calls that it asks for are made, and what comes back is what the user wants to know. The hosts are command channels."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.claude_client import CLAUDE, TOOLS, ClaudeClient
from tests.support.messages_api import MessagesApi, Say, ToolResult, Use
from tests.support.three_hosts import write_config
from tests.support.workers import end_everything

pytestmark = [
    pytest.mark.skipif(not CLAUDE, reason="no claude client: BO_TEST_CLAUDE or PATH should name one"),
    pytest.mark.timeout(150),
]

REMOTE, PIPELINE, HOSTS, LIST, WAIT, STATS = (
    f"{TOOLS}__{name}" for name in ("remote_build", "pipeline_run", "hosts", "build_list", "build_wait", "build_stats")
)
BROKEN = "echo \"src/container.cpp:41:5: error: 'vam' was not declared in this scope\"; exit 1"


@pytest.fixture
def client(tmp_path: Path, home: Path) -> Iterator[ClaudeClient]:
    """A client whose home knows the seed's three hosts; `yocto` makes a command of a task, `host` does not."""
    write_config(home, tmp_path / "far")
    client = ClaudeClient(tmp_path)
    client.make_ready()
    yield client
    end_everything(home)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def played(client: ClaudeClient, project: Path, prompt: str, *script: Use) -> list[ToolResult]:
    """What came back of each call, after the skill was seen to have reached the model with the user's words."""
    with MessagesApi([*script, Say("done")]) as api:
        client.run(api, prompt, project)
    asked = json.dumps(api.requests[0]["messages"], ensure_ascii=False)
    assert "## What was asked" in asked
    assert f"Asked: {json.dumps(prompt.partition(' ')[2], ensure_ascii=False)[1:-1]}" in asked
    results = api.tool_results()
    assert len(results) == len(script)
    return results


def test_a_task_on_a_host(client: ClaudeClient, project: Path) -> None:
    """Seed. `/build-orchestrator yocto linux-s32`: the alias names the host, whose `build` makes the command."""
    hosts, built = played(
        client,
        project,
        "/build-orchestrator yocto linux-s32",
        Use(HOSTS, {"check": False}),
        Use(REMOTE, {"host": "yocto", "task": "linux-s32"}),
    )

    assert "yocto-builder (yocto)" in hosts.text and "tasks: echo made {task}" in hosts.text
    assert not built.is_error, built.text
    assert built.text.startswith("build 1 succeeded")


def test_a_host_without_build_makes_the_agent_ask_for_the_command(client: ClaudeClient, project: Path) -> None:
    """Issue. The list says so beforehand, the refusal afterwards, and the command then runs."""
    hosts, refused, built = played(
        client,
        project,
        "/build-orchestrator host container-manager",
        Use(HOSTS, {"check": False}),
        Use(REMOTE, {"host": "host", "task": "container-manager"}),
        Use(REMOTE, {"host": "host", "command": "echo built container-manager"}),
    )

    assert "no `build`: needs a command" in hosts.text
    assert refused.is_error
    assert "ccu2-builder" in refused.text and "command" in refused.text
    assert built.text.startswith("build 1 succeeded")


def test_a_numbered_pipeline_with_dependencies(client: ClaudeClient, project: Path) -> None:
    """Seed. `pipeline: 1. … 2. … (after 1)`: shown, then run; what depends on a failure is skipped."""
    text = (
        "pipeline:\n  name: s32\n  stages:\n"
        '    - {name: linux-s32, server: yocto, command: "echo made linux-s32"}\n'
        f"    - {{name: container-manager, server: host, command: {json.dumps(BROKEN)}, depends_on: [linux-s32]}}\n"
        '    - {name: tests, server: test, command: "true", depends_on: [container-manager]}\n'
    )
    prompt = (
        "/build-orchestrator pipeline:\n  1. yocto: build linux-s32\n  2. host: build container-manager (after 1)\n"
        "  3. test: run tests (after 2)"
    )

    plan, failed = played(
        client, project, prompt, Use(PIPELINE, {"yaml": text, "dry_run": True}), Use(PIPELINE, {"yaml": text})
    )

    assert "s32 · 3 stages" in plan.text and "flowchart LR" in plan.text
    assert not plan.is_error
    assert failed.is_error
    assert len(failed.text.encode()) <= 700
    assert failed.text.startswith("build 1 failed in stage container-manager")
    assert "src/container.cpp:41:5 error: 'vam' was not declared" in failed.text
    assert "tests skipped (dependency)" in failed.text


def test_independent_builds_side_by_side(client: ClaudeClient, project: Path) -> None:
    """Seed. `parallel: - … - … - …`."""
    text = (
        "pipeline:\n  name: three\n  stages:\n"
        '    - {name: linux-s32, server: yocto, command: "echo a"}\n'
        '    - {name: vam, server: host, command: "echo b"}\n'
        '    - {name: dpm, server: host, command: "echo c"}\n'
    )
    prompt = "/build-orchestrator parallel:\n  - yocto: build linux-s32\n  - host: build vam\n  - host: build dpm"

    [built] = played(client, project, prompt, Use(PIPELINE, {"yaml": text}))

    assert not built.is_error, built.text
    assert built.text.startswith("build 1 succeeded")
    assert all(f"{name} success" in built.text for name in ("linux-s32", "vam", "dpm"))


def test_a_pipeline_file_of_the_project(client: ClaudeClient, project: Path) -> None:
    """Seed. `run pipeline.yaml`: the path is relative to the project that the client works in."""
    (project / "pipeline.yaml").write_text(
        'pipeline:\n  name: from-file\n  stages:\n    - {name: one, server: test, command: "echo ${params.who}"}\n'
        "  params: {who: world}\n"
    )

    built, stats = played(
        client,
        project,
        "/build-orchestrator run pipeline.yaml",
        Use(PIPELINE, {"path": "pipeline.yaml", "params": {"who": "me"}}),
        Use(STATS, {}),
    )

    assert not built.is_error, built.text
    assert built.text.startswith("build 1 succeeded")
    assert str(project) in built.text
    assert "1 build" in stats.text


def test_status_shows_hosts_and_running_builds(client: ClaudeClient, project: Path) -> None:
    """Seed. `status`: which servers answer, what runs there; a build goes on in the meantime and is waited for."""
    started, hosts, running, over = played(
        client,
        project,
        "/build-orchestrator status",
        Use(REMOTE, {"host": "test", "command": "while [ ! -e go ]; do sleep 0.05; done", "wait_s": 0}),
        Use(HOSTS),
        Use(LIST, {"status": "running"}),
        Use(REMOTE, {"host": "test", "command": "touch go"}),
    )

    assert "build 1" in started.text and not started.is_error
    assert hosts.text.count(" · slots ") == 4  # three and this machine
    assert "test-runner (test)" in hosts.text and "unreachable" not in hosts.text
    assert not running.is_error
    assert over.text.startswith("build 2 succeeded")
