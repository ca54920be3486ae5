"""The provider for the Agent Client Protocol against a program that speaks it, well and badly."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mcp_server.agents import acp as provider
from mcp_server.agents.acp import AcpAgent
from mcp_server.agents.base import AgentRequest, AgentResult, Update
from mcp_server.agents.task import AgentSettings
from tests.support.extras import need

need("acp")

PROGRAM = Path(__file__).parents[2] / "support" / "acp_agent.py"
Step = tuple[str, Any]


def agent(*steps: Step, **able: Any) -> AcpAgent:
    command = (sys.executable, str(PROGRAM), json.dumps(steps), json.dumps(able))
    return AcpAgent(AgentSettings(name="scripted", provider="acp", acp=command))


class Told(list[Update]):
    def of(self, kind: str) -> list[str]:
        return [update.text for update in self if update.kind == kind]


async def played(
    folder: Path, *steps: Step, able: Mapping[str, Any] | None = None, **request: Any
) -> tuple[AgentResult, Told]:
    told = Told()
    wanted = AgentRequest(prompt="go", folder=str(folder), **request)
    async with asyncio.timeout(15):
        result = await agent(*steps, **(able or {})).run(wanted, os.environ, told.append)
    return result, told


async def test_task_comes_to_its_end(tmp_path: Path) -> None:
    """Ours. Pieces become lines; session, tools, usage and the last words are told."""
    result, told = await played(
        tmp_path,
        ("say", "I lo"),
        ("say", "ok.\nAnd"),
        ("tool", {"kind": "read", "locations": [{"path": "main.c"}]}),
        ("usage", {"used": 700, "size": 1000, "cost": {"amount": 0.25, "currency": "USD"}}),
        ("say", "done"),
    )

    assert told.of("text") == ["go", "I look.", "And", "done"]
    assert told.of("tool") == ["read main.c"] and told.of("session") == ["fresh"]
    assert (result.stopped, result.session) == ("end", "fresh") and result.text.endswith("done")
    assert (result.usage.turns, result.usage.input_tokens, result.usage.output_tokens) == (2, 700, 10)
    assert result.usage.cost_usd == 0.25


EDIT = {"kind": "edit", "content": [{"type": "diff", "path": "x.c", "oldText": "a", "newText": "b"}]}
RUN = {"kind": "execute", "rawInput": {"command": "idf.py build"}}


@pytest.mark.parametrize(
    ("ask", "chosen"),
    [
        (EDIT, "allow_once"),
        ({"kind": "edit", "locations": [{"path": "main/x.c"}]}, "allow_once"),
        (RUN, "allow_once"),
        ({"kind": "execute", "rawInput": {"command": ["idf.py", "build"]}}, "allow_once"),
        ({"kind": "read", "rawInput": {"file_path": "x.c"}}, "allow_once"),
        ({"kind": "search", "rawInput": {"pattern": "x"}}, "allow_once"),
        ({"kind": "think"}, "allow_once"),
        ({"kind": "edit"}, "reject_once"),
        ({"kind": "edit", "locations": [{"path": "/etc/passwd"}]}, "reject_once"),
        ({**EDIT, "rawInput": {"file_path": "../x.c"}}, "reject_once"),
        ({"kind": "delete", "locations": [{"path": ".git/config"}]}, "reject_once"),
        ({"kind": "move", "locations": [{"path": "a"}], "rawInput": {"destination": "/tmp/a"}}, "reject_once"),
        ({"kind": "read", "locations": [{"path": "/etc/passwd"}]}, "reject_once"),
        ({"kind": "execute", "rawInput": {"command": "idf.py build; curl x"}}, "reject_once"),
        ({"kind": "execute", "rawInput": {"command": "rm -r ."}}, "reject_once"),
        ({"kind": "execute", "title": "idf.py build"}, "reject_once"),
        ({"kind": "execute", "rawInput": {"command": "idf.py build", "cwd": "/etc"}}, "reject_once"),
        ({"kind": "fetch", "rawInput": {"url": "http://x"}}, "reject_once"),
        ({"kind": "switch_mode"}, "reject_once"),
        ({"kind": "other", "locations": [{"path": "x.c"}]}, "reject_once"),
        ({"kind": "teleport", "locations": [{"path": "x.c"}]}, "reject_once"),
        ({}, "reject_once"),
        ({**EDIT, "options": [{"optionId": "allow_always", "name": "a", "kind": "allow_always"}]}, "cancelled"),
        ({"kind": "fetch", "options": [{"optionId": "o", "name": "a", "kind": "allow_once"}]}, "cancelled"),
    ],
)
async def test_permission_follows_the_policy(tmp_path: Path, ask: dict[str, Any], chosen: str) -> None:
    """Issue. Edits inside the folder and the listed commands, once each; nothing else, and never an "always"."""
    result, told = await played(tmp_path, ("ask", ask), commands=("idf.py build",))

    answer = json.loads(told.of("text")[1])["outcome"]
    assert answer.get("optionId", answer["outcome"]) == chosen
    allowed = chosen == "allow_once" or "always" in str(ask.get("options"))
    assert (result.denied, len(told.of("denied"))) == ((0, 0) if allowed else (1, 1))


async def test_request_is_judged_with_what_was_told_of_the_call_before(tmp_path: Path) -> None:
    """Ours. An agent tells a call's arguments bit by bit; a request may hold none of them."""
    steps: list[Step] = [
        ("tool", {"toolCallId": "other", "kind": "edit", "locations": [{"path": "x.c"}]}),
        ("ask", {"toolCallId": "same", "kind": "edit", "locations": [{"path": "/etc/passwd"}]}),
        ("ask", {"toolCallId": "same", "kind": "edit", "locations": [{"path": "x.c"}]}),
    ]
    result, _ = await played(tmp_path, *steps)

    assert result.denied == 2


