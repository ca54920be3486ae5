"""The provider for an OpenCode server against servers that are silent, wrong or not there."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mcp_server.agents import opencode_session
from mcp_server.agents.base import AgentRequest, AgentResult, Update
from mcp_server.agents.opencode import OpenCodeAgent
from mcp_server.agents.task import AgentSettings

ASKED = {"id": "per_1", "sessionID": "ses_1", "permission": "bash", "patterns": ["rm x"], "metadata": {}, "always": []}
DONE = {
    "info": {"id": "msg_1", "role": "assistant", "tokens": {"input": 7, "output": 2}, "cost": 0.5},
    "parts": [{"type": "text", "text": "mended"}],
}


class Silent(BaseHTTPRequestHandler):
    """Sends heartbeats and nothing else; the session asks one question and is idle once it is answered."""

    replies: list[dict[str, str]]
    over: threading.Event

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Nothing."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/event":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b'data: {"type": "server.connected", "properties": {}}\n\n')
            self.wfile.flush()
            self.over.wait(20)
            return
        state = {} if self.replies else {"ses_1": {"type": "busy"}}
        asked = [] if self.replies else [ASKED]
        self._send({"/session/status": state, "/permission": asked, "/session/ses_1/message": [DONE]}[path])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        path = self.path.split("?")[0]
        if path.endswith("/reply"):
            self.replies.append(body)
        self._send({"id": "ses_1"} if path == "/session" else True)

    def _send(self, answer: object) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def silent() -> Iterator[tuple[str, list[dict[str, str]]]]:
    replies: list[dict[str, str]] = []
    handler = type("Handler", (Silent,), {"replies": replies, "over": (over := threading.Event())})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", replies
    over.set()
    server.shutdown()
    server.server_close()
    thread.join()


async def run(url: str, folder: Path, told: list[Update]) -> AgentResult:
    agent = OpenCodeAgent(AgentSettings(name="far", provider="opencode", url=url))
    async with asyncio.timeout(10):
        return await agent.run(AgentRequest(prompt="p", folder=str(folder)), {}, told.append)


async def test_silent_server_is_asked(
    tmp_path: Path, silent: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Some versions send heartbeats only: the question is answered and the end is seen all the same."""
    monkeypatch.setattr(opencode_session, "SILENT_S", 0.1)
    url, replies = silent
    told: list[Update] = []
    result = await run(url, tmp_path, told)

    assert (result.stopped, result.text, result.denied) == ("end", "mended", 1)
    assert (result.usage.turns, result.usage.input_tokens, result.usage.cost_usd) == (1, 7, 0.5)
    assert [reply["reply"] for reply in replies] == ["reject"] and "'rm x' is not among" in replies[0]["message"]


async def test_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """Ours."""
    result = await run("http://127.0.0.1:9", tmp_path, [])

    assert result.stopped == "error" and result.text.startswith("http://127.0.0.1:9 does not answer: ")


async def test_availability_asks_for_the_address() -> None:
    """Ours."""
    found = await OpenCodeAgent(AgentSettings(name="far", provider="opencode")).availability({})

    assert not found.available and "agents.far.url" in found.text
