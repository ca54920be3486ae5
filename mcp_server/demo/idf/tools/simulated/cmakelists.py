"""Reads as much of the CMake language as the demo's CMakeLists.txt files use, and says what CMake would of the rest."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

_TOKEN = re.compile(r'\s+|#[^\n]*|(?P<paren>[()])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()#"]+)', re.DOTALL)
_VARIABLE = re.compile(r"\$(ENV)?\{(\w+)\}")
_KNOWN = frozenset(
    {"cmake_minimum_required", "include", "set", "project", "idf_build_set_property", "idf_component_register"}
)
_LISTS = frozenset({"SRCS", "INCLUDE_DIRS", "PRIV_INCLUDE_DIRS", "REQUIRES", "PRIV_REQUIRES"})


class CMakeError(Exception):
    """What CMake would print after `CMake Error at `; several errors are several strings."""


@dataclass
class Component:
    """One idf_component_register. Paths are as written, relative to `folder`."""

    name: str
    folder: Path
    line: int = 1
    lists: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def items(self, key: str) -> list[str]:
        return self.lists.get(key, [])

    @property
    def sources(self) -> list[Path]:
        return [self.folder / source for source in self.items("SRCS")]

    @property
    def include_dirs(self) -> list[Path]:
        return [Path(os.path.normpath(self.folder / item)) for item in self.items("INCLUDE_DIRS")]

    @property
    def private_include_dirs(self) -> list[Path]:
        return [Path(os.path.normpath(self.folder / item)) for item in self.items("PRIV_INCLUDE_DIRS")]


@dataclass
class Command:
    """One call in a CMakeLists.txt."""

    name: str
    line: int
    args: list[str] = field(default_factory=list[str])


def _parse_error(path: Path, line: int, text: str) -> CMakeError:
    return CMakeError(f"{path}:{line}:\n  Parse error.  {text}\n\n")


def commands(path: Path) -> list[Command]:
    """The calls of one file, variables replaced."""
    text = path.read_text(encoding="utf-8", errors="replace")
    found: list[Command] = []
    variables: dict[str, str] = {}
    name, open_call, at = "", None, 0
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        token = _TOKEN.match(text, at)
        if token is None:
            raise _parse_error(path, line, 'Function missing ending ")".  Instead found unterminated string.')
        at = token.end()
        if token["paren"] == "(" and open_call is None:
            open_call = Command(name.lower(), line)
        elif token["paren"] == ")" and open_call is not None:
            found.append(open_call)
            _run(path, open_call, variables)
            name, open_call = "", None
        elif token["paren"]:
            raise _parse_error(path, line, f'Expected a command name, got unquoted argument with text "{token[0]}".')
        elif token["word"] is not None or token["quoted"] is not None:
            word = _expand(token["quoted"] if token["word"] is None else token["word"], variables)
            if open_call is None:
                name = word
            else:
                open_call.args += [word] if token["word"] is None else [part for part in word.split(";") if part]
    if open_call is not None:
        raise _parse_error(path, open_call.line, 'Function missing ending ")".  End of file reached.')
    return found


def _expand(word: str, variables: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return os.environ.get(match[2], "") if match[1] else variables.get(match[2], "")

    return _VARIABLE.sub(value, word.replace('\\"', '"'))


def _run(path: Path, command: Command, variables: dict[str, str]) -> None:
    if command.name not in _KNOWN:
        raise CMakeError(
            f'{path}:{command.line} ({command.name}):\n  Unknown CMake command "{command.name}".\n\n'
            "  (The simulated ESP-IDF knows few of them.)\n\n"
        )
    if command.name == "set" and command.args:
        variables[command.args[0]] = ";".join(command.args[1:])


def read_component(folder: Path) -> Component:
    """The component that lies in `folder`."""
    component = Component(folder.name, folder)
    for command in commands(folder / "CMakeLists.txt"):
        if command.name != "idf_component_register":
            continue
        component.line = command.line
        key = ""
        for word in command.args:
            if word in _LISTS:
                key = word
                component.lists.setdefault(key, [])
            elif key:
                component.lists[key].append(word)
    return component


@dataclass
class Project:
    """What the top CMakeLists.txt says."""

    name: str
    minimal: bool
    line: int


def read_project(folder: Path) -> Project | None:
    """None where nothing calls project()."""
    name, minimal, line = None, False, 0
    for command in commands(folder / "CMakeLists.txt"):
        if command.name == "project" and command.args:
            name, line = command.args[0], command.line
        elif command.name == "idf_build_set_property" and command.args[:1] == ["MINIMAL_BUILD"]:
            minimal = command.args[1:2] == ["ON"]
    return Project(name, minimal, line) if name else None
