"""The `anthropic` and `ollama` agents: the real SDK against a scripted model on loopback, real files, real commands."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_server.agents import conversation
from mcp_server.agents.anthropic_api import AnthropicAgent
from mcp_server.agents.base import AgentRequest, AgentResult, Update
from tests.support.extras import need
from tests.support.scripted_model import Edit, Fail, Move, Read, Run, Say, ScriptedModel, Talk, Use

need("anthropic")
pytestmark = pytest.mark.usefixtures("sdk")

KEY = "sk-ant-api03-very-secret"
CHECK = f"{sys.executable} calc.py"
FIX: Sequence[Move] = [Read("calc.py"), Edit("calc.py", "a - b", "a + b"), Run(CHECK), Say("mended")]


@dataclass(frozen=True)
class Given:
    """Settings of an agent."""

    name: str
    model: str | None = None
    url: str | None = None


class Heard(list[Update]):
    """What an agent told."""

    def of(self, kind: str) -> list[str]:
        return [update.text for update in self if update.kind == kind]


async def ask(
    served: ScriptedModel,
    project: Path,
    heard: Heard | None = None,
    agent: AnthropicAgent | None = None,
    **request: Any,
) -> AgentResult:
    given = AgentRequest.model_validate(
        {"prompt": "mend it", "folder": str(project), "commands": (CHECK,), "model": "claude-opus-5", **request}
    )
    environment = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": served.url}
    tell = (Heard() if heard is None else heard).append
    async with asyncio.timeout(20):
        return await (agent or AnthropicAgent(Given("anthropic"), retries=1)).run(given, environment, tell)


async def test_file_is_read_changed_and_checked(project: Path) -> None:
    """Ours. Updates tell each step; usage is the sum over all answers, at the list price."""
    heard = Heard()
    with ScriptedModel(FIX) as model:
        result = await ask(model, project, heard)

    assert (result.stopped, result.text, result.denied) == ("end", "mended", 0)
    assert "a + b" in (project / "calc.py").read_text()
    assert model.results()[2] == ("exit code 0\ncalc ok\n", False)
    assert heard.of("tool") == [
        "str_replace_based_edit_tool view calc.py",
        "str_replace_based_edit_tool str_replace calc.py",
        f"run {CHECK}",
    ]
    assert heard.of("text") == ["mended"]
    assert (result.usage.turns, result.usage.input_tokens, result.usage.output_tokens) == (4, 40, 20)
    assert result.usage.cost_usd == pytest.approx((40 * 5 + 20 * 25) / 1e6)


async def test_every_request_is_whole(project: Path) -> None:
    """Facts. Compatible servers keep no threads: tools, system and the whole conversation go with each request."""
    with ScriptedModel(FIX) as model:
        await ask(model, project)

    assert [len(body["messages"]) for body in model.requests] == [1, 3, 5, 7]
    assert all(len(body["tools"]) == 4 and body["system"] and "thread" not in body for body in model.requests)


async def test_compatible_server_gets_the_key_in_both_headers(project: Path) -> None:
    """Facts. The SDK sends a bearer token only; some servers read x-api-key."""
    with ScriptedModel([Say("ok")]) as model:
        await ask(model, project)

    assert (model.headers[0]["authorization"], model.headers[0]["x-api-key"]) == (f"Bearer {KEY}", KEY)


async def test_cached_tokens_count_as_input(project: Path) -> None:
    """Ours. Read from and written to the cache are input too, each at its price; all before the last block is kept."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 100,
        "output_tokens": 5,
    }
    with ScriptedModel([Say("ok")], usage=usage) as model:
        result = await ask(model, project)

    assert result.usage.input_tokens == 1110
    assert result.usage.cost_usd == pytest.approx((10 * 5 + 1000 * 0.5 + 100 * 6.25 + 5 * 25) / 1e6)
    assert model.requests[0]["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}


async def test_unknown_model_has_no_price(project: Path) -> None:
    """Ours. None rather than a guess."""
    with ScriptedModel([Say("ok")]) as model:
        result = await ask(model, project, model="qwen3-coder")

    assert (result.stopped, result.usage.cost_usd) == ("end", None)


async def test_forbidden_things_are_refused_and_counted(project: Path) -> None:
    """Issue. Edits outside, also through a link, other commands, shell operators, Git's own files."""
    outside = project.parent / "outside.py"
    outside.write_text("a - b\n")
    (project / "link.py").symlink_to(outside)
    (project / "folder").symlink_to(project.parent)
    script = [
        Edit("../outside.py", "a - b", "a + b"),
        Edit(str(outside), "a - b", "a + b"),
        Edit("link.py", "a - b", "a + b"),
        Use("str_replace_based_edit_tool", {"command": "create", "path": "folder/new.py", "file_text": "x"}),
        Read("/etc/passwd"),
        Run("rm -rf ."),
        Run(f"{CHECK}; touch stolen"),
        Use("str_replace_based_edit_tool", {"command": "create", "path": ".git/hooks/pre-commit", "file_text": "x"}),
        Say("done"),
    ]
    heard = Heard()
    with ScriptedModel(script) as model:
        result = await ask(model, project, heard)

    assert (result.stopped, result.denied, len(heard.of("denied"))) == ("end", 8, 8)
    assert all(error for _, error in model.results())
    assert outside.read_text() == "a - b\n"
    assert not (project.parent / "new.py").exists()
    assert sorted(path.name for path in project.iterdir()) == ["calc.py", "folder", "link.py"]


async def test_nothing_is_planted_where_the_build_writes(project: Path) -> None:
    """Issue: the real compile is the only judge. What it made may be read."""
    (project / "build").mkdir()
    (project / "build" / "app.elf").write_text("broken\n")
    create = {"command": "create", "file_text": "x"}
    script = [
        Read("build/app.elf"),
        Edit("build/app.elf", "broken", "mended"),
        Use("str_replace_based_edit_tool", {**create, "path": "build/main/main.o"}),
        Say("built"),
    ]
    with ScriptedModel(script) as model:
        result = await ask(model, project, closed=("build",))

    assert [error for _, error in model.results()] == [False, True, True]
    assert (result.stopped, result.denied) == ("end", 2)
    assert "build/app.elf is in build, where only the build itself writes" in model.results()[1][0]
    assert [path.name for path in (project / "build").iterdir()] == ["app.elf"]
    assert (project / "build" / "app.elf").read_text() == "broken\n"


async def test_command_does_not_see_the_key(project: Path) -> None:
    """Issue. What a command prints goes to the model and into the log."""
    (project / "calc.py").write_text("import os\nprint(sorted(os.environ))\n")
    with ScriptedModel([Run(CHECK), Say("ok")]) as model:
        await ask(model, project)

    assert "PATH" in model.results()[0][0]
    assert "ANTHROPIC_API_KEY" not in model.results()[0][0]


async def test_cancelling_hangs_up_at_once(project: Path) -> None:
    """Facts. A model in the middle of an endless answer."""
    with ScriptedModel([Talk("tick ", 0.01)]) as model:
        task = asyncio.create_task(ask(model, project))
        await asyncio.to_thread(model.talking.wait, 10)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.monotonic() - begun
        gone = await asyncio.to_thread(model.hung_up.wait, 5)

    assert took < 2
    assert gone


async def test_cancelling_kills_a_running_command(project: Path) -> None:
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
        numbers = [int(word) for word in (await asyncio.to_thread(pids.read_text)).split()]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert not [number for number in numbers if _runs(number)]


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
    except FileNotFoundError:
        return False


async def test_endless_answer_is_hung_up_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue. A server that ignores max_tokens; what is told stays in pieces."""
    monkeypatch.setattr(conversation, "MAX_ANSWER_BYTES", 50_000)
    heard = Heard()
    with ScriptedModel([Talk("word " * 200)]) as model:
        result = await ask(model, project, heard)

    assert (result.stopped, result.text) == ("limit", "one answer went on after 50,000 letters")
    assert 40_000 < sum(map(len, heard.of("text"))) < 60_000
    assert max(map(len, heard.of("text"))) <= 1000


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        ({"max_turns": 3}, "3 turns were allowed"),
        ({"max_tokens": 100}, "100 tokens were allowed, 105 are used"),
        ({"max_cost_usd": 0.0005}, "$0.0005 was allowed, $0.000525 is spent"),
        ({"max_cost_usd": 0.0005, "model": "new"}, "$0.0005 was allowed, $0.0007 is spent by the dearest known price"),
    ],
)
async def test_budget_ends_it(project: Path, budget: dict[str, Any], sentence: str) -> None:
    """Issue. A model that goes round in circles."""
    with ScriptedModel([Read("calc.py")]) as model:
        result = await ask(model, project, **budget)

    assert result.stopped == "limit"
    assert result.text.startswith(sentence)


async def test_long_conversation_ends(project: Path) -> None:
    """Ours. What is sent each time is bounded."""
    with ScriptedModel([Read("calc.py")], usage={"input_tokens": 200_000, "output_tokens": 5}) as model:
        result = await ask(model, project)

    assert result.stopped == "limit"
    assert result.text == "the conversation has 200,005 tokens: at most 180,000 are sent"


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        (Fail(401, "authentication_error", f"invalid x-api-key {KEY}"), "refused the key (invalid x-api-key ***)"),
        (Fail(404, "not_found_error", "model: nonsuch"), "knows no model claude-opus-5"),
        (Fail(429, "rate_limit_error", "slow down"), "allows no more requests now"),
        (Fail(529, "overloaded_error", "Overloaded"), "is overloaded: try again"),
        (Fail(400, "invalid_request_error", "Your credit balance is too low"), "is out of credit"),
        (Fail(400, "invalid_request_error", "max_tokens: too many"), "refused the request (400): max_tokens"),
        (Fail(500, "api_error", "Internal"), "has a fault of its own (500: Internal)"),
    ],
)
async def test_error_is_one_sentence_without_the_key(project: Path, fail: Fail, sentence: str) -> None:
    """Ours. It says what to do; 429, 5xx and 529 were tried again by the SDK."""
    with ScriptedModel([Say("ok")], failures=[fail], failing=True) as model:
        result = await ask(model, project)

    assert result.stopped == "error"
    assert sentence in result.text
    assert "\n" not in result.text
    assert KEY not in result.text
    assert len(model.requests) == (2 if fail.status in (429, 500, 529) else 1)


async def test_passing_fault_is_tried_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. By the SDK before the answer, by us in its middle."""
    monkeypatch.setattr(conversation, "_AGAIN_S", 0.01)
    heard = Heard()
    failures = [Fail(529, "overloaded_error"), Fail(200, "overloaded_error", "Overloaded")]
    with ScriptedModel([Say("ok")], failures=failures) as model:
        result = await ask(model, project, heard)

    assert (result.stopped, result.text) == ("end", "ok")
    assert heard.of("note") == ["the answer broke off; it is asked for again"]


async def test_cut_answer_goes_on_in_smaller_steps(project: Path) -> None:
    """Ours. A tool call that was cut is not used; four cuts in a row end it."""
    cut = Use("str_replace_based_edit_tool", {"command": "create", "path": "new.py"}, stop="max_tokens")
    with ScriptedModel([cut, Say("ok")]) as model:
        result = await ask(model, project)
    with ScriptedModel([cut]) as endless:
        stopped = await ask(endless, project)

    assert (result.stopped, model.results()[0][1]) == ("end", True)
    assert "cut at 16,384 tokens" in model.results()[0][0]
    assert (stopped.stopped, stopped.text) == ("limit", "4 answers were cut at 16,384 tokens")
    assert not (project / "new.py").exists()


async def test_model_that_refuses_is_told_apart(project: Path) -> None:
    """Ours."""
    with ScriptedModel([Say("no", stop="refusal")]) as model:
        result = await ask(model, project)

    assert (result.stopped, result.text) == ("refused", "no")


async def test_nonsense_of_a_model_is_answered(project: Path) -> None:
    """Ours. A tool that is not there, arguments that are none, a file that is not there."""
    script = [Use("Bash", {"command": "ls"}), Use("run"), Use("search", {"pattern": "("}), Read("nowhere.c"), Say("ok")]
    with ScriptedModel(script) as model:
        result = await ask(model, project)

    assert (result.stopped, result.denied) == ("end", 0)
    assert [error for _, error in model.results()] == [True] * 4
    assert model.results()[0][0].startswith("there is no tool Bash: use ")
    assert model.results()[3][0] == "nowhere.c is not there"


async def test_nothing_blocks_the_loop(project: Path) -> None:
    """Ours. While a search runs over a pattern that explodes, the loop still turns; the search is given up."""
    (project / "calc.py").write_text("a" * 5000 + "\n")
    with ScriptedModel([Use("search", {"pattern": "(a|aa)+$b"}), Say("ok")]) as model:
        task = asyncio.create_task(ask(model, project))
        slowest = 0.0
        while not task.done():
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - begun)

    assert task.result().stopped == "end"
    assert slowest < 0.5
    assert threading.active_count() < 50
