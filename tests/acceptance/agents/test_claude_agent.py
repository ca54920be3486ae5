"""The `claude` agent: the real SDK and the real CLI against a scripted model on loopback."""

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mcp_server.agents import claude, claude_talk
from mcp_server.agents.base import CANCEL_S, AgentRequest, AgentResult, Update
from mcp_server.agents.claude import ClaudeAgent
from tests.support.claude_client import CLAUDE, NOWHERE
from tests.support.scripted_model import Edit, Fail, Read, Run, Say, ScriptedModel, Talk, Use

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("claude_agent_sdk") is None, reason="claude-agent-sdk is not installed"
)

KEY = "sk-ant-api03-very-secret"
WRONG = "def add(a, b):\n    return a - b\n\nassert add(2, 2) == 4\nprint('calc ok')\n"
CHECK = f"{sys.executable} calc.py"


@dataclass(frozen=True)
class Given:
    """Settings of an agent."""

    name: str = "claude"
    model: str | None = None
    url: str | None = None


class Heard(list[Update]):
    """What an agent told. `spoken` is set by its first words."""

    def __init__(self) -> None:
        super().__init__()
        self.spoken = asyncio.Event()

    def append(self, update: Update) -> None:
        super().append(update)
        if update.kind == "text":
            self.spoken.set()

    def of(self, kind: str) -> list[str]:
        return [update.text for update in self if update.kind == kind]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "calc.py").write_text(WRONG)
    return folder


@pytest.fixture(autouse=True)
def nothing_left(project: Path) -> Iterator[None]:
    """No process of the CLI outlives its test."""
    yield
    left = [child for child in psutil.Process().children(recursive=True) if "claude" in child.name()]
    _, alive = psutil.wait_procs(left, timeout=3)
    assert not alive


def agent(read: tuple[str, ...] = ()) -> ClaudeAgent:
    """With the SDK's own CLI, else with the one that the other tests drive."""
    if claude._bundled() is None and not CLAUDE:
        pytest.skip("no claude CLI: BO_TEST_CLAUDE")
    return ClaudeAgent(Given(), read=read, cli=None if claude._bundled() else CLAUDE)


def environment(served: ScriptedModel, project: Path) -> dict[str, str]:
    home = project.parent / "claude-home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": served.url,
        "ANTHROPIC_API_KEY": KEY,
        "HTTPS_PROXY": NOWHERE,
        "HTTP_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
    }


async def ask(
    served: ScriptedModel, project: Path, heard: Heard | None = None, using: ClaudeAgent | None = None, **request: Any
) -> AgentResult:
    given = AgentRequest.model_validate(
        {"prompt": "mend it", "folder": str(project), "commands": (CHECK,), "model": "claude-opus-5", **request}
    )
    served.folder = str(project)
    tell = (Heard() if heard is None else heard).append
    async with asyncio.timeout(60):
        return await (using or agent()).run(given, environment(served, project), tell)


async def test_file_is_read_changed_and_checked(project: Path) -> None:
    """Ours. Each step is told; tokens, money, turns and the session come with the result."""
    heard = Heard()
    script = [Read("calc.py"), Edit("calc.py", "a - b", "a + b"), Run(CHECK), Say("mended")]
    with ScriptedModel(script) as model:
        result = await ask(model, project, heard)

    assert (result.stopped, result.text, result.denied) == ("end", "mended", 0), model.results()
    assert "a + b" in (project / "calc.py").read_text()
    assert "calc ok" in model.results()[2][0]
    assert [text.split()[0] for text in heard.of("tool")] == ["Read", "Edit", "Bash"]
    assert heard.of("text") == ["mended"]
    assert heard.of("session") == [result.session]
    assert (result.usage.turns, result.usage.output_tokens) == (4, 20)
    assert result.usage.input_tokens >= 40
    assert result.usage.cost_usd


async def test_only_listed_tools_are_offered(project: Path) -> None:
    """Issue. No web, no subagents, no MCP server, no command where none is listed."""
    with ScriptedModel([Say("ok")]) as model:
        await ask(model, project)
        await ask(model, project, commands=())

    offered = [{tool["name"] for tool in body["tools"]} for body in model.requests]
    allowed = {"Read", "Glob", "Grep", "LS", "Edit", "Write", "MultiEdit", "NotebookEdit"}
    assert {"Read", "Edit", "Bash"} <= offered[0] <= {*allowed, "Bash"}
    assert offered[1] <= allowed


