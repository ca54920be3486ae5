"""gcov's own output: the listing of a source (`.gcov`), and JSON (`--json-format`), packed or not."""

import json
import re
import zlib
from typing import Any, BinaryIO, cast

from mcp_server.coverage.book import Book, Source

FORM, JSON_FORM = "gcov", "gcov-json"
MAX_JSON_BYTES = 8 * 1024 * 1024  # unpacked: about 60,000 lines. Python reads it in one go, and nothing else runs then
LINE_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
GZIP = b"\x1f\x8b"

_LISTED = re.compile(rb" *(-|[#=]{5}|%{5}|\${5}|\d[\d.]*[kMGTPEZY]?)(\*?): *(\d{1,9}):(.*)", re.DOTALL)
_FUNCTION = re.compile(rb"function (.+) called (\d{1,19}) returned ", re.DOTALL)
_BRANCH = re.compile(rb"branch +\d+ (?:never|taken (\d{1,19}))")


def is_listing(head: bytes) -> bool:
    """Whether a file that begins so is a listing of gcov."""
    found = _LISTED.match(head.partition(b"\n")[0])
    return found is not None and int(found[3]) == 0 and found[4].startswith(b"Source:")


def is_json(head: bytes) -> bool:
    """Whether a file that begins so may be gcov's JSON; packed JSON of others is no coverage either."""
    return head.startswith(GZIP) or (head.lstrip().startswith(b"{") and b'"' in head)


def read_listing(file: BinaryIO, book: Book, folder: str) -> str:
    """Add what a listing says, whose source is told from `folder`; "" or what is wrong with it. Full."""
    source: Source | None = None
    line_number = strange = 0
    while line := file.readline(LINE_BYTES):
        if found := _LISTED.match(line):
            number, mark = int(found[3]), found[1]
            if number == 0:
                if found[4].startswith(b"Source:"):
                    source = book.source(found[4][7:].decode("utf-8", "replace").strip(), folder)
            elif source is not None:
                line_number = number
                if mark != b"-":
                    source.line(number, ran=mark[:1].isdigit() and mark != b"0")
        elif source is not None and (found := _BRANCH.match(line)):
            source.next_branch(FORM, line_number, taken=found[1] is not None and int(found[1]) > 0)
        elif source is not None and (found := _FUNCTION.match(line)):
            source.function(FORM, found[1].decode("utf-8", "replace"), ran=int(found[2]) > 0)
        elif not line.startswith((b"call ", b"unconditional ", b"-----", b"condition ")) and b":" not in line:
            strange += bool(line.strip())
    return f"{strange} of its lines cannot be read" if strange else ""


def read_json(file: BinaryIO, book: Book) -> str:
    """Add what gcov's JSON says; "" or what is wrong with it, None of which counts then. Full."""
    try:
        text = _unpacked(file)
    except (zlib.error, EOFError):
        return "it cannot be unpacked"
    if text is None:
        return f"it is larger than {MAX_JSON_BYTES >> 20} MiB"
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "it is no JSON"
    fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if "gcc_version" not in fields and "format_version" not in fields:
        return "it is no JSON of gcov"
    base = fields.get("current_working_directory")
    for one in _dicts(fields.get("files")):
        if isinstance(path := one.get("file"), str) and path:
            _take(book.source(path, base if isinstance(base, str) else ""), one)
    return ""


def _take(source: Source, told: dict[str, Any]) -> None:
    for one in _dicts(told.get("lines")):
        number = _count(one.get("line_number"))
        source.line(number, ran=_count(one.get("count")) > 0)
        for at, branch in enumerate(_dicts(one.get("branches"))):
            source.branch(JSON_FORM, number, at, taken=_count(branch.get("count")) > 0)
    for one in _dicts(told.get("functions")):
        if isinstance(name := one.get("name"), str):
            source.function(JSON_FORM, name, ran=_count(one.get("execution_count")) > 0)


def _unpacked(file: BinaryIO) -> bytes | None:
    """The text; None where it is too long, which is noticed before it is."""
    head = file.read(CHUNK_BYTES)
    if not head.startswith(GZIP):
        text = head + file.read(MAX_JSON_BYTES + 1)
        return text if len(text) <= MAX_JSON_BYTES else None
    unpack = zlib.decompressobj(wbits=31)
    found = bytearray()
    while head:
        found += unpack.decompress(head, MAX_JSON_BYTES + 1 - len(found))
        if len(found) > MAX_JSON_BYTES:
            return None
        head = unpack.unconsumed_tail or (b"" if unpack.eof else file.read(CHUNK_BYTES))
    if not unpack.eof:
        raise EOFError
    return bytes(found)


def _dicts(value: object) -> list[dict[str, Any]]:
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)]


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
