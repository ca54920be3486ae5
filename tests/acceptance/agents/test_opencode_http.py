"""The real `opencode serve` over HTTP: edits, permissions, resume, abort, a wrong password."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_server.agents.base import AgentRequest, AgentResult, Update
from mcp_server.agents.opencode import OpenCodeAgent
from mcp_server.agents.opencode_rules import PASSWORD
from mcp_server.agents.task import AgentSettings
from tests.support.messages_api import MessagesApi, Say, Use
from tests.support.opencode_client import (
    MODEL,
    OPENCODE,
    opencode_environment,
    opencode_server,
    opencode_settings,
)

pytestmark = [
    pytest.mark.skipif(not OPENCODE, reason="no opencode: BO_TEST_OPENCODE or PATH should name one"),
    pytest.mark.timeout(120),
]
BROKEN, MENDED = "int add(int a, int b) { return a - b; }\n", "int add(int a, int b) { return a + b; }\n"


@asynccontextmanager
async def serving(place: Path, script: Sequence[Use | Say]) -> AsyncGenerator[tuple[str, MessagesApi]]:
    """A server with a password, and a project with a mistake in it; its address and its model."""
    folder = place / "project"
    folder.mkdir()
    (folder / "add.c").write_text(BROKEN)
    with MessagesApi(script) as api:
        (folder / "opencode.json").write_text(opencode_settings(api))
        async with opencode_server(place, opencode_environment(place / "user") | {PASSWORD: "s3cret"}) as url:
            yield url, api


def agent(url: str) -> OpenCodeAgent:
    return OpenCodeAgent(AgentSettings(name="far", provider="opencode", url=url))


async def play(url: str, place: Path, told: list[Update], session: str | None = None) -> AgentResult:
    request = AgentRequest(
        prompt="mend it", folder=str(place / "project"), commands=("python3 -V",), model=MODEL, session=session
    )
    async with asyncio.timeout(80):
        return await agent(url).run(request, {PASSWORD: "s3cret"}, told.append)


async def test_a_server_works_within_the_limits_goes_on_stops_when_told_and_wants_its_password(tmp_path: Path) -> None:
    """Issue. One server, since its start takes seconds.

    An edit and a listed command; what is outside or not listed is refused, and the task goes on. So does its session.
    A cancelled task ends the command that runs on the server. A wrong password is said to be one, and is not shown.
    """
    source, outside = tmp_path / "project" / "add.c", tmp_path / "outside.txt"
    script = [
        Use("edit", {"filePath": str(source), "oldString": "a - b", "newString": "a + b"}),
        Use("bash", {"command": "python3 -V", "description": "look"}),
        Use("bash", {"command": "python3 -V; touch x", "description": "two"}),
        Use("write", {"filePath": str(outside), "content": "x"}),
        Say("mended"),
    ]
    told: list[Update] = []
    async with serving(tmp_path, script) as (url, api):
        first = await play(url, tmp_path, told)
        seen = [(update.kind, update.text) for update in told]
        second = await play(url, tmp_path, [], first.session)
        await _cancelled_while_a_command_runs(url, api, tmp_path)
        request = AgentRequest(prompt="p", folder=str(tmp_path))
        unknown = await agent(url).run(request, {PASSWORD: "wr0ng"}, lambda _: None)

    assert source.read_text() == MENDED, seen
    assert (first.stopped, first.text, first.denied) == ("end", "mended", 2), (first, seen)
    assert ("text", "mended") in seen and ("tool", "execute python3 -V") in seen
    assert not outside.exists() and not (tmp_path / "project" / "x").exists()
    assert first.usage.turns == 5 and first.usage.output_tokens > 0 and first.usage.cost_usd is not None
    assert (second.stopped, second.session, second.usage.turns) == ("end", first.session, 1)
    assert unknown.stopped == "error"
    assert unknown.text == f"{url} wants another name or password: set agents.far.username and .password"


async def _cancelled_while_a_command_runs(url: str, api: MessagesApi, place: Path) -> None:
    running, began = place / "project" / "running", asyncio.Event()
    (place / "wait.py").write_text(
        f"import os, time; open({str(running)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    command = f"python3 {place / 'wait.py'}"
    wait = {"command": command, "description": "wait", "workdir": str(place / "project")}
    api.script = [Use("bash", wait), Say("no")]
    request = AgentRequest(prompt="wait", folder=str(place / "project"), commands=(command,), model=MODEL)

    def tell(update: Update) -> None:
        if update.kind == "tool":
            began.set()

    async with asyncio.timeout(80):
        work = asyncio.ensure_future(agent(url).run(request, {PASSWORD: "s3cret"}, tell))
        await asyncio.wait([work, waiting := asyncio.ensure_future(began.wait())], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not work.done(), work.result()
        begun = time.monotonic()
        work.cancel()
        await asyncio.wait([work])
        assert work.cancelled() and time.monotonic() - begun < 4
        if running.exists() and (pid := running.read_text()):
            while Path(f"/proc/{pid}/exe").exists():  # noqa: ASYNC110  # another program ends it
                await asyncio.sleep(0.05)