async def test_forbidden_things_are_refused_and_counted(project: Path) -> None:
    """Issue. Outside, also through a link and only to read; other commands, though they only look; Git's own."""
    outside = project.parent / "outside.py"
    outside.write_text("a - b\n")
    (project / "link.py").symlink_to(outside)
    script = [
        Read(str(outside)),
        Read("link.py"),
        Use("Write", {"file_path": str(project.parent / "new.py"), "content": "x"}),
        Use("Write", {"file_path": str(project / ".git" / "config"), "content": "x"}),
        Use("Glob", {"pattern": "../*"}),
        Run("cat calc.py"),
        Run(f"{CHECK} && touch stolen"),
        Use("Bash", {"command": CHECK, "run_in_background": True}),  # would outlive the task
        Say("done"),
    ]
    heard = Heard()
    with ScriptedModel(script) as model:
        result = await ask(model, project, heard)

    assert all(error for _, error in model.results()), model.results()
    assert (result.stopped, result.text) == ("end", "done")
    assert (result.denied, len(heard.of("denied"))) == (7, 7)
    assert outside.read_text() == "a - b\n"
    assert sorted(path.name for path in project.iterdir()) == ["calc.py", "link.py"]


async def test_folder_that_may_be_read_is_not_written_and_the_task_still_ends_as_done(project: Path) -> None:
    """Ours. ESP-IDF beside the project: its sources help, and stay as they are, also behind a link.

    Facts: a run whose edits were refused says success; whoever reads the result must look at the folder.
    """
    idf = project.parent / "idf"
    idf.mkdir()
    (idf / "api.h").write_text("int a - b;\n")
    (project / "link.h").symlink_to(idf / "api.h")
    script = [
        Read(str(idf / "api.h")),
        Edit(str(idf / "api.h"), "a - b", "a + b"),
        Read("link.h"),
        Edit("link.h", "a - b", "a + b"),
        Edit("link.h", "a - b", "a + b"),
        Say("mended!"),
    ]
    with ScriptedModel(script) as model:
        result = await ask(model, project, using=agent(read=(str(idf),)))

    assert [error for _, error in model.results()] == [False, True, False, True, True]
    assert (result.stopped, result.text, result.denied) == ("end", "mended!", 3)
    assert (idf / "api.h").read_text() == "int a - b;\n"


async def test_user_settings_do_not_open_what_is_closed(project: Path) -> None:
    """Issue. The user allows all in ~/.claude, the project too, and both bring hooks and servers: none counts."""
    settings = '{"permissions": {"allow": ["Bash", "Edit", "Read"], "defaultMode": "bypassPermissions"},'
    settings += (
        f'"hooks": {{"PreToolUse": [{{"hooks": [{{"type": "command", "command": "touch {project}/hooked"}}]}}]}}}}'
    )
    for folder in (project / ".claude", project.parent / "claude-home" / ".claude"):
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(settings)
    (project / ".mcp.json").write_text('{"mcpServers": {"x": {"command": "touch", "args": ["started"]}}}')
    with ScriptedModel([Run("touch stolen"), Read("calc.py"), Say("ok")]) as model:
        result = await ask(model, project)

    assert result.denied == 1
    assert sorted(path.name for path in project.iterdir()) == [".claude", ".mcp.json", "calc.py"]


async def test_session_is_resumed(project: Path) -> None:
    """Facts. The same session; the model sees what was said before."""
    with ScriptedModel([Say("I shall remember")]) as model:
        first = await ask(model, project, prompt="the word is heron")
        second = await ask(model, project, prompt="and now", session=first.session)

    assert (second.stopped, second.session) == ("end", first.session)
    assert "heron" in str(model.requests[-1]["messages"])


async def test_forgotten_session_is_begun_anew(project: Path) -> None:
    """Ours. A worker's death must not end in a session that nobody has."""
    heard = Heard()
    with ScriptedModel([Say("ok")]) as model:
        result = await ask(model, project, heard, session="00000000-0000-4000-8000-000000000000")

    assert (result.stopped, result.text) == ("end", "ok")
    assert "not known here any more" in heard.of("note")[0]


async def test_cancelling_ends_it_before_the_client_would(project: Path) -> None:
    """Facts. In the middle of an endless answer; five seconds without the interruption."""
    heard = Heard()
    with ScriptedModel([Talk("tick\n", 0.005)]) as model:
        task = asyncio.create_task(ask(model, project, heard))
        async with asyncio.timeout(20):
            await heard.spoken.wait()
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.monotonic() - begun

    assert took < 3


async def test_cancelling_takes_a_running_command_along(project: Path) -> None:
    """Issue. With the children that it left."""
    pids = project / "pids"
    os.mkfifo(pids)
    (project / "calc.py").write_text(
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "open('pids', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(1000)\n"
    )
    with ScriptedModel([Run(CHECK), Say("ok")]) as model:
        task = asyncio.create_task(ask(model, project))
        running = [psutil.Process(int(word)) for word in (await asyncio.to_thread(pids.read_text)).split()]
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.monotonic() - begun
        _, alive = await asyncio.to_thread(psutil.wait_procs, running, 3)

    assert took < CANCEL_S
    assert not alive


