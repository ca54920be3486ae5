"""Matrices: a stage for each combination of values, with `exclude` and `include`."""

import hashlib
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from mcp_server.pipelines.params import NAME, ReferenceMistake, Scope, name_rule
from mcp_server.pipelines.when import Value
from mcp_server.yaml_document import Document, Loc, Mistake
from mcp_server.yaml_model import nearest

MAX_CELLS = 256  # of one matrix

_MAX_NAME = 64
_RESERVED = ("include", "exclude")

Cell = dict[str, Value]


class Matrix:
    """Reads the matrix at `at` of the document. `mistakes` are what is wrong with it; `cells` are empty then."""

    def __init__(self, document: Document, at: Loc, raw: Any, scope: Scope) -> None:
        self._document, self._at, self._scope = document, at, scope
        self.mistakes: list[Mistake] = []
        self.axes: dict[str, list[Value]] = {}
        self.cells: list[Cell] = []
        if not isinstance(raw, dict) or not raw:
            self._wrong((), "matrix should be `key: [values]` lines, e.g. target: [esp32, esp32c3]")
            return
        given = cast("dict[str, Any]", raw)
        self.axes = {key: self._axis(key, value) for key, value in given.items() if key not in _RESERVED}
        include, exclude = (self._entries(key, given.get(key)) for key in ("include", "exclude"))
        if not self.mistakes:
            self._unfold(include, exclude)
        if self.mistakes:
            self.cells = []

    def _wrong(self, way: Loc, sentence: str, *, at_key: bool = False) -> None:
        self.mistakes.append(self._document.mistake((*self._at, *way), sentence, at_key=at_key))

    def _axis(self, key: str, raw: Any) -> list[Value]:
        if not NAME.fullmatch(key):
            self._wrong((key,), name_rule("matrix key", key), at_key=True)
            return []
        if isinstance(raw, str):
            return [self._value((key,), raw)]
        items = cast("list[Any]", raw) if isinstance(raw, list) else []
        if not items:
            self._wrong((key,), f"matrix.{key} should be a list of values, [a, b]")
        values = [self._value((key, place), item) for place, item in enumerate(items)]
        return list({value.text: value for value in values}.values())

    def _value(self, way: Loc, raw: Any) -> Value:
        if not isinstance(raw, str):
            self._wrong(way, "a matrix value should be one text, number or true/false")
            return Value("")
        try:
            return Value.written(self._scope.text(raw), plain=(*self._at, *way) in self._document.plain)
        except ReferenceMistake as mistake:
            self._wrong(way, str(mistake))
            return Value("")

    def _entries(self, key: str, raw: Any) -> list[Cell]:
        """The cells listed under include or exclude."""
        if raw is None:
            return []
        found: list[Cell] = []
        items = cast("list[Any]", raw if isinstance(raw, list) else [raw])
        for place, item in enumerate(items):
            if not isinstance(item, dict) or not item:
                self._wrong((key, place), f"matrix.{key} should be a list of `key: value` lines")
                continue
            own = cast("dict[str, Any]", item)
            for name in own:
                if key == "exclude" and name not in self.axes:
                    known = nearest(name, list(self.axes)) if self.axes else ""
                    self._wrong((key, place, name), f"the matrix has no key '{name[:60]}'{known}", at_key=True)
                elif not NAME.fullmatch(name):
                    self._wrong((key, place, name), name_rule("matrix key", name), at_key=True)
            found.append({name: self._value((key, place, name), value) for name, value in own.items()})
        return found

    def _unfold(self, include: list[Cell], exclude: list[Cell]) -> None:
        count = math.prod(len(values) for values in self.axes.values()) if self.axes else 0
        if count + len(include) > MAX_CELLS:
            self._wrong((), f"the matrix makes {count + len(include):,} cells; at most {MAX_CELLS} are run")
            return
        combinations = itertools.product(*self.axes.values()) if self.axes else ()
        cells = [dict(zip(self.axes, combination, strict=True)) for combination in combinations]
        cells = [cell for cell in cells if not any(_fits(cell, entry) for entry in exclude)]
        original = [dict(cell) for cell in cells]
        for entry in include:
            known = {name: value for name, value in entry.items() if name in self.axes}
            extra = {name: value for name, value in entry.items() if name not in self.axes}
            joined = [place for place, cell in enumerate(original) if extra and _fits(cell, known)]
            for place in joined:
                cells[place].update(extra)
            if not joined and entry not in cells:
                cells.append(entry)
        if not cells:
            self._wrong((), "exclude leaves no cell of the matrix; leave the stage out, or say when it runs")
        names = dict.fromkeys(name for cell in cells for name in cell)
        self.cells = [{name: cell.get(name, Value("")) for name in names} for cell in cells]


def _fits(cell: Mapping[str, Value], entry: Mapping[str, Value]) -> bool:
    return all(cell[name].text == value.text for name, value in entry.items())


def cell_names(base: str, axes: Mapping[str, Any], cells: list[Cell]) -> list[str]:
    """`base.value1.value2` of each cell in the letters a stage's name may have; each name once."""
    names: list[str] = []
    taken: set[str] = set()
    for cell in cells:
        own = [cell[axis].text for axis in axes] if all(cell[axis].text for axis in axes) else []
        parts = [text for text in own or [value.text for value in cell.values()] if text]
        name = clipped(".".join([base, *(_safe(part) for part in parts)]))
        number = 2
        while name in taken:
            name = clipped(f"{name.removesuffix(f'-{number - 1}')}-{number}")
            number += 1
        taken.add(name)
        names.append(name)
    return names


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "-"


def clipped(name: str) -> str:
    """`name`, or its beginning and a mark of the rest where it is too long for a stage."""
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[: _MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
