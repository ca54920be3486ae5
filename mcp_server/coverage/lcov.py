"""lcov's tracefiles: a line a fact, sources one after the other, each closed by `end_of_record`.

Also as gcovr, coverage.py and others write them. Written for versions 1 and 2: a function's end line, the exception
mark of a branch, and functions by index (FNL, FNA) came with the second.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from mcp_server.coverage.book import Book, Source

FORM = "lcov"
LINE_BYTES = 64 * 1024

_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:(?:#|TN:)[^\n]*\n\s*)*SF:")
_LINE = re.compile(rb"DA:(\d{1,9}),(-?\d{1,19})(?:,[^\n]*)?$")
_BRANCH = re.compile(rb"BRDA:(\d{1,9}),e?\d{1,9},.*,(-|-?\d{1,19})$", re.DOTALL)
_RUNS = re.compile(rb"FNDA:(-?\d{1,19}),(.+)$", re.DOTALL)
_NAMED = re.compile(rb"FN:\d{1,9},(?:\d{1,9},)?(.+)$", re.DOTALL)
_ALIAS = re.compile(rb"FNA:\d{1,9},(-?\d{1,19}),(.+)$", re.DOTALL)
# Totals, which are worked out here, and what says nothing of what was run.
_OTHERS = (
    b"TN:",
    b"VER:",
    b"LF:",
    b"LH:",
    b"BRF:",
    b"BRH:",
    b"FNF:",
    b"FNH:",
    b"FNL:",
    b"MCDC:",
    b"MCF:",
    b"MCH:",
    b"#",
)


def is_lcov(head: bytes) -> bool:
    """Whether a file that begins so is a tracefile: other things are called `.info`, too."""
    return _BEGINS.match(head) is not None


def read(file: BinaryIO, book: Book) -> str:
    """Add what a tracefile says; "" or what is wrong with it. Of a source that is cut off nothing counts. Full."""
    at: tuple[str, Source] | None = None
    strange = 0
    for line in _lines(file):
        if line.startswith(b"SF:"):
            strange += at is not None
            at = line[3:].decode("utf-8", "replace"), book.unfinished()
        elif line == b"end_of_record":
            if at is not None:
                book.add(*at)
            at = None
        elif line and not line.startswith(_OTHERS) and (at is None or not _take(line, at[1])):
            strange += 1
    if at is not None:
        return "it is cut off in the middle of a source, which is left out"
    return f"{strange} of its lines cannot be read" if strange else ""


def _take(line: bytes, source: Source) -> bool:
    """Whether it was understood."""
    if found := _LINE.match(line):
        source.line(int(found[1]), ran=int(found[2]) > 0)
    elif found := _BRANCH.match(line):
        source.next_branch(FORM, int(found[1]), taken=found[2] != b"-" and int(found[2]) > 0)
    elif found := _RUNS.match(line) or _ALIAS.match(line):
        source.function(FORM, found[2].decode("utf-8", "replace"), ran=int(found[1]) > 0)
    elif found := _NAMED.match(line):
        source.function(FORM, found[1].decode("utf-8", "replace"), ran=False)
    else:
        return False
    return True


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Without their ends; of one that is too long only its beginning, so that it is found strange."""
    while line := file.readline(LINE_BYTES):
        rest = line
        while not rest.endswith(b"\n") and len(rest) == LINE_BYTES:
            rest = file.readline(LINE_BYTES)
        yield line.strip() if rest is line else b"?"
