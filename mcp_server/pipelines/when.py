"""The language of `when`: `params.target == 'esp32c3' and not params.fast`. Parsed here, never given to an interpreter.

A value is a text, a number or a truth value. Numbers compare as numbers and texts as texts; `<` and its like take
numbers only. Alone, a value is false if it is empty, 0, `false`, `no` or `off`.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

MAX_LENGTH = 1000  # characters; a longer condition was not written by a person
MAX_DEPTH = 50  # parentheses and `not` in each other

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off", "0", "")
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'[^']*'|\"[^\"]*\")"
    r"|\$\{\s*(?P<braced>[A-Za-z_][\w-]*\.[A-Za-z_][\w-]*)\s*\}"
    r"|(?P<name>[A-Za-z_][\w-]*(?:\.[\w.-]+)?)"
    r"|(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![\w.])"
    r"|(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],]))",
    re.ASCII,
)
_WORDS = {"&&": "and", "||": "or", "!": "not"}
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class WhenError(ValueError):
    """The condition cannot be used; the sentence says what would be right."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it was written, and what it counts as."""

    text: str
    kind: Literal["text", "number", "truth"] = "text"

    @classmethod
    def written(cls, text: str, *, plain: bool) -> "Value":
        """What a YAML value without (`plain`) or with quotes is. `012`, `1e3` and `no` are texts."""
        if plain and _NUMBER.fullmatch(text):
            return cls(text, "number")
        if plain and text.lower() in ("true", "false"):
            return cls(text.lower(), "truth")
        return cls(text)

    @property
    def number(self) -> float | None:
        return float(self.text) if _NUMBER.fullmatch(self.text) else None

    @property
    def truth(self) -> bool:
        return self.text.lower() not in _FALSE and self.number != 0

    @property
    def as_word(self) -> bool | None:
        """The truth value that the text spells, if it does."""
        word = self.text.lower()
        return True if word in _TRUE else False if word in _FALSE[:3] else None

    def equals(self, other: "Value") -> bool:
        if self.text == other.text:
            return True
        kinds = {self.kind, other.kind}
        if kinds == {"number"}:
            return self.number == other.number
        return "truth" in kinds and self.as_word is not None and self.as_word == other.as_word


Values = Mapping[str, Mapping[str, Value]]
"""`params` and `matrix`, each with its values by name."""

