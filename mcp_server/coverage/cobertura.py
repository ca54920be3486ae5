"""Cobertura's XML, as gcovr, coverage.py and others write it. Read as it comes, without entities and without fetching.

A document that declares anything of its own is refused: what it could declare is entities, which make a bomb of few
bytes. The name of Cobertura's DTD is let pass, as gcovr writes it; nobody reads what it names.
"""

import re
from typing import BinaryIO
from xml.parsers import expat

from mcp_server.coverage.book import Book, Source

FORM = "cobertura"
CHUNK_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_TOKEN_BYTES = 1024 * 1024  # of one tag: expat begins it anew with each chunk
MAX_SOURCES = 100
SOURCE_CHARS = 4096

_CONDITION = re.compile(r"\((\d{1,6})/(\d{1,6})\)")
_NUMBER = re.compile(r"\d{1,19}")


class Refused(Exception):
    """What is wrong with the document, as a sentence."""


def is_cobertura(head: bytes) -> bool:
    """Whether a file that begins so is such a report; Clover's, whose root has the same name, has no `line-rate`."""
    roots: list[tuple[str, dict[str, str]]] = []

    def root(name: str, given: dict[str, str]) -> None:
        roots.append((name, given))
        raise Refused("seen")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_subset
    parser.StartElementHandler = root
    try:
        parser.Parse(head, False)
    except expat.ExpatError:
        return False
    except Refused:
        pass
    if not roots:  # what it declares comes first; read, it is refused in words
        return b"<coverage" in head
    return roots[0][0] == "coverage" and bool(roots[0][1].keys() & {"line-rate", "lines-valid"})


def read(file: BinaryIO, book: Book) -> str:
    """Add what a report says; "" or what is wrong with it, and then nothing of it counts. Full."""
    document = _Document(book)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_subset
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = document.start
    parser.EndElementHandler = document.end
    parser.CharacterDataHandler = document.text
    try:
        while chunk := file.read(CHUNK_BYTES):
            parser.Parse(chunk, False)
            if file.tell() - parser.CurrentByteIndex > MAX_TOKEN_BYTES:
                return f"it has a tag of more than {MAX_TOKEN_BYTES >> 20} MiB"
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        return f"it is no well-formed XML (line {error.lineno})"
    except Refused as error:
        return str(error)
    return ""


def _refuse_subset(name: str, system: str | None, public: str | None, has_subset: bool) -> None:
    if has_subset:
        raise Refused("it declares types or entities of its own, which is not taken")


def _refuse_entity(*_: object) -> None:
    raise Refused("it declares entities, which are not taken")


class _Document:
    """Follows the elements: sources, classes, their methods, and lines in both."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._depth = 0
        self._bases: list[str] = []
        self._said: list[str] | None = None
        self._room = 0
        self._source: Source | None = None
        self._method: tuple[str, bool] | None = None

    def start(self, name: str, given: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused(f"its elements lie more than {MAX_DEPTH} deep")
        if name == "source":
            self._said, self._room = [], SOURCE_CHARS
        elif name == "class":
            base = next((one for one in self._bases if one.startswith("/")), "")
            path = given.get("filename", "")
            self._source = self._book.source(path, base) if path else None
        elif name == "method":
            ran = given.get("line-rate", "0").strip("0.") != ""
            self._method = given.get("name", "") + given.get("signature", ""), ran
        elif name == "line" and self._source is not None:
            self._line(self._source, given)

    def text(self, text: str) -> None:
        if self._said is not None and self._room > 0:
            self._said.append(text[: self._room])
            self._room -= len(text)

    def end(self, name: str) -> None:
        self._depth -= 1
        if name == "source" and self._said is not None:
            if len(self._bases) < MAX_SOURCES:
                self._bases.append("".join(self._said).strip())
            self._said = None
        elif name == "class":
            self._source = None
        elif name == "method" and self._method is not None:
            if self._source is not None:
                self._source.function(FORM, self._method[0], ran=self._method[1])
            self._method = None

    def _line(self, source: Source, given: dict[str, str]) -> None:
        number, hits = given.get("number", ""), given.get("hits", "")
        if not (_NUMBER.fullmatch(number) and _NUMBER.fullmatch(hits)):
            return
        ran = int(hits) > 0
        source.line(int(number), ran=ran)
        if ran and self._method is not None:
            self._method = self._method[0], True
        if condition := _CONDITION.search(given.get("condition-coverage", "")):
            taken, ways = int(condition[1]), int(condition[2])
            for at in range(min(ways, 1000)):
                source.branch(FORM, int(number), at, taken=at < taken)
