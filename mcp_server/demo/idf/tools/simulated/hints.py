"""Searches a failed command's output for what hints.yml knows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from .place import IDF_PATH


def _load() -> list[dict[str, str]]:
    hints: list[dict[str, str]] = []
    for line in (IDF_PATH / "tools/idf_py_actions/hints.yml").read_text(encoding="utf-8").splitlines():
        key, colon, value = line.strip().partition(": ")
        if line.startswith("-"):
            hints.append({})
        elif colon and line.startswith(" ") and hints:
            hints[-1][key] = json.loads(value) if value.startswith('"') else value
    return hints


def hints(*outputs: Path) -> Iterator[str]:
    """`HINT: …` for every rule that one of the outputs meets, as idf.py prints it."""
    for output in outputs:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        text = " ".join(line.strip() for line in lines if line.strip())
        for hint in _load():
            match = re.search(hint["re"], text)
            if match:
                found = ", ".join(match.groups()) if hint.get("match_to_output") else ""
                yield "HINT: " + hint["hint"].format(found)
