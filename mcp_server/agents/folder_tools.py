"""The tools that a model is offered where no agent brings its own: edit, search, list, run, all inside one folder.

A tool's answer is at most 8 kB, so that a conversation stays payable; it says how to see the rest.
"""

import asyncio
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_server.agents.bounded_run import run
from mcp_server.agents.confined import MAX_FILE_BYTES, ConfinedFiles, Refused
from mcp_server.agents.permission import Policy
from mcp_server.text import clip, one_line, size

MAX_ANSWER_BYTES = 8000
COMMAND_S = 900.0  # a firmware built from nothing takes minutes
_LINE_BYTES = 1000
_WALK_S = 10.0  # for one search or listing
_PATTERN_S = 1.0  # for one file; a pattern that explodes is given up there
_MATCHES = 100


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Edit(_Input):
    command: Literal["view", "str_replace", "create", "insert"]
    path: str = Field(description="relative to the project's folder")
    view_range: tuple[int, int] | None = Field(None, description="view: first and last line, counted from 1; -1: end")
    old_str: str | None = Field(None, description="str_replace: text that stands exactly once in the file")
    new_str: str | None = Field(None, description="str_replace: what takes its place")
    file_text: str | None = Field(None, description="create: the whole content of a new file")
    insert_line: int | None = Field(None, ge=0, description="insert: the line after which; 0: at the beginning")
    insert_text: str | None = Field(None, description="insert: the lines")


class _Search(_Input):
    pattern: str = Field(min_length=1, max_length=1000, description="regular expression, matched within a line")
    path: str = Field(".", description="file or folder")


class _List(_Input):
    path: str = "."


class _Run(_Input):
    command: str = Field(max_length=4000, description="program and arguments, no shell operators")


_TOOLS: dict[str, tuple[type[_Input], str]] = {
    "str_replace_based_edit_tool": (_Edit, "View a text file with line numbers, or change it."),
    "search": (_Search, "Find lines by a regular expression: file:line: text."),
    "list_files": (_List, "Names of the files below a folder, near ones first; build output is left out."),
    "run": (_Run, "Run a command in the project's folder and read its output."),
}


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a model reads. `denied`: the policy said no, `text` says why."""

    text: str
    error: bool = False
    denied: bool = False


class FolderTools:
    """Tools over the folder and the commands of a policy. Commands get `environment` and nothing else."""

    def __init__(self, policy: Policy, environment: Mapping[str, str], command_s: float = COMMAND_S) -> None:
        self._policy, self._files = policy, ConfinedFiles(policy)
        self._environment, self._command_s = environment, command_s

    def definitions(self) -> list[dict[str, Any]]:
        """As the Messages API takes them. `run` is offered only where a command is listed."""
        offered = {name: tool for name, tool in _TOOLS.items() if name != "run" or self._policy.commands}
        return [
            {"name": name, "description": self._described(name, text), "input_schema": _schema(form)}
            for name, (form, text) in offered.items()
        ]

    async def call(self, name: str, given: object) -> ToolAnswer:
        """Use a tool. Never raises for what a model may do; cancelling it ends a running command."""
        if name not in _TOOLS:
            return ToolAnswer(f"there is no tool {name[:100]}: use {', '.join(_TOOLS)}", error=True)
        form = _TOOLS[name][0]
        try:
            return await self._use(form.model_validate(given))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return ToolAnswer(f"{name}: {where}: {first['msg']}"[:500], error=True)
        except Refused as error:
            return ToolAnswer(str(error), error=True, denied=error.denied)
        except OSError as error:
            return ToolAnswer(f"{name}: {error.strerror or type(error).__name__}", error=True)

    def _described(self, name: str, text: str) -> str:
        return f"{text} Only: {'; '.join(self._policy.commands)}" if name == "run" else text

    async def _use(self, given: _Input) -> ToolAnswer:
        match given:
            case _Run():
                return await self._run(given.command)
            case _Edit():
                return ToolAnswer(_fitting(await asyncio.to_thread(self._edit, given)))
            case _Search():
                return ToolAnswer(_fitting(await asyncio.to_thread(self._search, given)))
            case _:
                return ToolAnswer(_fitting(await asyncio.to_thread(self._list, getattr(given, "path", "."))))

    async def _run(self, command: str) -> ToolAnswer:
        if why := self._policy.may_run(command):
            return ToolAnswer(why, error=True, denied=True)
        code, output = await run(shlex.split(command), str(self._policy.folder), self._environment, self._command_s)
        return ToolAnswer(_fitting(f"exit code {code}\n{output}"), error=code != 0)

    def _edit(self, given: _Edit) -> str:
        if given.command == "view":
            if Path(self._policy.folder, given.path).is_dir() and not self._policy.may_touch(given.path):
                return self._list(given.path)
            return _numbered(self._files.text(given.path), given.view_range)
        if given.command == "create":
            self._files.write(given.path, _needed(given.file_text, "file_text"), new=True)
            return f"{given.path} is created"
        text = self._files.text(given.path)
        if given.command == "insert":
            after = _inserted(text, given)
        else:
            after = _replaced(text, _needed(given.old_str, "old_str"), given.new_str or "", given.path)
        self._files.write(given.path, after)
        return f"{given.path} is changed"

    def _search(self, given: _Search) -> str:
        try:
            pattern = regex.compile(given.pattern)
        except regex.error as error:
            raise Refused(f"pattern: {error}") from None
        until = time.monotonic() + _WALK_S
        found: list[str] = []
        for name in self._files.files(given.path, until):
            try:
                found += _matches(pattern, name, self._files.text(name), _MATCHES - len(found))
            except Refused:
                continue  # binary, too large or gone: nothing to find there
            except TimeoutError:
                raise Refused(f"pattern: takes too long in {name}: write a simpler one") from None
            if len(found) >= _MATCHES:
                return "\n".join([*found, f"… the first {_MATCHES} matches: search a folder or file below"])
        late = "\n… not all was looked at: search a folder below" if time.monotonic() > until else ""
        return ("\n".join(found) or "no match") + late

    def _list(self, path: str) -> str:
        names: list[str] = []
        left = MAX_ANSWER_BYTES - 100
        for name in self._files.files(path, time.monotonic() + _WALK_S):
            left -= size(name) + 1
            if left < 0:
                return "\n".join([*names, "… and more: list a folder below"])
            names.append(one_line(name, 500))
        return "\n".join(names) or "no files"


def _needed(value: str | None, name: str) -> str:
    if value is None:
        raise Refused(f"{name}: is needed for this command")
    return value


def _numbered(text: str, wanted: tuple[int, int] | None) -> str:
    """Lines with their numbers, as many as fit, and which were left out."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    first, last = wanted or (1, -1)
    last = len(lines) if last == -1 else min(last, len(lines))
    if lines and not 1 <= first <= last:
        raise Refused(f"view_range: the file has lines 1 to {len(lines)}")
    shown: list[str] = []
    left = MAX_ANSWER_BYTES - 100
    for number in range(first, last + 1):
        line = f"{number:6}\t{clip(lines[number - 1].removesuffix(chr(13)), _LINE_BYTES)}"
        left -= size(line) + 1
        if left < 0:
            return "\n".join([*shown, f"… lines {number} to {last} left out: use view_range"])
        shown.append(line)
    return "\n".join(shown) or "the file is empty"


