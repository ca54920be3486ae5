"""The longest chain of steps that wait for each other, from `build.ninja`: no number of cores makes it quicker.

Read are the edges of that one file, which is where CMake and Meson write them; what `subninja` and variables would add
is left out, so that a chain may be found shorter than it is, never longer.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mcp_server.idf.installation import open_file

FILE: Final = "build.ninja"
MAX_BYTES = 8 * 1024 * 1024  # an ESP-IDF app has 1 MB, of which this takes 20 ms
MAX_EDGES = 100_000

_CONTINUED = re.compile(rb"\$\r?\n *")
_EDGE = re.compile(rb"^build (.+)$", re.MULTILINE)
_WORD = re.compile(rb"(?:[^ $]|\$.)+")
_ESCAPED = re.compile(rb"\$([ :$])")
_BARS = (b"|", b"||")


def longest_path_s(build_dir: Path, seconds: Mapping[str, float]) -> float | None:
    """Seconds of the longest chain of the steps that ran, which are named by any of their outputs. Reads the disk.

    None: there is no such file, or it is too large to be worth it.
    """
    try:
        with open_file(build_dir / FILE) as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
    if len(text) > MAX_BYTES or text.count(b"\nbuild ") > MAX_EDGES:
        return None
    return longest_chain(text, {name.encode("utf-8", "surrogateescape"): s for name, s in seconds.items()})


def longest_chain(text: bytes, seconds: Mapping[bytes, float]) -> float:
    """The same, of the file's content. An edge that waits for itself, which ninja refuses, does not wait."""
    made_by: dict[bytes, int] = {}
    needs: list[list[bytes]] = []
    took: list[float] = []
    for line in _EDGE.findall(_CONTINUED.sub(b" ", text)):
        outputs, inputs = _edge(line)
        for output in outputs:
            made_by.setdefault(output, len(needs))
        needs.append(inputs)
        took.append(max((seconds.get(output, 0.0) for output in outputs), default=0.0))
    before = [[made_by[name] for name in names if name in made_by] for names in needs]
    return round(max(_ends(before, took), default=0.0), 3)


def _ends(before: list[list[int]], took: list[float]) -> list[float]:
    """When each edge is over, if all that it waits for begins at once; without recursion, as chains may be long."""
    over: list[float | None] = [None] * len(before)
    begun = [False] * len(before)
    for first in range(len(before)):
        path = [first]
        while path:
            at = path[-1]
            if over[at] is None and not begun[at]:
                begun[at] = True
                path += [other for other in before[at] if over[other] is None and not begun[other]]
                continue
            if over[at] is None:
                over[at] = took[at] + max((over[other] or 0.0 for other in before[at]), default=0.0)
            path.pop()
    return [end or 0.0 for end in over]


def _edge(line: bytes) -> tuple[list[bytes], list[bytes]]:
    """Its outputs and inputs, of whichever sort; validations, which nobody waits for, are none."""
    words: list[bytes] = line.split() if b"$" not in line else _WORD.findall(line)
    at = next((at for at, word in enumerate(words) if word.endswith(b":") and not word.endswith(b"$:")), None)
    if at is None:
        return [], []
    outputs, rest = [*words[:at], words[at][:-1]], words[at + 2 :]  # after the rule's name
    until = rest.index(b"|@") if b"|@" in rest else len(rest)
    return _names(outputs), _names(rest[:until])


def _names(words: list[bytes]) -> list[bytes]:
    return [_ESCAPED.sub(rb"\1", word) for word in words if word and word not in _BARS]
