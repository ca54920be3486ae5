"""Reads unified diffs, as `diff -u`, `git diff` and models write them, without believing them: bytes in, hunks out."""

import re
from dataclasses import dataclass, field

from mcp_server.errors import OrchestratorError

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_HEADER = re.compile(rb"(?:--- |\+\+\+ )(\"(?:[^\"\\]|\\.)*\"|[^\t\r\n]*)")
_GIT = re.compile(rb'diff --git "?a/(.*?)"? "?b/\1"?\r?\n')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_REFUSED = (b"rename from ", b"copy from ", b"GIT binary patch", b"Binary files ")
_NO_FILE = "/dev/null"


class DiffRefused(OrchestratorError):
    """A diff cannot be applied, and nothing was changed. The sentence names the file and the hunk."""

    reason = "diff_refused"


@dataclass(frozen=True, slots=True)
class Hunk:
    """One change: the lines before and after it, ends of line included, and the index at which each begins.

    `leading` and `trailing` count the unchanged lines around it.
    """

    number: int
    old_at: int
    old: tuple[bytes, ...]
    new_at: int
    new: tuple[bytes, ...]
    leading: int
    trailing: int

    def reversed(self) -> "Hunk":
        """The hunk that takes this one back."""
        return Hunk(self.number, self.new_at, self.new, self.old_at, self.old, self.leading, self.trailing)


@dataclass(slots=True)
class FileDiff:
    """What happens to one file. `mode` is set where the diff names one."""

    path: str = ""
    created: bool = False
    deleted: bool = False
    mode: int | None = None
    hunks: list[Hunk] = field(default_factory=list[Hunk])


