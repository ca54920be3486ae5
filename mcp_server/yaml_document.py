"""YAML written by people: read with the place of every value, so that a mistake can be shown where it is.

Every plain value is text: `5.10`, `on` and `012` stay what was written, and the field's own type makes a number or a
truth value of it. An empty value, `~` and `null` are None. yaml is imported when a file is read, not before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

Loc = tuple[str | int, ...]
"""The way to a value: keys and list positions."""

MAX_BYTES = 1_000_000  # a configuration or a pipeline of that size was not written by a person
FAST_FROM = 20_000  # characters: from here on yaml's own reader takes 25 ms and more, libyaml a tenth of it
MAX_VALUES = 50_000  # after aliases were put in: a few hundred bytes of them can stand for billions

_TOO_MANY = f"this makes more than {MAX_VALUES:,} values, which is as many as are read"
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_CORE + name for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_NULLS = ("", "~", "null", "Null", "NULL")
_SENTENCES = (  # of yaml's own words, which speak of its tokens; first match wins
    (r"found character '\\t'", "a tab is used to indent; YAML takes spaces"),
    (r"found character", "this character cannot begin a value; put the text in quotes"),
    (r"expected a single document", "a second document begins here; leave one"),
    (r"undefined alias", "this alias (*name) has no anchor (&name); put the text in quotes if it begins with *"),
    (r"duplicate anchor", "this anchor is defined twice"),
    (r"mapping values are not allowed", "a second ':' in one value; put it in quotes, or mend the indentation"),
    (r"could not find expected ':'", "this key has no ':' after it"),
    (r"found unexpected end of stream", "a quote or bracket is never closed"),
    (r"expected <block end>|did not find expected", "the indentation does not fit the lines above"),
    (r"expected ',' or", "a ',' or a closing bracket is missing"),
)


class _Mark(Protocol):
    line: int
    column: int


class _Node(Protocol):
    """What is used of yaml's nodes."""

    id: str
    tag: str
    value: Any
    style: str | None
    start_mark: _Mark


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """Something that cannot be used. Line and column count from 1; 0 where the file as a whole is meant."""

    line: int
    column: int
    sentence: str

    def __str__(self) -> str:
        return self.sentence if not self.line else f"{self.line}:{self.column} {self.sentence}"


class YamlError(ValueError):
    """The text is not usable YAML. `mistakes` are the reasons, never with a value in them."""

    def __init__(self, *mistakes: Mistake) -> None:
        self.mistakes = mistakes
        super().__init__("; ".join(map(str, mistakes)))


@dataclass(slots=True)
class Document:
    """A document's values, and where each stands. `plain` are those written without quotes."""

    data: Any = None
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict[Loc, tuple[int, int]])
    values: dict[Loc, tuple[int, int]] = field(default_factory=dict[Loc, tuple[int, int]])
    plain: set[Loc] = field(default_factory=set[Loc])

    def mistake(self, loc: Sequence[str | int], sentence: str, *, at_key: bool = False) -> Mistake:
        """A mistake at `loc`, or at the nearest value above it that is in the file."""
        places = self.keys if at_key else self.values
        way = tuple(loc)
        while way and way not in places:
            way = way[:-1]
        line, column = places.get(way) or self.values.get(way, (1, 1))
        return Mistake(line, column, sentence)


def entries(value: Any, *way: str) -> dict[str, Any]:
    """The mapping that lies at `way` below `value`; empty where there is none."""
    for key in way:
        value = entries(value).get(key)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def read(content: bytes) -> Document:
    """The one document in `content`; nothing in it is a document without data. YamlError says what is wrong."""
    if len(content) > MAX_BYTES:
        raise YamlError(Mistake(0, 0, f"is {len(content):,} bytes long; at most {MAX_BYTES:,} are read"))
    return _Reader().document(_compose(_text(content)))


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        raise YamlError(Mistake(before.count(b"\n") + 1, column, "this is not UTF-8; save the file as UTF-8")) from None


