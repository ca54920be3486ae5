"""Each form of `/build-orchestrator` in the real client: the skill stands before the model with these words, the tool
calls that it asks for are made, and what comes back is what the user wants to know. The hosts are command channels."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import NewDatabase
from tests.support.claude_client import CLAUDE, TOOLS, ClaudeClient, Talk
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


@dataclass
class Session:
    """The conversation of all tests of this file, in a home that knows the seed's three hosts."""

    api: MessagesApi
    talk: Talk
    project: Path
    played: list[Use] = field(default_factory=list[Use])

    def play(self, prompt: str, *script: Use) -> list[ToolResult]:
        """What came back of each call, after the skill was seen to have reached the model with the user's words."""
        before, requests = len(self.played), len(self.api.requests)
        self.played += script
        self.api.script = [*self.played, Say("done")]
        self.talk.say(prompt)
        messages = self.api.requests[requests]["messages"]
        spoken = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        asked = json.dumps(messages[spoken[-1] + 1 if spoken else 0 :], ensure_ascii=False)
        assert "## What was asked" in asked and "The loop: build, mend the first error, build again" in asked
        assert f"Asked: {json.dumps(prompt.partition(' ')[2], ensure_ascii=False)[1:-1]}" in asked
        results = self.api.tool_results()
        assert len(results) == len(self.played)
        return results[before:]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Session]:
    """`yocto` makes a command of a task, `host` does not."""
    folder = tmp_path_factory.mktemp("session")
    home, project = folder / "home", folder / "project"
    home.mkdir()
    project.mkdir()
    write_config(home, folder / "far")
    client = ClaudeClient(folder, home=home, database=new_database())
    client.make_ready()
    with MessagesApi([]) as api, client.talking(api, project) as talk:
        yield Session(api, talk, project)
    end_everything(home)


def test_a_task_on_a_host(session: Session) -> None:
    """Seed. `/build-orchestrator yocto linux-s32`: the alias names the host, whose `build` makes the command."""
    hosts, built = session.play(
        "/build-orchestrator yocto linux-s32",
        Use(HOSTS, {"check": False}),
        Use(REMOTE, {"host": "yocto", "task": "linux-s32"}),
    )

    assert "yocto-builder (yocto)" in hosts.text and "tasks: echo made {task}" in hosts.text
    assert not built.is_error, built.text
    assert built.text.partition(" · ")[0].endswith(" succeeded")


def test_a_host_without_build_makes_the_agent_ask_for_the_command(session: Session) -> None:
    """Issue. The list says so beforehand, the refusal afterwards, and the command then runs."""
    hosts, refused, built = session.play(
        "/build-orchestrator host container-manager",
        Use(HOSTS, {"check": False}),
        Use(REMOTE, {"host": "host", "task": "container-manager"}),
        Use(REMOTE, {"host": "host", "command": "echo built container-manager"}),
    )

    assert "no `build`: needs a command" in hosts.text
    assert refused.is_error
    assert "ccu2-builder" in refused.text and "command" in refused.text
    assert built.text.partition(" · ")[0].endswith(" succeeded")


def test_a_numbered_pipeline_with_dependencies(session: Session) -> None:
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

    plan, failed = session.play(prompt, Use(PIPELINE, {"yaml": text, "dry_run": True}), Use(PIPELINE, {"yaml": text}))

    assert "s32 · 3 stages" in plan.text and "flowchart LR" in plan.text
    assert not plan.is_error
    assert failed.is_error
    assert len(failed.text.encode()) <= 700
    assert "failed in stage container-manager" in failed.text.partition("\n")[0]
    assert "src/container.cpp:41:5 error: 'vam' was not declared" in failed.text
    assert "tests not run: container-manager failed" in failed.text


def test_independent_builds_side_by_side(session: Session) -> None:
    """Seed. `parallel: - … - … - …`."""
    text = (
        "pipeline:\n  name: three\n  stages:\n"
        '    - {name: linux-s32, server: yocto, command: "echo a"}\n'
        '    - {name: vam, server: host, command: "echo b"}\n'
        '    - {name: dpm, server: host, command: "echo c"}\n'
    )
    prompt = "/build-orchestrator parallel:\n  - yocto: build linux-s32\n  - host: build vam\n  - host: build dpm"

    [built] = session.play(prompt, Use(PIPELINE, {"yaml": text}))

    assert not built.is_error, built.text
    assert built.text.partition(" · ")[0].endswith(" succeeded")
    assert all(f"{name} success" in built.text for name in ("linux-s32", "vam", "dpm"))


def test_a_pipeline_file_of_the_project(session: Session) -> None:
    """Seed. `run pipeline.yaml`: the path is relative to the project that the client works in."""
    (session.project / "pipeline.yaml").write_text(
        'pipeline:\n  name: from-file\n  stages:\n    - {name: one, server: test, command: "echo ${params.who}"}\n'
        "  params: {who: world}\n"
    )

    built, stats = session.play(
        "/build-orchestrator run pipeline.yaml",
        Use(PIPELINE, {"path": "pipeline.yaml", "params": {"who": "me"}}),
        Use(STATS, {}),
    )

    assert not built.is_error, built.text
    assert built.text.partition(" · ")[0].endswith(" succeeded")
    assert str(session.project) in built.text
    assert " builds · " in stats.text


def test_status_shows_hosts_and_running_builds(session: Session) -> None:
    """Seed. `status`: which servers answer, what runs there; a build goes on in the meantime and is waited for."""
    started, hosts, running, over = session.play(
        "/build-orchestrator status",
        Use(REMOTE, {"host": "test", "command": "while [ ! -e go ]; do sleep 0.05; done", "wait_s": 0}),
        Use(HOSTS),
        Use(LIST, {"status": "running"}),
        Use(REMOTE, {"host": "test", "command": "touch go"}),
    )

    assert "build " in started.text and not started.is_error
    assert hosts.text.count(" · slots ") == 4  # three and this machine
    assert "test-runner (test)" in hosts.text and "unreachable" not in hosts.text
    assert not running.is_error
    assert over.text.partition(" · ")[0].endswith(" succeeded")
