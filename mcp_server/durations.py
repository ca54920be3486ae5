"""Durations as people write them in YAML and in arguments: `2h`, `30m`, `90s`, `1h30m`, `30d`, plain seconds."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_PARTS = [rf"(?:(?P<{unit}>\d+(?:\.\d+)?){unit})?" for unit in _UNITS]
_WITH_UNITS = re.compile("".join(_PARTS), re.ASCII)
_PLAIN = re.compile(r"\d+(\.\d+)?", re.ASCII)
_LONG_UNIT = re.compile(r"(?<=\d)(?:(d)ays?|(h)(?:ou)?rs?|(m)in(?:ute)?s?|(s)ec(?:ond)?s?)(?![a-z])", re.ASCII)
_MAX_S = 10 * 365 * 86_400  # ten years: more is a slip of the pen, and overflows timers


def parse_duration(value: object) -> float:
    """Seconds. Zero is a duration, too; what it means is the field's business. ValueError says what would be right."""
    text = _text_of(value)
    seconds = None if text is None else _seconds(text)
    if text is None or seconds is None:
        raise ValueError(f"{_shown(value)} is not a duration; write {_suggestion(text)}")
    if seconds > _MAX_S:
        raise ValueError(f"{_shown(value)} is more than ten years; write 2h, 30m, 90s or 30d")
    return seconds


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""A field that is written as a duration and read as seconds."""


def _text_of(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.15g}"
    return None


def _seconds(text: str) -> float | None:
    if _PLAIN.fullmatch(text):
        return float(text)
    found = _WITH_UNITS.fullmatch(text)
    if not text or not found:
        return None
    return sum(float(number) * _UNITS[unit] for unit, number in found.groupdict().items() if number)


def _suggestion(text: str | None) -> str:
    """`3 hours` → `3h` where the words can be read, else the forms there are."""
    if text is not None and len(text) <= 40:
        spaced = re.sub(r",|\band\b", " ", text.lower())
        short = _LONG_UNIT.sub(r"\1\2\3\4", re.sub(r"(?<=\d)\s+", "", spaced)).replace(" ", "")
        if _seconds(short) is not None:
            return short
    return "2h, 30m, 90s, 1h30m or plain seconds"


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool) else "this"
    return text if len(text) <= 42 else text[:40] + "…'"