def _compose(text: str) -> _Node | None:
    import yaml  # noqa: PLC0415  # costs a start 20 ms where there is no file to read

    if (node := _composed_fast(text)) is not None:
        return node

    class TextLoader(_Bounded, yaml.SafeLoader):
        """Resolves nothing: every plain value is text."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the name and shape are yaml's

    try:
        return cast("_Node | None", cast("Any", TextLoader(text)).get_single_node())
    except YamlError:
        raise
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1) + 1
        raise YamlError(Mistake(before.count("\n") + 1, column, "YAML forbids this control character")) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise YamlError(Mistake(line, column, _sentence(f"{error.context} {error.problem}"))) from None
    except (RecursionError, ValueError, OverflowError):
        # the last two: a \U escape beyond Unicode, which yaml hands to chr() unchecked
        raise YamlError(Mistake(0, 0, "cannot be read: nested too deeply, or an escape that is no character")) from None


def _composed_fast(text: str) -> _Node | None:
    """By libyaml's parser, where it is there. None where it finds a mistake: yaml's own words are clearer.

    Only its parser: its composer recurses in C, so that deep nesting ends the process.
    """
    import yaml  # noqa: PLC0415  # as above
    from yaml import composer, resolver  # noqa: PLC0415

    parser: Any = getattr(getattr(yaml, "cyaml", None), "CParser", None)
    if len(text) < FAST_FROM or parser is None:
        return None
    composing, resolving = cast("Any", composer).Composer, cast("Any", resolver).BaseResolver

    class FastLoader(_Bounded, composing, parser, resolving):
        """As TextLoader: the resolver has no patterns."""

        def __init__(self, stream: str) -> None:
            for part in (composing, resolving):
                part.__init__(self)
            parser.__init__(self, stream)

    try:
        return cast("_Node | None", cast("Any", FastLoader(text)).get_single_node())
    except YamlError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        return None


class _Bounded:
    """A composer that gives up where there are more nodes, keys included, than can be read anyway."""

    _nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        if self._nodes > 2 * MAX_VALUES:
            mark = cast("Any", self).peek_event().start_mark
            raise YamlError(Mistake(mark.line + 1, mark.column + 1, _TOO_MANY))
        return cast("Any", super()).compose_node(parent, index)


def _sentence(problem: str) -> str:
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, problem):
            return sentence
    return "this is not YAML; " + re.sub(r"'[^']{3,}'", "'…'", problem.removeprefix("None ")).strip()


class _Reader:
    """Makes a Document of yaml's nodes: bounded, no key twice, no tags that would make objects."""

    def __init__(self) -> None:
        self._out = Document()
        self._count = 0
        self._open: set[int] = set()

    def document(self, root: _Node | None) -> Document:
        if root is not None:
            try:
                self._out.data = self._value(root, ())
            except RecursionError:
                raise YamlError(Mistake(0, 0, "is nested too deeply")) from None
        return self._out

    def _value(self, node: _Node, loc: Loc) -> Any:
        self._take(node, 1)
        if node.tag not in _PLAIN_TAGS:
            raise _at(node, "tags (!name) are not understood; leave it out")
        if id(node) in self._open:
            raise _at(node, "this value contains itself")
        self._out.values[loc] = _place(node)
        if node.id == "scalar":
            if not node.style:  # None, or "" by libyaml
                self._out.plain.add(loc)
            return _scalar(node)
        self._open.add(id(node))
        made = self._list(node, loc) if node.id == "sequence" else self._mapping(node, loc)
        self._open.discard(id(node))
        return made

    def _take(self, node: _Node, count: int) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise _at(node, _TOO_MANY)

    def _list(self, node: _Node, loc: Loc) -> list[Any]:
        return [self._value(item, (*loc, position)) for position, item in enumerate(node.value)]

    def _mapping(self, node: _Node, loc: Loc) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for key, value in self._pairs(node):
            name = key.value
            if name in own:
                first = self._out.keys[(*loc, name)][0]
                raise _at(key, f"the key '{name[:40]}' is here twice, first in line {first}")
            self._out.keys[(*loc, name)] = _place(key)
            own[name] = self._value(value, (*loc, name))
        return own

    def _pairs(self, node: _Node) -> list[tuple[_Node, _Node]]:
        """A mapping's own pairs, then those of `<<` whose keys it has not itself."""
        own: list[tuple[_Node, _Node]] = []
        merged: list[tuple[_Node, _Node]] = []
        for key, value in node.value:
            if key.id != "scalar":
                raise _at(key, "a key is text, not a list or a mapping")
            if key.value == "<<" and not key.style:
                merged += self._merged(value)
            else:
                own.append((key, value))
        names = {key.value for key, _ in own}
        for key, value in merged:
            if key.value not in names:
                names.add(key.value)
                own.append((key, value))
        return own

    def _merged(self, value: _Node) -> list[tuple[_Node, _Node]]:
        sources = value.value if value.id == "sequence" else [value]
        if any(source.id != "mapping" for source in sources) or id(value) in self._open:
            raise _at(value, "<< takes a mapping, or a list of mappings")
        self._open.add(id(value))
        pairs: list[tuple[_Node, _Node]] = []
        for source in sources:
            pairs += self._pairs(source)
            self._take(source, 1 + len(pairs))
        self._open.discard(id(value))
        return pairs


def _scalar(node: _Node) -> str | None:
    if "\0" in node.value or any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise _at(node, "its escapes make a character that no file or program takes")
    return None if not node.style and node.value in _NULLS else node.value


def _place(node: _Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _at(node: _Node, sentence: str) -> YamlError:
    return YamlError(Mistake(*_place(node), sentence))
