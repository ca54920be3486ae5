"""ESP-IDF's own hints: tools/idf_py_actions/hints.yml of an installation, and those of its components."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mcp_server.idf.diagnostics.text import squeeze

MAX_FILE_BYTES = 1_000_000
MAX_HINTS = 3_000  # v6.0.2 has about 300
MAX_TEXT = 3_000  # letters of a finding that patterns are tried on: bounds even a bad pattern
_PLAIN = re.compile(r"[A-Za-z0-9_ ':/,=<>\"#-]{4,}")
_NESTED = re.compile(r"\([^()]*[+*][^()]*\)\s*[+*{]|\([^()]*\([^()]*\)[+*][^()]*\)\s*[+*{]")
_SPECIAL = set(".^$*+?{}[]\\|()")
_CACHE: dict[tuple[str, int], "Hints"] = {}


@dataclass
class _Hint:
    pattern: str
    text: str
    show_match: bool
    needle: str = ""
    regex: re.Pattern[str] | None = None
    broken: bool = False

    def apply(self, text: str) -> str | None:
        if self.broken or (self.needle and self.needle not in text):
            return None
        if self.regex is None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # "possible nested set" in a file that is not ours
                    self.regex = re.compile(self.pattern)
            except (re.error, OverflowError, RecursionError):
                self.broken = True
                return None
        found = self.regex.search(text)
        if found is None:
            return None
        groups = ", ".join(group for group in found.groups() if group) if self.show_match else ""
        try:
            return squeeze(self.text.format(groups))
        except (IndexError, KeyError, ValueError):
            return squeeze(self.text)


class Hints:
    """Patterns and what ESP-IDF advises where they match. Empty where there is no installation: it never fails."""

    def __init__(self, hints: list[_Hint] | None = None) -> None:
        self._hints = hints or []

    def __len__(self) -> int:
        return len(self._hints)

    @classmethod
    def load(cls, idf_path: str | Path | None) -> "Hints":
        """The hints of an installation, read once for each version of its file; nothing of it is ever executed."""
        if not idf_path:
            return cls()
        root = Path(idf_path)
        main = root / "tools" / "idf_py_actions" / "hints.yml"
        try:
            key = (str(main), main.stat().st_mtime_ns)
        except OSError:
            return cls()
        if key not in _CACHE:
            files = [main, *sorted((root / "components").glob("*/hints.yml"))[:200]]
            hints = [hint for file in files for hint in _read(file)]
            _CACHE.clear()
            _CACHE[key] = cls(hints[:MAX_HINTS])
        return _CACHE[key]

    def for_text(self, text: str) -> list[str]:
        """What ESP-IDF advises on a tool's message, as idf.py would print it, without `HINT:`."""
        text = squeeze(text[:MAX_TEXT])
        found = (hint.apply(text) for hint in self._hints)
        return list(dict.fromkeys(hint for hint in found if hint))


def _read(file: Path) -> Iterator[_Hint]:
    import yaml  # noqa: PLC0415  (only a failed build needs it, and it costs 15 ms)

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            return
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        entries: Any = yaml.load(file.read_text("utf-8", "replace"), Loader=loader)  # noqa: S506  (both are safe loaders)
    except (OSError, yaml.YAMLError, RecursionError):
        return
    if isinstance(entries, list):
        for entry in cast(list[Any], entries):
            if isinstance(entry, dict):
                yield from _expand(cast(dict[str, Any], entry))


def _expand(entry: dict[str, Any]) -> Iterator[_Hint]:
    """One hint, or one for each of its `variables`."""
    pattern, text = entry.get("re"), entry.get("hint")
    if not isinstance(pattern, str) or not isinstance(text, str):
        return
    variables: Any = entry.get("variables")
    if not isinstance(variables, list):
        if hint := _make(pattern, text, bool(entry.get("match_to_output"))):
            yield hint
        return
    for choice in cast(list[Any], variables)[:200]:
        try:
            one = _make(pattern.format(*choice["re_variables"]), text.format(*choice["hint_variables"]), False)
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        if one:
            one.text = one.text.replace("{", "{{").replace("}", "}}")
            yield one


def _make(pattern: str, text: str, show_match: bool) -> _Hint | None:
    if len(pattern) > 4_000 or _NESTED.search(pattern):
        return None  # (a+)+ and its like may take for ever
    return _Hint(pattern, text, show_match, needle_of(pattern))


def _class_end(pattern: str, start: int) -> int:
    """Where the set of letters that begins at `start` ends: a bracket inside it is a letter."""
    i = start + 1
    i += pattern[i : i + 1] == "^"
    i += pattern[i : i + 1] == "]"
    while i < len(pattern) and pattern[i] != "]":
        i += 2 if pattern[i] == "\\" else 1
    return i


def needle_of(pattern: str) -> str:
    """The longest plain text that every match of `pattern` must hold: looked for first, a hundred times as cheap."""
    runs, run, depth, i = [""], "", 0, 0
    while i < len(pattern):
        letter = pattern[i]
        if letter == "\\":
            literal = pattern[i + 1 : i + 2]
            letter, i = (literal, i + 1) if literal in _SPECIAL or literal in "'\"/-" else ("", i + 1)
            plain = bool(letter)
        else:
            plain = letter not in _SPECIAL
        if letter == "|" and not plain and depth == 0:
            return ""
        if plain and depth == 0:
            run += letter
        else:
            if letter in "*?{" and not plain:
                run = run[:-1]  # the letter before is optional
            runs.append(run)
            run = ""
            if letter == "[" and not plain:
                i = _class_end(pattern, i)
            depth += (letter == "(" and not plain) - (letter == ")" and not plain)
        i += 1
    return max([*runs, run], key=len) if depth == 0 else ""
