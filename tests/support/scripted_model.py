"""A model that plays a part over a loopback Messages API, for any agent: it uses the tools that it is offered.

The move is picked by how many answers the conversation holds already, so a request that is sent twice gets one answer
twice; a client that does not send the whole conversation gets the first move for ever.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Say:
    """The model ends its turn with words."""

    text: str
    stop: str = "end_turn"


@dataclass(frozen=True)
class Read:
    path: str


@dataclass(frozen=True)
class Edit:
    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Run:
    command: str


@dataclass(frozen=True)
class Use:
    """A tool by its name. `stop`: why the answer ended."""

    tool: str
    input: dict[str, Any] = field(default_factory=dict[str, Any])
    stop: str = "tool_use"


@dataclass(frozen=True)
class Talk:
    """Words without an end, a piece every `pause_s`."""

    piece: str
    pause_s: float = 0.0


@dataclass(frozen=True)
class Fail:
    """An answer that is none: an HTTP error, or with status 200 an error in the middle of the stream."""

    status: int
    kind: str = "api_error"
    message: str = "stub"


Move = Say | Read | Edit | Run | Use | Talk


class ScriptedModel:
    """Serves on a loopback port from `with` to its end.

    `failures` are answered first, one a request; the last stays if `failing`. `requests` are the bodies that carried
    tools, `headers` theirs. `talking` is set by the first piece of a Talk, `hung_up` when its reader went away.
    """

    def __init__(
        self,
        script: Sequence[Move],
        *,
        failures: Sequence[Fail] = (),
        failing: bool = False,
        folder: str = "",
        usage: Mapping[str, int] | None = None,
        gets: Mapping[str, object] | None = None,
    ) -> None:
        self.script, self.failures, self.failing = list(script), list(failures), failing
        self.folder, self.gets = folder, dict(gets or {})
        self.usage = dict(usage or {"input_tokens": 10, "output_tokens": 5})
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.talking, self.hung_up, self.closing = threading.Event(), threading.Event(), threading.Event()

        class Handler(_Handler):
            model = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def results(self) -> list[tuple[str, bool]]:
        """Text and is_error of every tool result, in order, of the longest conversation."""
        longest = max(self.requests, key=lambda body: len(body["messages"]), default={"messages": []})
        blocks = [block for message in longest["messages"] for block in _blocks(message)]
        return [
            (_text(block.get("content", "")), bool(block.get("is_error")))
            for block in blocks
            if block.get("type") == "tool_result"
        ]

    def move(self, body: dict[str, Any]) -> Move | Fail:
        if self.failures:
            return self.failures[0] if self.failing and len(self.failures) == 1 else self.failures.pop(0)
        done = sum(message["role"] == "assistant" for message in body["messages"])
        return self.script[min(done, len(self.script) - 1)]

    def use(self, move: Read | Edit | Run | Use, offered: set[str]) -> tuple[str, dict[str, Any]]:
        """A move as a call of one of the tools that were offered."""
        match move:
            case Use():
                return move.tool, move.input
            case Read() | Edit() | Run() if "edit" in offered:
                return self._use_opencode(move)
            case Run() if "Bash" in offered:
                return "Bash", {"command": move.command, "description": "run"}
            case Run():
                return "run", {"command": move.command}
            case Read() if "Read" in offered:
                return "Read", {"file_path": self._at(move.path)}
            case Read():
                return "str_replace_based_edit_tool", {"command": "view", "path": move.path}
            case Edit() if "Edit" in offered:
                given = {"old_string": move.old, "new_string": move.new}
                return "Edit", {"file_path": self._at(move.path), **given}
            case Edit():
                given = {"old_str": move.old, "new_str": move.new}
                return "str_replace_based_edit_tool", {"command": "str_replace", "path": move.path, **given}

    def _use_opencode(self, move: Read | Edit | Run) -> tuple[str, dict[str, Any]]:
        match move:
            case Run():
                return "bash", {"command": move.command, "description": "run"}
            case Read():
                return "read", {"filePath": self._at(move.path)}
            case Edit():
                return "edit", {"filePath": self._at(move.path), "oldString": move.old, "newString": move.new}

    def _at(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.folder}/{path}"


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ScriptedModel

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        """Nothing: a test's output is for its findings."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path in self.model.gets:
            return self._json(200, self.model.gets[path])
        return self._json(404, {"type": "error", "error": {"type": "not_found_error", "message": "stub"}})

    do_HEAD = do_GET  # noqa: N815  # the name is the base class's

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if "count_tokens" in self.path:
            return self._json(200, {"input_tokens": 10})
        if not self.path.split("?")[0].endswith("/v1/messages"):
            return self._json(200, {})
        if not body.get("tools"):  # a title, a summary: no part of the play
            return self._answer(body, Say("ok"))
        self.model.requests.append(body)
        self.model.headers.append({name.lower(): value for name, value in self.headers.items()})
        return self._answer(body, self.model.move(body))

    def _answer(self, body: dict[str, Any], move: Move | Fail) -> None:
        if isinstance(move, Fail) and move.status != 200:
            error = {"type": "error", "error": {"type": move.kind, "message": move.message}}
            return self._json(move.status, error, {"retry-after-ms": "1", "x-should-retry": _again(move.status)})
        offered = {tool["name"] for tool in body.get("tools", [])}
        if not body.get("stream"):
            message = _message(body, self.model)
            assert isinstance(move, Say), "only a title is asked for without a stream"
            return self._json(
                200, {**message, "content": [{"type": "text", "text": move.text}], "stop_reason": "end_turn"}
            )
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for event in self._events(_message(body, self.model), move, offered):
                data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.model.hung_up.set()
            self.close_connection = True
        return None

    def _events(self, message: dict[str, Any], move: Move | Fail, offered: set[str]) -> Iterator[dict[str, Any]]:
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        yield {"type": "message_start", "message": message}
        match move:
            case Fail():
                yield {"type": "error", "error": {"type": move.kind, "message": move.message}}
                return
            case Say():
                yield from _text_block([move.text])
                stop["stop_reason"] = move.stop
            case Talk():
                yield from _text_block(self._pieces(move))
            case _:
                name, given = self.model.use(move, offered)
                block = {"type": "tool_use", "id": f"toolu_{time.time_ns()}", "name": name, "input": {}}
                yield {"type": "content_block_start", "index": 0, "content_block": block}
                delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
                yield {"type": "content_block_delta", "index": 0, "delta": delta}
                yield {"type": "content_block_stop", "index": 0}
                stop["stop_reason"] = move.stop if isinstance(move, Use) else "tool_use"
        yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": self.model.usage["output_tokens"]}}
        yield {"type": "message_stop"}

    def _pieces(self, move: Talk) -> Iterator[str]:
        while not self.model.closing.wait(move.pause_s):
            yield move.piece
            self.model.talking.set()

    def _json(self, code: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _again(status: int) -> str:
    return "true" if status == 429 or status >= 500 else "false"


def _text_block(pieces: Iterator[str] | Sequence[str]) -> Iterator[dict[str, Any]]:
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for piece in pieces:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    yield {"type": "content_block_stop", "index": 0}


def _message(body: dict[str, Any], model: ScriptedModel) -> dict[str, Any]:
    return {
        "id": f"msg_{time.time_ns()}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stub"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**model.usage, "output_tokens": 1},
    }
