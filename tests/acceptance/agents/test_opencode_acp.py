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
from tests.support.extras import need
from tests.support.messages_api import MessagesApi, Say, Use
from tests.support.opencode_client import MODEL, OPENCODE, opencode_environment, opencode_settings

need("acp")
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


async def test_only_what_the_task_allows_is_done_and_the_session_goes_on_until_it_is_ended(tmp_path: Path) -> None:
    """Issue. One conversation, since each start takes seconds.

    An edit and a listed command are done with the chosen model, all else is refused and ends nothing, though the
    project's own settings let OpenCode do everything without asking. The same session then goes on, and in the middle
    of a command it ends within five seconds, with all its processes.
    """
    outside, command = tmp_path / "outside.txt", "sleep 61.25"
    steps = script(
        tmp_path,
        Use("bash", {"command": "python3 -V", "description": "look"}),
        Use("write", {"filePath": str(outside), "content": "x"}),
        Use("bash", {"command": f"touch {outside}", "description": "touch"}),
        Use("bash", {"command": "python3 -V; touch x", "description": "two"}),
        Use("webfetch", {"url": "http://127.0.0.1:9/", "format": "text"}),
    )
    with MessagesApi(steps) as api:
        task = Task(tmp_path, api, permission={"bash": "allow", "edit": "allow", "external_directory": "allow"})
        log, first = await task.run(model=MODEL)
        assert task.source.read_text() == MENDED, log
        api.script = [*steps[:-1], Use("bash", {"command": command, "description": "wait"}), Say("no")]
        second = await _ended_within(await task.start(session=first.session, commands=[command]), command)

    assert first.result and (first.result.stopped, first.result.text) == ("end", "mended"), log
    assert "> execute python3 -V" in log and "| mended" in log
    assert first.usage.turns >= 2
    assert not outside.exists() and not (task.folder / "x").exists()
    assert first.denied == 3 and "! execute python3 -V; touch x: only plain commands" in log, log
    assert second.result and (second.result.stopped, second.result.session) == ("cancelled", first.session)
    assert not running(command)


async def _ended_within(process: asyncio.subprocess.Process, command: str, limit_s: float = 5) -> Transcript:
    """What a task said that was told to end once this command of it ran."""
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
    assert time.monotonic() - begun < limit_s
    return read(log + rest)


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
