"""Text of a bounded size, and durations as people read them.

May import: nothing of this package.
"""

import re
from collections.abc import Sequence
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")


def duration(seconds: float | None) -> str:
    """`0.04 s`, `3.4 s`, `38 s`, `12 min 5 s`, `2 h 3 min`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0):.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text.encode("utf-8", "replace"))


def one_line(text: Any, limit: int) -> str:
    """Any text as one line without control characters, at most `limit` bytes."""
    return clip(" ".join(_CONTROL.sub(" ", _ESCAPES.sub("", str(text))).split()), limit)


def clip(text: str, limit: int) -> str:
    """At most `limit` bytes, cut behind a whole letter."""
    if size(text) <= limit:
        return text
    return text.encode("utf-8", "replace")[: max(limit - 3, 0)].decode("utf-8", "ignore") + "…"


def fit(lines: Sequence[str], limit: int) -> str:
    """As many lines as `limit` bytes hold, then how many were left out."""
    kept: list[str] = []
    left = limit - 24  # room for the last line
    for number, line in enumerate(lines):
        left -= size(line) + 1
        if left < 0 and (number < len(lines) - 1 or left < -24):
            return "\n".join([*kept, f"… and {len(lines) - number} more lines"]) if kept else clip(line, limit)
        kept.append(line)
    return "\n".join(kept)
