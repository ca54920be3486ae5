"""A proxy on loopback before an object store, which a test has refuse, hang or hang up."""

import contextlib
import http.client
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HANG, HANG_UP = "hang", "hang up"
Refusal = tuple[int, str, str]  # status, code, message
Fault = Refusal | str | None


@dataclass
class Faulty:
    """`fault` says of each request, by method and path, what becomes of it; None: it is passed on."""

    endpoint: str
    fault: Callable[[str, str], Fault] = lambda method, path: None
    asked: list[str] = field(default_factory=list[str])
    over: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def faulty(behind: str) -> Generator[Faulty]:
    """Before the server at `behind`; what hangs is let go at the end."""
    told = Faulty("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append(f"{self.command} {self.path}")
            fault = told.fault(self.command, self.path)
            if fault == HANG:
                told.over.wait(30)
            if isinstance(fault, str):
                self.close_connection = True
                return
            status, headers, content = passed_on(self, body) if fault is None else refused(fault)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in headers):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            pass

    def passed_on(asked: Handler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(urlsplit(behind).netloc, timeout=10)
        try:
            connection.request(asked.command, asked.path, body, dict(asked.headers.items()))
            answer = connection.getresponse()
            kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in ("transfer-encoding", "connection")]
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield told
    finally:
        told.over.set()
        server.shutdown()
        server.server_close()


def refused(why: Refusal) -> tuple[int, list[tuple[str, str]], bytes]:
    """As such stores say it."""
    status, code, message = why
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return status, [("Content-Type", "application/xml")], body
