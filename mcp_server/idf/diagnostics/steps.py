"""The steps that ninja said FAILED, each with its own output, so that none stays unexplained."""

import re
from collections import deque

from mcp_server.idf.diagnostics.finding import Finding, Rank, tail_of
from mcp_server.idf.diagnostics.generic import from_lines, is_boring
from mcp_server.idf.diagnostics.text import decode

MAX_STEPS = 20
_FAILED = re.compile(r"^FAILED: (?:\[code=(?P<code>-?\d+)\] )?(?P<outputs>.*)$")
_SOURCE = re.compile(r" -c \"?(?P<source>(?:[A-Za-z]:)?[^\s\"]{1,400})")
_RESULT_OF = re.compile(r"^\S+:\d+|^In file included|^Traceback|^CMake Error|^ninja: |^FAILED|^\[\d+/")
_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".S", ".s", ".C", ".asm", ".rs")
_SIGNALS = {
    -9: "was killed",
    137: "was killed",
    -11: "crashed",
    139: "crashed",
    -15: "was ended",
    143: "was ended",
    127: "command not found",
}


class Step:
    """One failed step: what it was to make, and what it printed."""

    def __init__(self, number: int, outputs: str, code: int | None, lead: list[bytes], explained: bool) -> None:
        self.number = number
        self.subject = outputs.split(" ", maxsplit=1)[0]
        self.code = code
        self.lead = lead
        self.explained = explained
        self.command = ""
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque(maxlen=8)

    def take_command(self, line: str) -> bool:
        """The line after FAILED is the command. It is long, and full of words like -Werror."""
        if _RESULT_OF.match(line):
            return False
        self.command = line[:200]
        found = _SOURCE.search(line)
        if found and found["source"].endswith(_SOURCES):
            self.subject = found["source"]
        return True

    def add(self, line: bytes) -> None:
        if is_boring(decode(line)):
            return
        if len(self._first) < 6:
            self._first.append(line)
        else:
            self._last.append(line)

    @property
    def is_compile(self) -> bool:
        return self.subject.endswith(_SOURCES)

    @property
    def speaks(self) -> bool:
        """It printed something, or was ended by a signal: a nested build's outer step does neither."""
        return bool(self._first) or self.code in _SIGNALS

    def _best_of(self, lines: list[bytes]) -> Finding | None:
        return from_lines([decode(line) for line in lines], self.subject)

    def finding(self) -> Finding:
        """The step as a cause by itself: the best of its output, else of what stood before it, else its exit code."""
        found = self._best_of([*self._first, *self._last]) or self._best_of(self.lead)
        if found is None:
            how = _SIGNALS.get(self.code or 0) or (
                f"failed with exit code {self.code}" if self.code else "failed without a message"
            )
            found = Finding(
                "unknown",
                f"{tail_of(self.subject)}: the step {how}: {self.command[:160]}",
                Rank.LAST,
                subject=self.subject,
            )
        elif self.command and not self.is_compile and self.subject != "build.ninja":
            found.notes.append(f"\0\0by: {self.command[:200]}")
        if self.code in _SIGNALS:
            found.notes.append(f"\0\0the command {_SIGNALS[self.code]}")
        return found


def parse(line: str) -> tuple[str, int | None] | None:
    found = _FAILED.match(line)
    return (found["outputs"], int(found["code"]) if found["code"] else None) if found else None