def split_lines(data: bytes) -> list[bytes]:
    """Lines with their ends. Only \\n ends a line: a bare \\r or form feed is part of it."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def parse(diff: bytes) -> list[FileDiff]:
    """The files of a diff, in its order. Text between them (a mail, a commit message, a code fence) is passed over."""
    lines = split_lines(diff)
    if any(_HUNK.match(line) and line.endswith(b"\r\n") for line in lines):
        # The diff as a whole was converted to CRLF: git writes LF after its own headers, whatever the file has.
        lines = [line.removesuffix(b"\r\n") + b"\n" if line.endswith(b"\r\n") else line for line in lines]
    files = _Reader(lines).read()
    if not files:
        raise DiffRefused("no unified diff was found: it has lines that begin with '--- ', '+++ ' and '@@ '")
    return files


def _name(line: bytes) -> str:
    match = _HEADER.match(line)
    name = match[1] if match else b""
    quoted = name.startswith(b'"')
    return _decoded(name[1:-1] if quoted else name.rstrip(b" "), quoted=quoted)


def _decoded(name: bytes, *, quoted: bool) -> str:
    if quoted:
        # As git quotes names: octal numbers are bytes of UTF-8.
        name = _ESCAPE.sub(lambda found: _unescaped(found[1]), name)
    return name.decode("utf-8", "surrogateescape")


def _unescaped(code: bytes) -> bytes:
    return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else _LETTERS.get(code, code)


class _Reader:
    """A cursor over the diff's lines."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.at = 0

    def _line(self, ahead: int = 0) -> bytes:
        return self.lines[self.at + ahead] if self.at + ahead < len(self.lines) else b""

    def read(self) -> list[FileDiff]:
        files: list[FileDiff] = []
        current = FileDiff()
        while self.at < len(self.lines):
            line = self._line()
            if match := _GIT.fullmatch(line):
                # Alone it says nothing; with a mode line after it, it may be an empty file.
                current = FileDiff(path=_decoded(match[1], quoted=b'"' in line))
            elif line.startswith(_REFUSED):
                raise DiffRefused(f"{current.path or 'the diff'}: renames, copies and binary changes are not applied")
            elif match := re.match(rb"(new file|deleted file|new) mode (\d{6})", line):
                self._mode(current, match[1], match[2])
                if not any(file is current for file in files):
                    files.append(current)
            elif line.startswith(b"--- ") and self._line(1).startswith(b"+++ "):
                self._names(current if current.path and not current.hunks else (current := FileDiff()))
                if not any(file is current for file in files):
                    files.append(current)
                self.at += 2
                self._hunks(current)
                continue
            self.at += 1
        return files

    def _mode(self, current: FileDiff, kind: bytes, digits: bytes) -> None:
        if not digits.startswith(b"100"):
            raise DiffRefused(f"{current.path}: symbolic links and submodules are not applied")
        current.mode = int(digits[3:], 8)
        current.created, current.deleted = kind == b"new file", kind == b"deleted file"

    def _names(self, current: FileDiff) -> None:
        old, new = _name(self._line()), _name(self._line(1))
        current.created, current.deleted = old == _NO_FILE, new == _NO_FILE
        if old.startswith(("a/", _NO_FILE)) and new.startswith(("b/", _NO_FILE)):
            old, new = (name if name == _NO_FILE else name[2:] for name in (old, new))
        if current.created and current.deleted:
            raise DiffRefused("a file's old and new name are both /dev/null")
        if not current.created and not current.deleted and old != new:
            raise DiffRefused(f"{old} is called {new} after the change: renames are not applied")
        current.path = old if current.deleted else new

    def _hunks(self, current: FileDiff) -> None:
        while match := _HUNK.match(self._line()):
            number = len(current.hunks) + 1
            where = f"{current.path}, hunk {number}"
            old_at, old_size, new_at, new_size = (int(part) if part is not None else 1 for part in match.groups())
            self.at += 1
            body = self._body(where, old_size, new_size)
            old = tuple(text for sign, text in body if sign != b"+")
            new = tuple(text for sign, text in body if sign != b"-")
            changed = [index for index, (sign, _) in enumerate(body) if sign != b" "]
            if not changed:
                raise DiffRefused(f"{where}: it changes nothing")
            leading, trailing = changed[0], len(body) - 1 - changed[-1]
            # A side without lines names the line before it, one with lines its first: both count from 1.
            old_at, new_at = (at - 1 if size else at for at, size in ((old_at, old_size), (new_at, new_size)))
            current.hunks.append(Hunk(number, max(old_at, 0), old, max(new_at, 0), new, leading, trailing))
        if not current.hunks:
            raise DiffRefused(f"{current.path}: no hunk ('@@ -1,2 +1,2 @@') follows its '+++ ' line")

    def _body(self, where: str, old_size: int, new_size: int) -> list[tuple[bytes, bytes]]:
        body: list[tuple[bytes, bytes]] = []
        old_left, new_left = old_size, new_size
        while old_left > 0 or new_left > 0:
            line = self._line()
            # Mail programs and models drop the blank of an empty context line.
            sign, text = (b" ", line) if line in (b"\n", b"\r\n") else (line[:1], line[1:])
            if sign == b"\\" and body:
                body[-1] = (body[-1][0], body[-1][1].removesuffix(b"\n"))
                self.at += 1
                continue
            old_left -= sign in (b" ", b"-")
            new_left -= sign in (b" ", b"+")
            if sign not in (b" ", b"+", b"-") or old_left < 0 or new_left < 0:
                raise DiffRefused(f"{where}: it has not the {old_size} old and {new_size} new lines that it announces")
            body.append((sign, text))
            self.at += 1
        if self._line().startswith(b"\\") and body:
            body[-1] = (body[-1][0], body[-1][1].removesuffix(b"\n"))
            self.at += 1
        elif self._line()[:1] in (b"+", b"-", b" ") and not self._line().startswith((b"--- ", b"-- \n")):
            raise DiffRefused(
                f"{where}: it has more than the {old_size} old and {new_size} new lines that it announces"
            )
        return body
