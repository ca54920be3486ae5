"""Text as the tools print it, made plain: no colour, one kind of quote, short enough to show."""

import re

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07?|[@-Z\\^_-])?|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]"
)
_CURLY = tuple((curly.encode(), plain.encode()) for curly, plain in (("‘", "'"), ("’", "'"), ("“", '"'), ("”", '"')))
_SPACES = re.compile(r"\s+")
_LD_QUOTE = re.compile(r"`([^`']{1,400})'")
_LOOSE_MARKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_TIME = re.compile(rb"^\[?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?\]? ?")
_AFTER_DOTS = (b"HINT", b"CMake ", b"--", b"ERROR", b"WARNING", b"NOTE", b"Traceback")
ELLIPSIS = "…"


def strip_escapes(line: bytes) -> bytes:
    """The line without colours, cursor moves, window titles and control bytes."""
    return _ESCAPES.sub(b"", line)


def strip_margin(line: bytes) -> bytes:
    """The line without what CI servers, mails and the component manager put before it: a time, `> `, dots."""
    first = line[:1]
    if first == b"2" and line[4:5] == b"-" and line[10:11] == b"T":
        return _TIME.sub(b"", line, 1)
    if first == b"[" and line[1:2] == b"2" and line[5:6] == b"-":
        return _TIME.sub(b"", line, 1)
    if first == b">" and line.startswith(b"> "):
        return line[2:]
    if first == b"." and (rest := line.lstrip(b".")).startswith(_AFTER_DOTS):
        return rest
    return line


def decode(line: bytes) -> str:
    """Any bytes as text; what is not UTF-8 becomes U+FFFD, curly quotes straight ones."""
    if line.isascii():
        return line.decode("ascii").replace("\t", " ").rstrip()
    for curly, plain in _CURLY:
        if curly in line:
            line = line.replace(curly, plain)
    return line.decode("utf-8", "replace").replace("\t", " ").replace("\xa0", " ").rstrip()


def squeeze(text: str) -> str:
    """One line, single spaces."""
    return _SPACES.sub(" ", text).strip()


def harmless(text: str) -> str:
    """Nothing that moves a cursor, ends a line or turns the writing direction."""
    return _LOOSE_MARKS.sub("", text)


def readable(text: str) -> str:
    """A message for people: single spaces, `name' becomes 'name', harmless."""
    return harmless(_LD_QUOTE.sub(r"'\1'", squeeze(text)))


def size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def head(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, cut behind a whole letter."""
    if size(text) <= limit:
        return text
    room = limit - size(ELLIPSIS)
    if room < 0:
        return ""
    return text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore").rstrip() + ELLIPSIS


def shorten(text: str, limit: int) -> str:
    """At most `limit` bytes: two thirds from the start, the rest from the end, where names and numbers tend to be."""
    if size(text) <= limit:
        return text
    room = limit - size(ELLIPSIS)
    if room < 12:
        return head(text, limit)
    data = text.encode("utf-8", "replace")
    first = data[: room * 2 // 3].decode("utf-8", "ignore")
    last = data[len(data) - (room - room * 2 // 3) :].decode("utf-8", "ignore")
    return f"{first}{ELLIPSIS}{last}"


def first_sentences(text: str, limit: int) -> str:
    """Whole sentences as far as `limit` bytes reach, else a cut one."""
    text = squeeze(text)
    if size(text) <= limit:
        return text
    cut = head(text, limit)
    stop = max(cut.rfind(". "), cut.rfind("! "))
    return cut[: stop + 1] if stop >= limit // 3 else cut
