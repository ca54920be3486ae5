"""The table of rules, and the cheap test that decides which lines are looked at at all.

To teach a new message: add a Rule to the file of its tool (or a file with RULES to `_TABLES`), with a line as the tool
prints it in `seen`. A test takes every `seen` through the whole way.
"""

from mcp_server.idf.diagnostics import (
    cmake,
    compiler,
    component,
    environment,
    flash,
    image,
    kconfig,
    linker,
    ninja,
    python,
)
from mcp_server.idf.diagnostics.finding import Finding, Rule

_TABLES = (environment, flash, image, kconfig, component, python, cmake, ninja, compiler, linker)
RULES: tuple[Rule, ...] = tuple(rule for table in _TABLES for rule in table.RULES)
MAX_LETTERS = 1_500  # of a line that rules see: bounds the patterns' time


def match(line: str) -> tuple[Rule, Finding] | None:
    """The first rule that knows the line."""
    if len(line) > MAX_LETTERS:
        line = f"{line[:1000]} … {line[-500:]}"
    for rule in RULES:
        for word in rule.words:
            if word in line:
                if finding := rule.match(line):
                    return rule, finding
                break
    return None


def is_hot(line: bytes) -> bool:  # noqa: PLR0916  (one expression is three times as fast as a loop)
    """The line may matter: it holds a piece of a word that some reader or rule waits for."""
    return (
        b"rror" in line
        or b"arning" in line
        or b"ailed" in line
        or b"ote:" in line
        or b"not " in line
        or b"FAILED" in line
        or b"ERROR" in line
        or b"CMake " in line
        or b"ninja" in line
        or b"No " in line
        or b"n't" in line
        or b"annot" in line
        or b"In file incl" in line
        or b"   requ" in line
        or b"nvalid" in line
        or b"ould " in line
        or b"unction" in line
        or b"ndefined" in line
        or b"verflow" in line
        or b"efinition" in line
        or b"Traceback" in line
        or b"HINT" in line
        or b"Missing" in line
        or b"denied" in line
    )