_Result = Value | tuple[Value, ...] | bool
_Part = Callable[[Values], _Result]


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition. `references` are the values it names: ("params", "target")."""

    text: str
    references: tuple[tuple[str, str], ...]
    _part: _Part

    def holds(self, values: Values) -> bool:
        """Whether it is true. WhenError where two values cannot be compared, or one does not exist."""
        return _truth(self._part(values))


def parse(text: str) -> Condition:
    """`text` as a condition; WhenError says what is wrong with it."""
    if len(text) > MAX_LENGTH:
        raise WhenError(f"is {len(text):,} characters long; at most {MAX_LENGTH:,} are read")
    parser = _Parser(_tokens(text))
    part = parser.whole()
    return Condition(text, tuple(parser.references), part)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place, text = 0, text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if not found or found.lastgroup is None:
            raise WhenError(_no_token(text[place:].lstrip()))
        group, token = found.lastgroup, found[found.lastgroup]
        tokens.append(("name", token) if group == "braced" else (group, _WORDS.get(token, token)))
        place = found.end()
    return tokens


def _no_token(rest: str) -> str:
    if rest[0] in "'\"":
        return f"the quote at {_shown(rest)} is never closed"
    if rest[0] == "=":
        return "'=' compares nothing; write =="
    if rest[0] in "&|":
        return f"'{rest[0]}' is no operator; write {'and' if rest[0] == '&' else 'or'}"
    if rest[0].isdigit():
        return f"{_shown(rest)} is no number; put a text in quotes"
    return f"{_shown(rest)} is not understood; write e.g. params.target == 'esp32'"


class _Parser:
    """By recursive descent: or, and, not, a comparison, a value."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self.references: list[tuple[str, str]] = []

    def whole(self) -> _Part:
        if not self._tokens:
            raise WhenError("is empty; write e.g. params.target == 'esp32'")
        part = self._either()
        if self._next < len(self._tokens):
            raise WhenError(f"{self._here()} is too much; join two conditions by and, or")
        return part

    def _peek(self) -> str:
        """The next sign or word; "" where a text or the end is next."""
        kind, token = self._tokens[self._next] if self._next < len(self._tokens) else ("end", "")
        return token if kind in ("sign", "name") else ""

    def _take(self, *words: str) -> str:
        word = self._peek()
        if word and word in words:
            self._next += 1
            return word
        return ""

    def _here(self) -> str:
        return _shown(self._tokens[self._next][1])

    def _either(self) -> _Part:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda values: any(_truth(part(values)) for part in parts)

    def _both(self) -> _Part:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda values: all(_truth(part(values)) for part in parts)

    def _negation(self) -> _Part:
        if not self._take("not"):
            return self._comparison()
        self._deeper()
        part = self._negation()
        self._depth -= 1
        return lambda values: not _truth(part(values))

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise WhenError("is nested too deeply")

    def _comparison(self) -> _Part:
        left = self._value()
        sign = self._take("==", "!=", *_ORDERS, "in", "not")
        if not sign:
            return left
        if sign == "not" and not self._take("in"):
            raise WhenError("'not' after a value is followed by 'in'")
        right = self._value()
        if self._peek() in ("==", "!=", *_ORDERS, "in"):
            raise WhenError("compares three values at once; join two comparisons by and")
        return lambda values: _compare(sign, left(values), right(values))

    def _value(self) -> _Part:
        if self._next >= len(self._tokens):
            raise WhenError("ends where a value is missing")
        if self._take("("):
            self._deeper()
            part = self._either()
            self._depth -= 1
            if not self._take(")"):
                raise WhenError("a ')' is missing")
            return part
        if self._take("["):
            return self._list()
        return self._single()

    def _list(self) -> _Part:
        items: list[Callable[[Values], Value]] = []
        while not self._take("]"):
            if self._next >= len(self._tokens):
                raise WhenError("a ']' is missing")
            if items and not self._take(","):
                raise WhenError("a ',' or ']' is missing")
            if self._next >= len(self._tokens):
                raise WhenError("ends where a value is missing")
            items.append(self._single())
        return lambda values: tuple(item(values) for item in items)

    def _single(self) -> Callable[[Values], Value]:
        kind, token = self._tokens[self._next]
        if kind == "sign" or token in ("and", "or", "not", "in"):
            raise WhenError(f"a value is missing before {_shown(token)}")
        self._next += 1
        if kind != "name":
            value = Value(token[1:-1]) if kind == "text" else Value.written(token, plain=True)
            return lambda _: value
        if token.lower() in ("true", "false"):
            value = Value(token.lower(), "truth")
            return lambda _: value
        space, _, name = token.partition(".")
        if space not in ("params", "matrix") or not name:
            raise WhenError(_no_name(token))
        self.references.append((space, name))
        return lambda values: _look_up(values, space, name)


def _no_name(token: str) -> str:
    space, dot, name = token.partition(".")
    near = get_close_matches(space, ("params", "matrix"), n=1) if dot else []
    if near:
        return f"there is no {_shown(token)}; did you mean '{near[0]}.{name[:40]}'?"
    return f"{_shown(token)} is no value here; write params.NAME, matrix.NAME, or a text in quotes"


def _look_up(values: Values, space: str, name: str) -> Value:
    found = values.get(space, {}).get(name)
    if found is None:
        raise WhenError(f"there is no '{space}.{name[:60]}'")
    return found


def _compare(sign: str, left: _Result, right: _Result) -> bool:
    if sign in ("in", "not"):
        return _within(left, right) == (sign == "in")
    one, other = _one(left, sign), _one(right, sign)
    if sign in ("==", "!="):
        return one.equals(other) == (sign == "==")
    for value in (one, other):
        if value.number is None:
            raise WhenError(f"'{sign}' compares numbers, and {_shown(value.text)} is none")
    return _ORDERS[sign](float(one.text), float(other.text))


def _within(left: _Result, right: _Result) -> bool:
    value = _one(left, "in")
    if isinstance(right, tuple):
        return any(value.equals(item) for item in right)
    return value.text in _one(right, "in").text


def _one(result: _Result, sign: str) -> Value:
    if isinstance(result, bool):
        return Value(str(result).lower(), "truth")
    if isinstance(result, tuple):
        raise WhenError(f"a list stands only after in, not beside '{sign}'")
    return result


def _truth(result: _Result) -> bool:
    if isinstance(result, tuple):
        raise WhenError("a list alone is no condition; write x in [a, b]")
    return result if isinstance(result, bool) else result.truth


def _shown(text: str) -> str:
    return f"'{text}'" if len(text) <= 40 else f"'{text[:39]}…'"
