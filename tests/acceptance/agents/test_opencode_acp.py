"""The real OpenCode by the Agent Client Protocol, as the job that runs it: edits, permissions, resume, the end."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mcp_server.agents.acp import AcpAgent
from mcp_server.agents.task import AgentSettings
from mcp_server.agents.transcript import Transcript
from tests.support.messages_api import MessagesApi, Say, Use
from tests.support.opencode_client import MODEL, OPENCODE, opencode_environment, opencode_settings

pytest.importorskip("acp", reason="needs the extra agents", exc_type=ImportError)
pytestmark = [
    pytest.mark.skipif(not OPENCODE, reason="no opencode: BO_TEST_OPENCODE or PATH should name one"),
    pytest.mark.timeout(120),
]
REPOSITORY = Path(__file__).parents[3]
BROKEN, MENDED = "int add(int a, int b) { return a - b; }\n", "int add(int a, int b) { return a + b; }\n"


class Task:
    """A folder with a mistake in it, and the job that is to mend it."""

    def __init__(self, place: Path, api: MessagesApi, **settings: object) -> None:
        self.folder, self._place = place / "project", place
        self.folder.mkdir()
        self.source = self.folder / "add.c"
        self.source.write_text(BROKEN)
        (self.folder / "opencode.json").write_text(opencode_settings(api, **settings))

    async def start(self, **request: Any) -> asyncio.subprocess.Process:
        wanted = {"prompt": "mend it", "folder": str(self.folder), "commands": ["python3 -V"], **request}
        agent = {"name": "opencode", "provider": "acp", "acp": [OPENCODE, "acp"]}
        task = self._place / "TASK.json"
        task.write_text(json.dumps({"agent": agent, "request": wanted}))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "mcp_server.agents.run", str(task)),
            env=opencode_environment(self._place / "user") | {"PYTHONPATH": str(REPOSITORY)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, **request: Any) -> tuple[str, Transcript]:
        process = await self.start(**request)
        async with asyncio.timeout(90):
            log, _ = await process.communicate()
        assert process.returncode == 0, log.decode()
        return log.decode(), read(log)


def read(log: bytes) -> Transcript:
    transcript = Transcript()
    transcript.feed(log)
    transcript.close()
    return transcript


def edit(source: Path, old: str = "a - b", new: str = "a + b") -> Use:
    return Use("edit", {"filePath": str(source), "oldString": old, "newString": new})


def script(place: Path, *more: Use) -> Sequence[Use | Say]:
    source = place / "project" / "add.c"
    return [Use("read", {"filePath": str(source)}), edit(source), *more, Say("mended")]


async def test_available_program_tells_its_version(tmp_path: Path) -> None:
    """Ours."""
    agent = AcpAgent(AgentSettings(name="opencode", provider="acp", acp=("opencode", "acp")))
    found = await agent.availability(opencode_environment(tmp_path / "user"))

    assert found.available and found.text.startswith("opencode ")


async def test_task_is_done_and_continued(tmp_path: Path) -> None:
    """Issue. An edit and a listed command, with the chosen model; then the same session goes on."""
    steps = script(tmp_path, Use("bash", {"command": "python3 -V", "description": "look"}))
    with MessagesApi(steps) as api:
        task = Task(tmp_path, api)
        log, first = await task.run(model=MODEL)
        assert task.source.read_text() == MENDED, log
        _, second = await task.run(session=first.session)

    assert first.result and (first.result.stopped, first.result.text, first.denied) == ("end", "mended", 0)
    assert "> execute python3 -V" in log and "| mended" in log
    assert first.usage.turns >= 2
    assert second.result and (second.result.stopped, second.result.session) == ("end", first.session)


@pytest.mark.parametrize("generous", [False, True])
async def test_only_what_the_task_allows_is_done(tmp_path: Path, generous: bool) -> None:
    """Issue. Also where the project's own settings let OpenCode do everything without asking."""
    outside = tmp_path / "outside.txt"
    settings: dict[str, object] = {"permission": {"bash": "allow", "edit": "allow", "external_directory": "allow"}}
    steps = script(
        tmp_path,
        Use("write", {"filePath": str(outside), "content": "x"}),
        Use("bash", {"command": f"touch {outside}", "description": "touch"}),
        Use("bash", {"command": "python3 -V; touch x", "description": "two"}),
        Use("webfetch", {"url": "http://127.0.0.1:9/", "format": "text"}),
    )
    with MessagesApi(steps) as api:
        task = Task(tmp_path, api, **(settings if generous else {}))
        log, transcript = await task.run()

    assert not outside.exists() and not (task.folder / "x").exists()
    assert transcript.denied == 3 and "! execute python3 -V; touch x: only plain commands" in log, log
    assert transcript.result and transcript.result.text == "mended", "a refusal must not end the task"


async def test_term_ends_it_with_all_its_processes(tmp_path: Path) -> None:
    """Issue. In the middle of a command, within five seconds."""
    command = "sleep 61.25"
    with MessagesApi([Use("bash", {"command": command, "description": "wait"}), Say("no")]) as api:
        process = await Task(tmp_path, api).start(commands=[command])
        assert process.stdout is not None
        async with asyncio.timeout(60):
            log = b""
            while f"> execute {command}".encode() not in log:
                line = await process.stdout.readline()
                assert line, log.decode()
                log += line
            while not running(command):  # noqa: ASYNC110  # another program starts it
                await asyncio.sleep(0.05)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest, _ = await process.communicate()

    assert time.monotonic() - begun < 5
    transcript = read(log + rest)
    assert transcript.result and transcript.result.stopped == "cancelled" and transcript.session
    assert not running(command)


def running(command: str) -> list[str]:
    """Processes of this very command line."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        if b" ".join(words).decode(errors="replace") == command:
            found.append(path.parent.name)
    return found