def _ends(text: str, file: str) -> str:
    """`text` with the file's line ends: a model writes \\n whatever it was shown."""
    crlf = file.count("\r\n")
    return text.replace("\r\n", "\n").replace("\n", "\r\n") if crlf and crlf == file.count("\n") else text


def _replaced(text: str, old: str, new: str, path: str) -> str:
    if not old:
        raise Refused("old_str: is empty; insert adds lines")
    old, new = _ends(old, text), _ends(new, text)
    if (count := text.count(old)) != 1:
        raise Refused(f"old_str stands {count} times in {path[:200]}: it must stand there exactly once")
    return text.replace(old, new)


def _inserted(text: str, given: _Edit) -> str:
    added = _ends(_needed(given.insert_text, "insert_text"), text)
    lines = text.splitlines(keepends=True) if "\n" not in text else [line + "\n" for line in text.split("\n")]
    if "\n" in text:
        lines[-1] = lines[-1].removesuffix("\n")
        lines = lines if lines[-1] else lines[:-1]
    at = given.insert_line
    if at is None or at > len(lines):
        raise Refused(f"insert_line: must be 0 to {len(lines)}")
    end = "\r\n" if _ends("\n", text) == "\r\n" else "\n"
    before = "".join(lines[:at])
    before += end if before and not before.endswith("\n") else ""
    after = "".join(lines[at:])
    return before + added + (end if after and added and not added.endswith("\n") else "") + after


def _matches(pattern: "regex.Pattern[str]", name: str, text: str, most: int) -> list[str]:
    until = time.monotonic() + _PATTERN_S
    found: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if pattern.search(line[:MAX_FILE_BYTES], timeout=left, concurrent=True):
            found.append(f"{name}:{number}: {one_line(line, 300)}")
            if len(found) >= most:
                break
    return found


def _fitting(text: str) -> str:
    """What a model is given: no lone surrogates, which no JSON holds, and never more than 8 kB."""
    return clip(text.encode("utf-8", "replace").decode(), MAX_ANSWER_BYTES)


def _schema(form: type[_Input]) -> dict[str, Any]:
    """The form's JSON schema without what pydantic adds for readers of classes."""
    schema = form.model_json_schema()
    for name, described in schema["properties"].items():
        described.pop("title", None)
        if described.get("default", ...) is None:
            described.pop("default")
            kinds = [kind for kind in described.pop("anyOf") if kind != {"type": "null"}]
            schema["properties"][name] = {**kinds[0], **described}
    properties = schema["properties"]
    if (lines := properties.get("view_range")) is not None:  # a plain list: not every server knows prefixItems
        lines.pop("prefixItems", None)
        lines["items"] = {"type": "integer"}
    return {"type": "object", "properties": properties, "required": schema.get("required", [])}
