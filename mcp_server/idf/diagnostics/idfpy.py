"""idf.py's own lines: the hints it prints in yellow, and what it is about to do."""

import re

from mcp_server.idf.diagnostics import requirements
from mcp_server.idf.diagnostics.finding import Block, Log

_HINT = re.compile(r"^(?:HINT|Hint|hint): ?(?P<text>.*)$")
_MODULE_HINT = re.compile(
    r'^(?:Compilation failed because \S+ \(in "|Missing "[^"]{1,300}" file name found in the following component)'
)
_BUG = re.compile(r"^BUG: \w+\.py: ")
_NEXT = re.compile(
    r"^(?:HINT|\S.{0,80}? failed with exit code|CMake |FAILED: |-- |\[\d|ninja|Executing |Running |ERROR"
    r"|Traceback|NOTE|fatal: |error: |\S+:\d+:)"
)
YELLOW, RESET = b"\x1b[0;33m", b"\x1b[0m"


def read(line: str, raw: bytes, log: Log) -> Block | bool:
    """A hint's first line, if it is one. `BUG: …` is what idf.py says right after an edit of REQUIRES: no advice."""
    if _BUG.match(line):
        return True
    found = _HINT.match(line)
    if found is None and not _MODULE_HINT.match(line):
        return False
    text = found["text"] if found else line
    if raw.rstrip().endswith(RESET):
        log.hint(_plain(text))
        return True
    return HintBlock(log, text, coloured=YELLOW in raw)


def _plain(text: str) -> str:
    return requirements.from_printed(text) or text


class HintBlock:
    """The further lines of a hint: up to the end of its colour, else up to an empty line or another tool's."""

    def __init__(self, log: Log, text: str, coloured: bool) -> None:
        self._log, self._parts, self._coloured = log, [text], coloured
        self._done = False

    def take(self, line: str, raw: bytes) -> bool:
        if self._done or len(self._parts) > 12:
            return False
        if self._coloured:
            self._done = RESET in raw
        elif not line or (_NEXT.match(line) and not line.startswith("hint:")):
            return False
        self._parts.append(line.removeprefix("hint:").strip()[:600])  # git begins each line of one with it
        return True

    def close(self) -> None:
        self._log.hint(_plain(" ".join(part for part in self._parts if part)))
