"""Whether a project's own sources were changed after a build had begun: its firmware is then not theirs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mcp_server.idf.fingerprint import MAX_DEPTH, NOT_SOURCES, components, entries

MAX_FILES = 20_000  # looked at before it is given up, which is no promise that nothing changed
_KINDS: Final = {".c", ".cc", ".cpp", ".cxx", ".s", ".asm", ".h", ".hpp", ".inc", ".ld", ".cmake", ".csv", ".yml"}
_NAMES: Final = ("CMakeLists.txt", "Kconfig", "sdkconfig.defaults")


def changed_since(folder: Path, build_dir: Path, since: float) -> str | None:
    """A file of the project's own that changed after `since` (Unix seconds), as a path in it; None: none was found.

    What a build writes itself, such as sdkconfig, does not count. Reads names and times, no contents.
    """
    looked_at = 0
    for entry in _sources(folder, build_dir):
        looked_at += 1
        if looked_at > MAX_FILES:
            return None
        try:
            # The change time, as a file moved here may bring an old modification time along.
            if entry.stat(follow_symlinks=False).st_ctime > since:
                return os.path.relpath(entry.path, folder)
        except OSError:
            continue
    return None


def _sources(folder: Path, build_dir: Path) -> Iterator[os.DirEntry[str]]:
    for entry in entries(folder):
        if entry.name.startswith(_NAMES) or entry.name.endswith(".csv"):
            yield entry
    for component in components(folder, build_dir):
        waiting = [(component, 0)]
        while waiting:
            here, depth = waiting.pop()
            for entry in entries(here):
                if entry.is_dir(follow_symlinks=False):
                    if depth < MAX_DEPTH and entry.name not in NOT_SOURCES and not entry.name.startswith("."):
                        waiting.append((here / entry.name, depth + 1))
                elif Path(entry.name).suffix.lower() in _KINDS or entry.name.startswith(_NAMES):
                    yield entry
