"""A client made of pipes, where a test must see the bytes or kill one side."""

import contextlib
import json
import os
import select
import subprocess
from typing import Any

LIMIT_S = 30


class Wire:
    """A server process and its three pipes; the handshake of 2025-11-25 is done."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        self._number, self._held = 0, b""
        client = {"name": "wire", "version": "1"}
        self.hello = self.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        self.send(method="notifications/initialized")

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def start(self, method: str, **params: Any) -> int:
        """Send a request and return its number; the answer may be read later."""
        self._number += 1
        self.send(id=self._number, method=method, params=params)
        return self._number

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = self.start(method, **params)
        while (message := self.read()).get("id") != number:
            pass
        return message["result"]

    def read(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        return json.loads(self.line())

    def line(self) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._held:  # not in the pipe's own buffer: select would not see what lies there
            ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
            assert ready, "the server says nothing"
            piece = os.read(self.process.stdout.fileno(), 65_536)
            assert piece, (self.process.stderr.read() if self.process.stderr else b"").decode()
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        return line + b"\n"

    def close(self, limit_s: float = LIMIT_S) -> tuple[int, bytes, bytes]:
        """End the server as a client does: exit code, what was left on stdout, stderr."""
        out, err = self.process.communicate(timeout=limit_s)
        return self.process.returncode, self._held + out, err

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):  # what was buffered goes nowhere
                assert pipe is not None
                pipe.close()
