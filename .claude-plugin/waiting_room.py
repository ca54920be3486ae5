"""Answers the client while the plugin is being installed, then steps aside: `waiting_room.py ROOT VENV LOG`.

An installation that is over within GRACE_S is not noticed at all: nothing was read yet, and this process becomes the
server. A longer one: the client is answered here, in whichever protocol era it speaks, with one tool, `setup`. When the
installation is over, the server is started behind, greeted as the client greeted us, the client is told that the lists
have changed, and from then on lines pass through. Standard library of Python 3.8 only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Dict  # noqa: UP035

GRACE_S = 1.5  # after 2.9 s of silence some clients give the newer protocol up; ours promises an answer within 5 s
LIST_S = 2.0  # for a client to fetch the tools after it was told that they changed
MAX_WAIT_S = 55  # some clients drop a call at 60 s
MODERN = "2026-07-28"
LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
META = "io.modelcontextprotocol/"
OUR_ID = "waiting-room"
LISTS = ("tools", "prompts", "resources")

Message = Dict[str, Any]  # noqa: UP006  # Python 3.8 evaluates it

SETUP_TOOL = {
    "name": "setup",
    "description": "Says how far the installation of build-orchestrator is; its own tools take this one's place.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "wait_s": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 45},
            "again": {"type": "boolean", "default": False, "description": "try again after it failed"},
        },
    },
    "annotations": {"readOnlyHint": False, "destructiveHint": False},
}

ANSWERS: dict[str, Message] = {
    "ping": {},
    "tools/list": {"tools": [SETUP_TOOL]},
    "prompts/list": {"prompts": []},
    "resources/list": {"resources": []},
    "resources/templates/list": {"resourceTemplates": []},
}


class Installer:
    """The installation, in a process of its own that goes on when the client leaves."""

    def __init__(self, root: Path, venv: Path, log: Path) -> None:
        self.root, self.venv, self.log = root, venv, log
        self.since = time.monotonic()
        self.why = ""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("install.py")), str(root), str(venv), str(log)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self.why = f"{error.filename}: {error.strerror}"

    def wait(self, timeout_s: float | None = None) -> bool | None:
        """Whether it went well; None if it is still going on."""
        if self._process is None:
            return False
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if code:
            self.why = self._reason() or f"the installer ended with code {code}"
        return code == 0

    def server(self) -> list[str]:
        return [str(self.venv / "bin" / "build-orchestrator"), "mcp"]

    def _reason(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return next((line.split("refused: ", 1)[1] for line in reversed(lines) if "refused: " in line), "")


class Room:
    """One client, first answered here, then passed through to the server."""

    def __init__(self, installer: Installer, version: str) -> None:
        self.installer = installer
        self.info = {"name": "build-orchestrator", "version": version}
        self.server: subprocess.Popen[bytes] | None = None  # set once lines pass through
        self.settled = threading.Event()  # passing through, or failed
        self.listed = threading.Event()  # the client has the server's own tools
        self.failure = ""
        self._turn = threading.Lock()  # held while a line is answered here, or the room changes
        self._out = threading.Lock()
        self._greeting: Message | None = None
        self._listens: list[Message] = []
        self._list_id: Any = None

    # -- the client's side

    def take(self, line: bytes) -> None:
        """One line from the client."""
        with self._turn:
            passing = self.server is not None
            fetches = passing and self._list_id is None and b'"tools/list"' in line
            if passing and not fetches and not (b'"tools/call"' in line and b'"setup"' in line):
                self._pass_on(line)
                return
            try:
                message = json.loads(line)
            except ValueError:
                self._send({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})
                return
            if not isinstance(message, dict):
                return
            if fetches:
                self._list_id = message.get("id")
            if passing and _params(message).get("name") != "setup":
                self._pass_on(line)
            elif isinstance(message.get("method"), str) and "id" in message:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        method, params = message["method"], _params(message)
        if method == "initialize":
            self._greeting = message
            asked = params.get("protocolVersion")
            params["protocolVersion"] = asked if asked in LEGACY else LEGACY[-1]
            result = {"protocolVersion": params["protocolVersion"], "serverInfo": self.info, **self._about()}
        elif method == "server/discover":
            self._greeting = message
            result = {"supportedVersions": [MODERN], **self._about()}
        elif method == "tools/call":
            threading.Thread(target=self._call, args=(message,), daemon=True).start()
            return
        elif method == "subscriptions/listen":
            self._listens.append(message)
            acknowledged = {
                "_meta": {META + "subscriptionId": message["id"]},
                "notifications": params.get("notifications", {}),
            }
            self._notify("notifications/subscriptions/acknowledged", acknowledged)
            return
        else:
            result = ANSWERS.get(method)
        self._respond(message, result)

    def _about(self) -> Message:
        return {
            "capabilities": {name: {"listChanged": True} for name in LISTS},
            "instructions": "build-orchestrator is being installed; its tools appear by themselves; setup waits",
        }

    def _call(self, message: Message) -> None:
        """`setup`: holds the call until the installation is over, at most `wait_s`."""
        params = _params(message)
        given = params.get("arguments") if isinstance(params.get("arguments"), dict) else {}
        if params.get("name") != "setup":
            text, wrong = "build-orchestrator is still being installed: call setup, then this tool again", True
        else:
            if given.get("again") is True and self.failure:
                self.begin_again()
            wait_s = given.get("wait_s", 45)
            self.settled.wait(max(0, min(wait_s, MAX_WAIT_S)) if isinstance(wait_s, (int, float)) else 45)
            text, wrong = self._state()
            if self.server is not None:  # it answers with the list in the client's hands, if the client fetches it
                self.listed.wait(LIST_S)
        self._respond(message, {"content": [{"type": "text", "text": text}], "isError": wrong})

    def _state(self) -> tuple[str, bool]:
        if self.server is not None:
            return "build-orchestrator is installed: its own tools are there now, beginning with doctor", False
        if self.failure:
            return (
                f"build-orchestrator could not be installed: {self.failure}\n"
                f"Mend that (a network is needed once), then setup(again=true). All words: {self.installer.log}",
                True,
            )
        passed_s = time.monotonic() - self.installer.since
        return f"being installed for {passed_s:.0f} s; call setup again: it answers as soon as that is over", False

    # -- the server's side

    def begin_again(self) -> None:
        installer = self.installer
        with self._turn:
            if self.failure:
                self.failure = ""
                self.settled.clear()
                self.installer = Installer(installer.root, installer.venv, installer.log)
                threading.Thread(target=self.attend, daemon=True).start()

    def attend(self) -> None:
        """Wait for the installation, then bring in the server and pass its lines on until it ends."""
        if not self.installer.wait():
            return self._fail(self.installer.why)
        while self.server is None:
            greeting = self._greeting
            try:
                server = subprocess.Popen(self.installer.server(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            except OSError as error:
                return self._fail(f"{error.filename}: {error.strerror}")
            assert server.stdin and server.stdout
            if greeting is not None and not self._greet(server.stdin, server.stdout, greeting):
                return self._fail(f"it is installed, but its server ended with code {server.wait()}")
            with self._turn:
                if self._greeting is greeting:
                    self.server = server
                    self._hand_over()
                else:  # the client spoke (again) meanwhile: a server takes only one greeting
                    server.kill()
        self.settled.set()
        self._pump(server.stdout)
        os._exit(server.wait())  # the main thread hangs in a read that nothing else can end

    def _fail(self, why: str) -> None:
        self.failure = why
        self.settled.set()

    @staticmethod
    def _greet(to_server: IO[bytes], from_server: IO[bytes], greeting: Message) -> bool:
        """Say to the server what the client said to us; its answer is not for the client."""
        try:
            to_server.write(_line({**greeting, "id": OUR_ID}))
            to_server.flush()
        except OSError:
            return False
        answers = iter(from_server.readline, b"")
        return any(OUR_ID.encode() in line and json.loads(line).get("id") == OUR_ID for line in answers)

    def _hand_over(self) -> None:
        if self._greeting is not None and self._greeting["method"] == "initialize":
            self._pass_on(_line({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            for name in LISTS:
                self._notify(f"notifications/{name}/list_changed")
        for listen in self._listens:
            self._pass_on(_line(listen))
            asked = _params(listen).get("notifications") or {}
            for name in LISTS:
                if asked.get(f"{name}ListChanged"):
                    self._notify(
                        f"notifications/{name}/list_changed", {"_meta": {META + "subscriptionId": listen["id"]}}
                    )

    def _pump(self, from_server: IO[bytes]) -> None:
        acknowledged = [listen["id"] for listen in self._listens]  # by us already: the server's word would be a second
        for line in iter(from_server.readline, b""):
            if acknowledged and b"notifications/subscriptions/acknowledged" in line:
                subscription = json.loads(line)["params"]["_meta"][META + "subscriptionId"]
                if subscription in acknowledged:
                    acknowledged.remove(subscription)
                    continue
            self._write(line)
            if self._list_id is not None and not self.listed.is_set() and json.loads(line).get("id") == self._list_id:
                self.listed.set()

    def _pass_on(self, line: bytes) -> None:
        assert self.server and self.server.stdin
        try:
            self.server.stdin.write(line)
            self.server.stdin.flush()
        except OSError:
            pass  # it has ended: attend() is about to leave with its exit code

    # -- writing

    def _respond(self, request: Message, result: Message | None) -> None:
        answer: Message = {"jsonrpc": "2.0", "id": request["id"]}
        modern = (_params(request).get("_meta") or {}).get(META + "protocolVersion") == MODERN
        if result is None:
            answer["error"] = {"code": -32601, "message": "Method not found", "data": request["method"]}
        elif modern:
            fresh = {} if request["method"] == "tools/call" else {"ttlMs": 0, "cacheScope": "private"}
            answer["result"] = {**result, **fresh, "resultType": "complete", "_meta": {META + "serverInfo": self.info}}
        else:
            answer["result"] = result
        self._send(answer)

    def _notify(self, method: str, params: Message | None = None) -> None:
        self._send({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def _send(self, message: Message) -> None:
        self._write(_line(message))

    def _write(self, line: bytes) -> None:
        with self._out:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def _params(message: Message) -> Message:
    params = message.get("params")
    return params if isinstance(params, dict) else {}


def _line(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _version(root: Path) -> str:
    try:
        return str(json.loads((root / ".claude-plugin" / "plugin.json").read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError):
        return "0"


def main(root: Path, venv: Path, log: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    installer = Installer(root, venv, log)
    if installer.wait(GRACE_S):
        os.execv(installer.server()[0], installer.server())  # noqa: S606  # the path is ours
    room = Room(installer, _version(root))
    threading.Thread(target=room.attend, daemon=True).start()
    for line in iter(sys.stdin.buffer.readline, b""):
        room.take(line)
    server = room.server
    if server is not None and server.stdin:
        server.stdin.close()  # its cue to leave; attend() then ends this process with its exit code
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
