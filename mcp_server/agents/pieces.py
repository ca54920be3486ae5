"""Text that an agent sends in pieces, a few letters at a time, told as whole lines."""

from mcp_server.agents.base import MAX_UPDATE_BYTES, Tell, Update

_MOST = MAX_UPDATE_BYTES // 4  # letters, of four bytes at most


class Pieces:
    """Joins pieces of what is said. `last` is the end of the last message, bounded."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.last = ""
        self._rest: str = ""
        self._of: str = ""

    def add(self, piece: str, message: str = "") -> None:
        """The next piece; another `message` than before ends the line."""
        if message != self._of:
            self.end()
            self._of, self.last = message, ""
        self.last = (self.last + piece)[-_MOST:]
        *lines, rest = (self._rest + piece).split("\n")
        for line in lines:
            self._say(line)
        while len(rest) > _MOST:
            self._say(rest[:_MOST])
            rest = rest[_MOST:]
        self._rest = rest

    def end(self) -> None:
        """What was said so far is a line: something else follows."""
        rest, self._rest = self._rest, ""
        if rest:
            self._say(rest)

    def _say(self, line: str) -> None:
        for at in range(0, max(len(line), 1), _MOST):
            self._tell(Update(kind="text", text=line[at : at + _MOST]))
