"""The log of an agent's job, read: its session, what it used, how it ended, its last words.

Only lines that begin with `MARK` are ours. Every line that comes from the agent has a prefix of its own (`log.py`), so
that nothing it says is taken for one of them.
"""

import json
from collections import deque
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError

from mcp_server.agents.base import AgentResult, Usage
from mcp_server.model import Progress

MARK = "build-orchestrator: "
PREFIXES = {"text": "| ", "tool": "> ", "denied": "! ", "note": "# "}
MAX_LINE_BYTES = 2000  # of a line with its prefix and its end
KEPT_LINES = 30
_SHOWN = 200  # letters of a line in a progress

M = TypeVar("M", bound=BaseModel)


class Transcript:
    """The observer of an agent's job. May be fed again from the start."""

    decided = False
    """An agent's job ends by itself: nothing in its log makes its end needless."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.usage = Usage()
        self.result: AgentResult | None = None
        """None: the job was ended before the agent was, or could not begin."""
        self.denied = 0
        self.lines = 0
        """Lines of the agent's."""
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._said = ""
        self._rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._too_long:
                self._look(line)
            self._too_long = False
        if len(rest) > 2 * MAX_LINE_BYTES:  # of what ran before ours began, or beside it
            self._look(rest[:MAX_LINE_BYTES])
            rest, self._too_long = b"", True
        self._rest = b"" if self._too_long else rest

    def close(self) -> None:
        """The log is over: its last line, which has no end, is looked at, too."""
        rest, self._rest = self._rest, b""
        if rest:
            self._look(rest)

    @property
    def progress(self) -> Progress | None:
        """Turns so far, and what the agent said or did last."""
        return Progress(done=self.usage.turns, message=self._said[:_SHOWN]) if self._said else None

    @property
    def last_lines(self) -> list[str]:
        """The last lines as they stand in the log, without ours."""
        return list(self._kept)

    def _look(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if text.startswith(MARK):
            self._own(text.removeprefix(MARK))
            return
        if text.startswith(tuple(PREFIXES.values())):
            self.lines += 1
            self.denied += text.startswith(PREFIXES["denied"])
            self._said = text[2:].strip() or self._said
        if text.strip():
            self._kept.append(text)

    def _own(self, text: str) -> None:
        what, _, rest = text.partition(" ")
        if what == "session":
            self.session = rest
        elif what == "usage":
            self.usage = _parsed(rest, Usage) or self.usage
        elif what == "result" and (result := _parsed(rest, AgentResult)):
            self.result = result
            self.usage, self.session = result.usage, result.session or self.session
            self.denied = max(self.denied, result.denied)
        elif what not in ("session", "usage", "result"):
            self._kept.append(text)


def _parsed(text: str, model: type[M]) -> M | None:
    """None where it was cut off by the job's end."""
    try:
        return model.model_validate(cast(object, json.loads(text)))
    except (ValueError, ValidationError, RecursionError):
        return None
