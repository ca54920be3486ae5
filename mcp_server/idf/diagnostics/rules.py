"""The table of rules, and the cheap test that decides which lines are looked at at all.

To teach a new message: add a Rule to the file of its tool (or a file with RULES to `_TABLES`), with a line as the tool
prints it in `seen`. A test takes every `seen` through the whole way.
"""

import re
from functools import cache
from typing import Any

from mcp_server.idf.diagnostics import (
    bitbake,
    cmake,
    compiler,
    component,
    environment,
    flash,
    git,
    image,
    kconfig,
    linker,
    ninja,
    python,
    rust,
    shell_tools,
)
from mcp_server.idf.diagnostics.finding import Finding, Rule

_TABLES = (
    git,
    environment,
    image,
    flash,
    kconfig,
    component,
    python,
    cmake,
    ninja,
    compiler,
    linker,
    rust,
    bitbake,
    shell_tools,
)
RULES: tuple[Rule, ...] = tuple(rule for table in _TABLES for rule in table.RULES)
MAX_LETTERS = 1_500  # of a line that rules see: bounds the patterns' time


def match(line: str) -> tuple[Rule, Finding] | None:
    """The first rule that knows the line."""
    if len(line) > MAX_LETTERS:
        line = f"{line[:1000]} … {line[-500:]}"
    if not _any_word().search(line):
        return None
    for number in sorted({number for word, number in _WORDS if word in line}):
        if finding := RULES[number].match(line):
            return RULES[number], finding
    return None


_WORDS = tuple((word, number) for number, rule in enumerate(RULES) for word in rule.words)


# What a line must hold a piece of to matter to any reader or rule. Short and caseless at the start, to be few.
_HOT = [
    "inlined",
    "rror",
    "arning",
    "ailed",
    "ote:",
    "not_",
    "FAILED",
    "ERROR",
    "CMake_",
    "ninja",
    "No_",
    "n't",
    "annot",
    "In_file_incl",
    "___requ",
    "nvalid",
    "ould_",
    "unction",
    "ndefined",
    "verflow",
    "efin",
    "Traceback",
    "HINT",
    "issing",
    "denied",
    "illed",
    "ault",
    "active_in",
    "target",
    "ioctl",
    "memory",
    "ld:_",
    "ar:_",
    "objcopy:_",
    "truncated",
    "nterrupt",
    "terminated",
    "rashed",
    "artition",
    "Kconfig",
    "xception",
    "***",
    "Dependency",
    "panicked",
    "Log_data",
    "onnection_re",
    "onnection_ti",
    "fatal:_",
    "remote:_",
    "requested_strict",
    "identification",
    "skipping inlined",
]


@cache
def hot() -> re.Pattern[bytes]:
    """Finds a line that may matter."""
    words = (*(word.replace("_", " ") for word in _HOT), 'File "', "╭")
    return re.compile(_tree(words).encode())


@cache
def _any_word() -> re.Pattern[str]:
    return re.compile(_tree(tuple(word for word, _ in _WORDS)))


def _tree(words: tuple[str, ...]) -> str:
    """A pattern for any of the words, as a tree: several times as fast as a list of them."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _branches(tree)


def _branches(tree: dict[str, Any]) -> str:
    if "" in tree:
        return ""
    branches = [re.escape(letter) + _branches(rest) for letter, rest in sorted(tree.items())]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
