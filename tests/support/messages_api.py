"""A model that plays a part: a loopback stand-in for the Messages API that follows a script and keeps what it got.

A turn is picked by how many tool results the conversation holds, so a request that is sent twice gets one answer twice.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Say:
    """The model ends its turn with words."""

    text: str


@dataclass(frozen=True)
class Use:
    """The model uses a tool."""

    tool: str
    input: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ToolResult:
    """What a model is given of a tool's answer."""

    text: str
    is_error: bool


class MessagesApi:
    """Serves on a loopback port from `with` to its end. `url` is what a client takes for its base URL."""

    def __init__(self, script: Sequence[Say | Use]) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []

        class Handler(_Handler):
            answer = staticmethod(self._answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def tool_results(self) -> list[ToolResult]:
        """Every tool result of the conversation, in order, as it stood on the wire."""
        longest = max((_results(body) for body in self.requests), key=len, default=[])
        return [ToolResult(_text(block.get("content", "")), bool(block.get("is_error"))) for block in longest]

    def tools(self) -> dict[str, dict[str, Any]]:
        """Every tool that was ever offered, by its full name."""
        return {tool["name"]: tool for body in self.requests for tool in body.get("tools", [])}

    def _answer(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        if not body.get("tools"):  # a title, a summary: no part of the play
            return [{"type": "text", "text": "ok"}]
        self.requests.append(body)
        done = len(_results(body))
        turn = self.script[min(done, len(self.script) - 1)]
        if isinstance(turn, Say):
            return [{"type": "text", "text": turn.text}]
        return [{"type": "tool_use", "id": f"toolu_{done:04}", "name": turn.tool, "input": turn.input}]


def _results(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return [block for content in contents for block in content if block.get("type") == "tool_result"]


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Any

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        """Nothing: a test's output is for its findings."""

    def do_GET(self) -> None:
        self._send(404, "application/json", b'{"type":"error","error":{"type":"not_found_error","message":"stub"}}')

    do_HEAD = do_GET  # noqa: N815  # the name is the base class's

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if "count_tokens" in self.path:
            return self._send(200, "application/json", b'{"input_tokens": 10}')
        if not self.path.split("?")[0].endswith("/v1/messages"):
            return self._send(200, "application/json", b"{}")
        blocks = self.answer(body)
        message = {
            "id": "msg_stub",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", "stub"),
            "content": blocks,
            "stop_reason": "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not body.get("stream"):
            return self._send(200, "application/json", json.dumps(message).encode())
        events = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _events(message))
        return self._send(200, "text/event-stream", events.encode())

    def _send(self, code: int, kind: str, data: bytes) -> None:
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A finished message as the stream it would have been."""
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start, delta = (
                {**block, "input": {}},
                {"type": "input_json_delta", "partial_json": json.dumps(block["input"])},
            )
        yield {"type": "content_block_start", "index": index, "content_block": start}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}
