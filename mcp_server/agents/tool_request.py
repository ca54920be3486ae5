"""What an agent asks to do, in no protocol's words, and whether it may."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from mcp_server.agents.permission import Policy
from mcp_server.text import one_line

CHANGES = frozenset({"edit", "delete", "move"})
LOOKS = frozenset({"read", "search"})
_PATHS = (
    *("path", "paths", "file_path", "filePath", "filepath", "abs_path", "notebook_path", "directory", "directories"),
    *("cwd", "workdir", "parentDir", "newPath", "new_path", "oldPath", "old_path", "source", "destination"),
)
_MOST = 200  # paths of one request; more is no work of an agent on one project


@dataclass(slots=True)
class ToolRequest:
    """One call of a tool, as far as it is known. `kind` is one of the Agent Client Protocol's, or anything."""

    kind: str | None = None
    title: str = ""
    paths: dict[str, None] = field(default_factory=dict[str, None])
    commands: dict[str, None] = field(default_factory=dict[str, None])
    told: bool = False

    def note(self, kind: str | None, title: str | None, raw: object) -> None:
        """Learn more: agents tell the arguments of a call bit by bit, and not all with the request."""
        self.kind, self.title = kind or self.kind, title or self.title
        if not isinstance(raw, dict):
            return
        given = cast("Mapping[str, object]", raw)
        for path in (text for name in _PATHS for text in _texts(given.get(name))):
            self.path(path)
        command = given.get("command")
        if isinstance(command, list):
            command = shlex.join(_texts(cast("list[object]", command)))
        if isinstance(command, str) and len(self.commands) < _MOST:
            self.commands[command] = None

    def path(self, path: str) -> None:
        if len(self.paths) < _MOST:
            self.paths[path] = None

    @property
    def changes(self) -> list[str]:
        """The files that it changes."""
        return list(self.paths) if self.kind in CHANGES else []

    def refused(self, policy: Policy) -> str | None:
        """Why it may not be done; None: it may. What is not known is not done."""
        if len(self.paths) >= _MOST or len(self.commands) >= _MOST:
            return "it names more paths or commands than can be looked at"
        if self.kind == "think":
            return None
        if self.kind not in CHANGES | LOOKS | {"execute"}:
            return f"{self.kind or 'what it does'!r} is nothing that this task needs"
        if self.kind == "execute" and not self.commands:
            return "no command is named"
        if not self.paths and (self.kind in CHANGES or self.kind == "read"):
            return "no file is named"
        if self.kind == "execute" and (why := next(filter(None, map(policy.may_run, self.commands)), None)):
            return why
        may = policy.may_change if self.kind in CHANGES else policy.may_touch
        return next(filter(None, map(may, self._looked_at(policy))), None)

    def _looked_at(self, policy: Policy) -> list[str]:
        return [path for path in self.paths if not (self.kind == "execute" and path == str(policy.folder))]

    def __str__(self) -> str:
        what = next(iter(self.commands), "") if self.kind == "execute" else ", ".join(list(self.paths)[:3])
        return one_line(f"{self.kind or 'tool'} {what or self.title}", 400)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return [item for item in cast("list[object]", value) if isinstance(item, str)]
    return []