async def test_cancelling_before_it_is_up_leaves_nothing(project: Path) -> None:
    """Ours. The CLI takes half a second to start."""
    with ScriptedModel([Say("ok")]) as model:
        task = asyncio.create_task(ask(model, project))
        async with asyncio.timeout(20):
            await _started()
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert time.monotonic() - begun < CANCEL_S - 1


@pytest.mark.parametrize("answers", [False, True])
async def test_cli_that_hangs_is_killed(project: Path, answers: bool) -> None:
    """Ours. Before it is up, or in the middle; it ignores the end of its input and TERM. A stand-in for the CLI."""
    cli = project.parent / "claude"
    cli.write_text(HANGING.format(python=sys.executable, answers=answers))
    cli.chmod(0o755)
    with ScriptedModel([Say("ok")]) as model:
        os.mkfifo(project / "up")
        task = asyncio.create_task(ask(model, project, using=ClaudeAgent(Given(), cli=str(cli))))
        pid = int(await asyncio.to_thread((project / "up").read_text))
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert time.monotonic() - begun < CANCEL_S - 1
    assert not psutil.pid_exists(pid)


HANGING = """#!{python}
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if {answers}:
    asked = json.loads(sys.stdin.readline())
    answer = {{"subtype": "success", "request_id": asked["request_id"], "response": {{}}}}
    print(json.dumps({{"type": "control_response", "response": answer}}), flush=True)
    sys.stdin.readline()
with open("up", "w") as up:
    up.write(str(os.getpid()))
time.sleep(1000)
"""


async def test_cli_that_dies_is_quoted(project: Path) -> None:
    """Ours. A stand-in for the CLI."""
    cli = project.parent / "claude"
    cli.write_text("#!/bin/sh\necho 'the sky fell' >&2\nexit 3\n")
    cli.chmod(0o755)
    with ScriptedModel([Say("ok")]) as model:
        result = await ask(model, project, using=ClaudeAgent(Given(), cli=str(cli)))

    assert (result.stopped, result.text) == ("error", "Claude Code ended without a result: the sky fell")


async def _started() -> None:
    """Until this process has a child."""
    while not psutil.Process().children():  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.01)


async def test_budget_of_turns_ends_it(project: Path) -> None:
    """Issue. A model that goes round in circles; the CLI counts."""
    with ScriptedModel([Read("calc.py")]) as model:
        result = await ask(model, project, max_turns=3)

    assert (result.stopped, result.text) == ("limit", "3 turns were allowed")


async def test_budget_of_money_ends_it(project: Path) -> None:
    """Issue."""
    usage = {"input_tokens": 100_000, "output_tokens": 5000}
    with ScriptedModel([Read("calc.py")], usage=usage) as model:
        result = await ask(model, project, max_cost_usd=0.5)

    assert result.stopped == "limit"
    assert result.text.startswith("$0.5 was allowed, $")


async def test_budget_of_tokens_ends_it(project: Path) -> None:
    """Ours. The CLI knows no such limit; it is interrupted."""
    with ScriptedModel([Read("calc.py")], usage={"input_tokens": 400, "output_tokens": 10}) as model:
        result = await ask(model, project, max_tokens=1000)

    assert result.stopped == "limit"
    assert result.text.startswith("1,000 tokens were allowed, 1,2")


async def test_endless_answer_is_interrupted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue. What is told stays in pieces, and the whole is bounded."""
    monkeypatch.setattr(claude_talk, "MAX_ANSWER_BYTES", 50_000)
    heard = Heard()
    with ScriptedModel([Talk("word " * 100, 0.001)]) as model:
        result = await ask(model, project, heard)

    assert (result.stopped, result.text) == ("limit", "one answer went on after 50,000 letters")
    assert max(map(len, heard.of("text"))) <= 1000


async def test_refused_key_is_said_without_it(project: Path) -> None:
    """Ours."""
    with ScriptedModel(
        [Say("ok")], failures=[Fail(401, "authentication_error", "invalid x-api-key")], failing=True
    ) as model:
        result = await ask(model, project)

    assert result.stopped == "error"
    assert "401" in result.text or "API key" in result.text
    assert KEY not in result.text
    assert "\n" not in result.text


async def test_command_sees_neither_the_key_nor_what_this_process_has(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue. The SDK hands on all of this process' own, and what a command prints goes to the model."""
    monkeypatch.setenv("OTHER_TOKEN", "leaked")
    (project / "calc.py").write_text("import os\nprint('names', sorted(os.environ.items()))\n")
    with ScriptedModel([Run(CHECK), Say("ok")]) as model:
        await ask(model, project)

    assert "names" in model.results()[0][0]
    assert "leaked" not in model.results()[0][0]
    assert "ANTHROPIC_API_KEY" not in model.results()[0][0]
