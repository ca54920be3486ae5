"""Loopback receivers: an HTTP server that keeps what it gets, and an OpenClaw that notes its words."""

import json
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Receiver:
    """`status` is its answer; while `hold` is clear it takes a request and does not answer."""

    url: str
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    @property
    def texts(self) -> list[str]:
        return [str(body.get("text") or body.get("content") or body.get("message")) for _, body in self.got]


@contextmanager
def receiver() -> Generator[Receiver]:
    """A receiver on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(content)
            except ValueError:
                body = {"content": content.decode(errors="replace")}
            here.got.append((self.path, body))
            here.hold.wait(20)
            answer = b'{"ok": true}' if here.status < 300 else b'{"ok": false, "description": "no"}'
            try:
                self.send_response(here.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here = Receiver(f"http://127.0.0.1:{server.server_port}")
    here.hold.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def openclaw(folder: Path, exit_code: int = 0) -> tuple[str, Path]:
    """A command that writes its arguments, one JSON list a call, and ends with `exit_code`; its path and that file."""
    notes, command = folder / "openclaw.notes", folder / "openclaw"
    words = f"import json, sys\nopen({str(notes)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))\n"
    command.write_text(f"#!{sys.executable}\n{words}sys.exit({exit_code})\n")
    command.chmod(0o755)
    return str(command), notes