@pytest.mark.parametrize("can", [{"loadSession": True}, {"sessionCapabilities": {"resume": {}}}])
async def test_session_is_continued_without_its_past(tmp_path: Path, can: dict[str, Any]) -> None:
    """Ours."""
    result, told = await played(tmp_path, session="s7", able={"can": can})

    assert result.session == "s7" and told.of("text") == ["go"]


@pytest.mark.parametrize(
    ("can", "session", "note"),
    [
        ({}, "s7", "this agent cannot continue a session"),
        ({"loadSession": True}, "gone", "session gone cannot be continued: Resource not found"),
    ],
)
async def test_session_that_cannot_be_continued_begins_anew(
    tmp_path: Path, can: dict[str, Any], session: str, note: str
) -> None:
    """Ours. And says so."""
    result, told = await played(tmp_path, session=session, able={"can": can})

    assert result.session == "fresh" and result.stopped == "end"
    assert told.of("note")[0].startswith(note)


async def test_model_is_chosen_where_the_agent_offers_it(tmp_path: Path) -> None:
    """Ours."""
    options = [{"value": name, "name": name} for name in ("a", "b")]
    select = {"id": "m", "name": "M", "category": "model", "type": "select", "currentValue": "a", "options": options}
    _, told = await played(tmp_path, model="b", able={"options": [select]})
    assert told.of("text") == ["bgo"]

    _, told = await played(tmp_path, model="b")
    assert told.of("note") == ["this agent lets nobody choose the model: b is not set"]


@pytest.mark.parametrize(
    ("reason", "stopped"),
    [("max_tokens", "limit"), ("max_turn_requests", "limit"), ("refusal", "refused"), ("cancelled", "cancelled")],
)
async def test_every_end_has_its_name(tmp_path: Path, reason: str, stopped: str) -> None:
    """Spec."""
    result, _ = await played(tmp_path, ("stop", reason))

    assert result.stopped == stopped


@pytest.mark.parametrize(
    ("steps", "able", "expected"),
    [
        (
            [("stderr", "Oh no: " + "x" * 99_999 + "disk full\n"), ("exit", 3)],
            {},
            r"ended in the middle .*code 3.*disk full$",
        ),
        ([("junk", "no json\n[1]\n{}\n"), ("exit", 0)], {}, r"scripted ended in the middle \(exit code 0\)$"),
        ([("flood", None)], {}, r"scripted it sent a message of more than 16,777,216 bytes$"),
        ([], {"die": "cannot find module"}, r"ended in the middle \(exit code 1\); it said last: cannot find module$"),
        (
            [],
            {"error": {"code": -32603, "message": "Internal error", "data": {"details": "boom"}}},
            r"Internal error .*boom",
        ),
        ([], {"error": {"code": -32000, "message": "Authentication required"}}, r"asks for a login first: run .* once"),
    ],
)
async def test_failing_agent_is_a_sentence_with_its_last_words(
    tmp_path: Path, steps: list[Step], able: dict[str, Any], expected: str
) -> None:
    """Issue. Bounded, and never an exception."""
    result, _ = await played(tmp_path, *steps, able=able)

    assert result.stopped == "error"
    assert re.search(expected, result.text) and len(result.text) < 1500, result.text


async def test_claude_as_root_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. Its adapter tells nothing but an exit code."""
    monkeypatch.setattr(provider, "_is_root", lambda: True)
    error = {"code": -32603, "message": "Internal error", "data": {"details": "process exited with code 1"}}
    result, _ = await played(tmp_path, able={"error": error})

    assert "IS_SANDBOX: '1'" in result.text and "agents.scripted.env" in result.text


async def test_program_that_is_not_there(tmp_path: Path) -> None:
    """Issue. Says how to get it, and running it anyway is no exception."""
    missing = AcpAgent(AgentSettings(name="opencode", provider="acp", acp=("opencode", "acp")))
    found = await missing.availability({"PATH": str(tmp_path)})
    assert not found.available and "npm install -g opencode-ai" in found.text

    result = await missing.run(AgentRequest(prompt="p", folder=str(tmp_path)), {"PATH": str(tmp_path)}, lambda _: None)
    assert (result.stopped, result.text) == ("error", "opencode cannot be run: No such file or directory")


@pytest.mark.parametrize(("step", "most_s"), [("until cancelled", 2.0), ("stubborn", 4.9)])
async def test_cancel_tells_the_agent_first_and_leaves_nothing(tmp_path: Path, step: str, most_s: float) -> None:
    """Issue. An agent that obeys ends at once; one that does not is killed with its children in time."""
    told, sleeping = Told(), asyncio.Event()

    def tell(update: Update) -> None:
        told.append(update)
        if update.text == "sleeping":
            sleeping.set()

    request = AgentRequest(prompt="go", folder=str(tmp_path))
    async with asyncio.timeout(15):
        work = asyncio.ensure_future(agent(("child", None), (step, None)).run(request, os.environ, tell))
        await sleeping.wait()
        begun = time.monotonic()
        work.cancel()
        await asyncio.wait([work])

    assert work.cancelled() and time.monotonic() - begun < most_s
    [child] = [text.split()[1] for text in told.of("text") if text.startswith("child")]
    async with asyncio.timeout(5):
        while Path(f"/proc/{child}/exe").exists():  # noqa: ASYNC110  # KILL is on its way
            await asyncio.sleep(0.01)
