"""What a code agent may do: edit files inside its folder, run the commands it was given, read. Nothing else."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_server.agents.base import AgentRequest

_BOARD = re.compile(r"(.+[-_:])?(flash|upload|monitor)|(erase|write|burn|efuse|dfu)[-_].+|@.+", re.DOTALL)
"""Words behind a listed command that make more of it: `idf.py build flash` writes to a board, which is asked for."""

_CONTROL = frozenset(";&|<>`$()\n\r{}*?[]~!#\\")


@dataclass(frozen=True, slots=True)
class Policy:
    """One folder and the commands that may be run in it, each as the words it must begin with.

    `closed`: folders in it where builds put what they make, so that nothing can be planted there as if it were built.
    """

    folder: Path
    commands: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: AgentRequest) -> "Policy":
        """The one of a task."""
        return cls(Path(request.folder), request.commands, request.closed)

    def may_touch(self, path: str) -> str | None:
        """Why a file may not be looked at by an agent's tool; None: it may. Follows every link on the way."""
        if not path or "\0" in path:
            return "no file is named"
        folder, real = self._real(path)
        if not real.is_relative_to(folder):
            return f"{path[:200]} is outside the folder of this task"
        if any(part.lower() == ".git" for part in real.relative_to(folder).parts):
            return f"{path[:200]} is Git's own"
        return None

    def may_change(self, path: str) -> str | None:
        """Why a file may not be changed or made by an agent's tool; None: it may."""
        if (why := self.may_touch(path)) is not None:
            return why
        folder, real = self._real(path)
        for name in self.closed:
            if any(_is_below(real, place) for place in (folder / name, Path(os.path.realpath(folder / name)))):
                return f"{path[:200]} is in {name}, where only the build itself writes"
        return None

    def _real(self, path: str) -> tuple[Path, Path]:
        """The folder and the file with every link on the way followed."""
        folder = Path(os.path.realpath(self.folder))
        return folder, Path(os.path.realpath(folder / path))

    def may_run(self, command: str) -> str | None:
        """Why a command may not be run; None: it may. Shell operators never may, as they hide a second command."""
        listed = ", ".join(self.commands) or "none"
        if _CONTROL & set(command):
            return f"only plain commands without shell operators are run; those of this task: {listed}"
        try:
            words = shlex.split(command)
        except ValueError:
            return f"the command's quotes do not match; those of this task: {listed}"
        more = [words[len(begin) :] for one in self.commands if _begins(words, begin := shlex.split(one))]
        if any(not any(map(_BOARD.fullmatch, rest)) for rest in more):
            return None
        if more:
            return f"{command[:120]!r} reaches a board, or reads a file of words: only a command listed whole may"
        return f"{command[:120]!r} is not among the commands of this task: {listed}"


def _is_below(path: Path, folder: Path) -> bool:
    """Also where the case of letters means nothing, as on macOS."""
    return Path(str(path).casefold()).is_relative_to(str(folder).casefold())


def _begins(words: Sequence[str], allowed: Sequence[str]) -> bool:
    return bool(allowed) and list(words[: len(allowed)]) == list(allowed)
