"""What an agent's job prints: one bounded line after the other, each with who it is from.

`| ` said, `> ` done, `! ` refused, `# ` noted, and `build-orchestrator: ` for what programs read (`transcript.py`).
Whatever else writes to this process's output, a library or a child, comes through a pipe and gets `# `, too.
"""

import contextlib
import os
import re
import secrets
import sys
import threading

from mcp_server.agents.base import MAX_UPDATE_BYTES, AgentResult, Update, Usage
from mcp_server.agents.transcript import MARK, MAX_LINE_BYTES, PREFIXES
from mcp_server.redact import Redactor
from mcp_server.text import clip, size

MAX_LOG_BYTES = 20 * 1024 * 1024
FLUSH_S = 0.5  # a pipe is emptied in milliseconds
_RESERVE = 4 * MAX_LINE_BYTES  # for how it ended

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-_])")
_SESSION = re.compile(r"[\x21-\x7e]{1,200}")


class Log:
    """Writes to a file descriptor; any thread may. After the result nothing is written any more."""

    def __init__(
        self,
        descriptor: int,
        cap_bytes: int = MAX_LOG_BYTES,
        redactor: Redactor = Redactor(()),  # noqa: B008
    ) -> None:
        self._redact = redactor.text
        self._descriptor, self._left = descriptor, cap_bytes - _RESERVE
        self._lock = threading.Lock()
        self._over = self._full = False
        self._session: str | None = None
        self._usage = Usage()
        self._token = secrets.token_hex(16).encode()
        self._seen = threading.Event()

    def update(self, update: Update) -> None:
        """What it says for people and for programs; what is the same as before is not said again."""
        if update.kind in PREFIXES:
            for line in clip(self._redact(update.text), MAX_UPDATE_BYTES).splitlines():
                self._print(PREFIXES[update.kind], line)
        if update.kind == "session" and _SESSION.fullmatch(update.text) and update.text != self._session:
            self._session = update.text
            self._print(MARK, f"session {update.text}")
        if update.usage is not None and update.usage != self._usage:
            self._usage = update.usage
            self._print(MARK, f"usage {update.usage.model_dump_json()}")

    def stray(self, data: bytes) -> None:
        """A line of whoever wrote to the output of this process."""
        if data == self._token:
            self._seen.set()
        elif data.strip():
            self._print(PREFIXES["note"], self._redact(data.decode("utf-8", "replace")))

    def flush(self) -> None:
        """After `take_output`: wait until what was written to stdout so far is in the log."""
        sys.stdout.flush()
        os.write(1, b"\n" + self._token + b"\n")
        self._seen.wait(FLUSH_S)

    def result(self, result: AgentResult) -> None:
        """The last line, however long the log is."""
        session = result.session if result.session and _SESSION.fullmatch(result.session) else None
        text = _ESCAPES.sub("", self._redact(result.text))
        text = "\n".join(_CONTROL.sub(" ", line) for line in text.splitlines())
        result = result.model_copy(update={"text": clip(text, MAX_LINE_BYTES), "session": session})
        while size(line := f"{MARK}result {result.model_dump_json()}") >= MAX_LINE_BYTES and result.text:
            result = result.model_copy(update={"text": clip(result.text, size(result.text) * 2 // 3)})
        with self._lock:
            self._write(f"{line}\n".encode("utf-8", "replace"))
            self._over = True

    def _print(self, prefix: str, line: str) -> None:
        line = _CONTROL.sub(" ", _ESCAPES.sub("", line))
        data = (clip(f"{prefix}{line}".rstrip(), MAX_LINE_BYTES - 1) + "\n").encode("utf-8", "replace")
        with self._lock:
            if self._over or self._full:
                return
            self._full = len(data) > self._left
            if self._full:
                data = f"{MARK}the log is full: what the agent says from here on is left out\n".encode()
            self._left -= len(data)
            self._write(data)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a log that is gone is no reason to leave an agent running
            while data:
                data = data[os.write(self._descriptor, data) :]


def take_output(redactor: Redactor = Redactor(())) -> Log:  # noqa: B008
    """The process's output as a log, without what `redactor` masks.

    From now on whatever writes to stdout or stderr writes lines of this log.

    A thread reads them: one that prints without end must not wait for the event loop, nor the loop for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    log = Log(os.dup(1), redactor=redactor)  # not inherited by children
    reading, writing = os.pipe()
    with open(os.devnull) as nothing:  # noqa: PTH123  # a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_copy, args=(reading, log), daemon=True).start()
    return log


def _copy(reading: int, log: Log) -> None:
    rest = b""
    while data := os.read(reading, 65_536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            log.stray(line)
        while len(rest) > MAX_LINE_BYTES:
            log.stray(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
    if rest:
        log.stray(rest)
