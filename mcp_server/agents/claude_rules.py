"""What Claude Code's own tools may do in a task: the policy's answer to each call that it asks for."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mcp_server.agents.permission import Policy

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_WITHOUT_KEYS = f"env {' '.join(f'-u {name}' for name in KEYS)} "
CHANGING = ("Edit", "Write", "MultiEdit", "NotebookEdit")
READING = ("Read", "Glob", "Grep", "LS")
NEVER = (
    *("WebFetch", "WebSearch", "Task", "Agent", "Skill", "SlashCommand", "Workflow", "Artifact", "AskUserQuestion"),
    *("BashOutput", "KillShell", "KillBash", "Monitor", "PowerShell", "RemoteTrigger", "ScheduleWakeup", "SendMessage"),
    *("CronCreate", "CronDelete", "CronList", "EnterWorktree", "ExitWorktree", "EnterPlanMode", "ExitPlanMode"),
)
"""Not even offered. Whatever a later version adds is refused by its name, as it is not among the tools above."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy, and the folders in which files may be read beside it."""

    policy: Policy
    read: tuple[Path, ...] = ()

    def offered(self) -> list[str]:
        """The tools that a model is told of."""
        return [*READING, *CHANGING, *(["Bash"] if self.policy.commands else [])]

    def changed(self, tool: str, given: Mapping[str, object]) -> dict[str, object] | None:
        """What is done instead of an allowed call; None: the call itself.

        A command loses the keys, as what it prints goes to the model and into the log. The CLI's own way of that needs
        bubblewrap, which containers often forbid.
        """
        command = _text(given, "command")
        if tool != "Bash" or command.startswith(_WITHOUT_KEYS):
            return None
        return {**given, "command": _WITHOUT_KEYS + command}

    def why_not(self, tool: str, given: Mapping[str, object]) -> str | None:
        """Why a call is refused; None: it may be."""
        match tool:
            case "Bash":
                return self._command(given)
            case "Edit" | "Write" | "MultiEdit":
                return self.policy.may_change(_text(given, "file_path"))
            case "NotebookEdit":
                return self.policy.may_change(_text(given, "notebook_path"))
            case "Read":
                return self._reads(_text(given, "file_path"))
            case "Glob" | "Grep" | "LS":
                return self._looks(tool, given)
            case _:
                return f"{tool[:60]} is not used in this task: only files in its folder and its listed commands are"

    def _command(self, given: Mapping[str, object]) -> str | None:
        if given.get("run_in_background"):
            return "commands of this task run in the foreground"
        return self.policy.may_run(_text(given, "command").removeprefix(_WITHOUT_KEYS))

    def _reads(self, path: str) -> str | None:
        why = self.policy.may_touch(path)
        if why is None or not path:
            return why
        # Relative paths are of the task's folder, whatever folder they are looked up in.
        whole = os.path.join(self.policy.folder, path)  # noqa: PTH118  # an absolute path stays what it is
        return None if any(Policy(folder).may_touch(whole) is None for folder in self.read) else why

    def _looks(self, tool: str, given: Mapping[str, object]) -> str | None:
        """Of a search: where it begins, and a pattern of names that would lead elsewhere."""
        if why := self._reads(_text(given, "path") or "."):
            return why
        pattern = _text(given, "pattern" if tool == "Glob" else "glob")
        if ".." in PurePosixPath(pattern).parts or pattern.startswith(("/", "~")):
            return f"{pattern[:120]!r} leads out of the folder that is searched: name the folder by `path`"
        return None


def rules_of(policy: Policy, read: Sequence[str]) -> Rules:
    """With folders as settings name them."""
    return Rules(policy, tuple(Path(folder) for folder in read))


def _text(given: Mapping[str, object], name: str) -> str:
    value = given.get(name)
    return value if isinstance(value, str) else ""
