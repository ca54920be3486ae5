"""Whether the program that runs is still the one that is installed: what is loaded later would be of another."""

from pathlib import Path

import mcp_server

SETTLE_S = 5  # an installation takes its files away before the new ones are there


class Installed:
    """Looks at one file of the program: an installation replaces it, an edit of a checkout seldom does."""

    def __init__(self, file: Path = Path(mcp_server.__file__)) -> None:
        self._file = file
        self._began = self._look()
        self._gone_since: float | None = None

    def replaced(self, now_s: float) -> bool:
        """Whether it has been another one, or none, for a while. Reads the disk."""
        if self._look() == self._began:
            self._gone_since = None
            return False
        self._gone_since = now_s if self._gone_since is None else self._gone_since
        return now_s - self._gone_since >= SETTLE_S

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
