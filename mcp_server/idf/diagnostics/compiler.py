"""gcc, g++, clang, the assembler and their drivers: text, JSON and SARIF diagnostics."""

import json
import re
from typing import Any, cast

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Place, Rank, Rule
from mcp_server.idf.diagnostics.text import squeeze

_SEVERITY = r"(?P<severity>fatal error|internal compiler error|sorry, unimplemented|[Ee]rror|[Ww]arning|note|remark)"
_AT = re.compile(
    r"^(?P<file>(?:[A-Za-z]:)?[^:\s][^:]{0,400}?):(?P<line>\d{1,7})(?::(?P<column>\d{1,6}))?(?:-\d{1,7})?: "
    + _SEVERITY
    + r": ?(?P<message>.*)$"
)
_TOOL = re.compile(
    r"^(?P<tool>(?:\S{0,300}[/\\])?(?P<name>[\w+.-]{0,60}?(?:gcc|g\+\+|clang(?:\+\+)?|cc1\w*|cc|c\+\+|as|cpp"
    r"|lto1|lto-wrapper|f951)"
    r"(?:-\d+)?(?:\.exe)?)): " + _SEVERITY + r": (?P<message>.*)$"
)
_FROM = re.compile(r"^(?:In file included|\s{2,}| *)\s*from (?P<file>(?:[A-Za-z]:)?[^:]{1,400}):(?P<line>\d{1,7})")
_MODULE_FROM = re.compile(r"^In file included from (?P<file>(?:[A-Za-z]:)?[^:]{1,400}):(?P<line>\d{1,7})")
_REQUIRED = re.compile(
    r"^(?P<file>(?:[A-Za-z]:)?[^:\s][^:]{0,400}):(?P<line>\d{1,7})(?::(?P<column>\d{1,6}))?: {1,4}"
    r"(?:recursively )?(?:required (?:from|by)|\[ skipping|instantiated from|in 'constexpr' expansion"
    r"|in 'consteval' expansion)"
)
_INLINED = re.compile(
    r"^\s+inlined from '.{1,300}' at (?P<file>(?:[A-Za-z]:)?[^:]{1,400}):(?P<line>\d{1,7})"
    r"(?::(?P<column>\d{1,6}))?[,:]$"
)
_WHERE = re.compile(
    r"^In (?:member )?function .*,$|^\S[^:]{0,400}: (?:In |At (?:top level|global scope))"
    r"|^\S[^:]{0,400}: Assembler messages:$"
)
_GUTTER = re.compile(r"^\s{0,8}(?P<number>\d{1,7})? ?\|(?P<text>.*)$")
_CARET = re.compile(r"^[\s~^|+-]*[\^~][\s~^|+-]*$")
_INCLUDE_LINE = re.compile(r"^\s+from \S")
_ORIGIN = re.compile(r"in (?:expansion|definition) of macro '(?P<macro>[^']{1,100})'")
_DULL_NOTE = (
    "each undeclared identifier is reported only once",
    "(near initialization for",
    "this is the location of the previous",
    "template argument deduction/substitution failed",
    "is not derived from",
    "in definition of macro",
    "this error originates from",
    "use of '-flarge-source-files'",
    "maximum of",
    "for a function-like macro",
    "code may be misoptimized",
    "(perhaps a semicolon is missing",
    "-fpermissive",
)
_FOLLOWS = re.compile(
    r"(?:all|some) warnings being treated as errors|^compilation terminated|^(?:\d+ \w+ and )?\d+ (?:error"
    r"|warning)s? generated"
)
_ROOT = (
    "No space left on device",
    "out of memory",
    "Killed signal",
    "Killed (program",
    "Cannot allocate memory",
    "memory exhausted",
)
WORDS = (
    "error",
    "warning:",
    "note:",
    "In file included",
    "required",
    "In ",
    "At ",
    "Error:",
    "Warning:",
    "unimplemented",
    "from ",
)


def read(line: str, log: Log) -> Block | bool:
    """A compiler's line, if it is one. Includers and template users wait in `log` for the error they lead to."""
    if ("treated as" in line or "ed" in line[-12:]) and _FOLLOWS.search(line):
        return True
    found = _AT.match(line)
    if found is None:
        return _read_lead(line, log) or _read_tool(line, log)
    severity = found["severity"].lower()
    if severity in ("note", "remark"):
        block = CompilerBlock(log, log.current, reported=True)  # its `In file included from` came in between
        block.take(line, b"")
        return block
    log.current = None
    if severity == "warning":
        column = int(found["column"]) if found["column"] else None
        warning = Finding("compile", found["message"][:600], file=found["file"], line=int(found["line"]), column=column)
        log.warn(1, warning)
        log.required = []
        return CompilerBlock(log, None)
    if severity == "error" and found["file"].startswith(("ERROR", "CMake")):
        return False
    return CompilerBlock(log, _finding(found, line, log))


def _finding(found: re.Match[str], line: str, log: Log) -> Finding:
    finding = Finding("compile", found["message"] or found["severity"], raw=line)
    finding.file, finding.line = found["file"], int(found["line"])
    finding.column = int(found["column"]) if found["column"] else None
    if found["severity"] not in ("error", "Error"):
        finding.message = (
            f"{found['severity']}: {found['message']}" if found["severity"] != "fatal error" else found["message"]
        )
    if log.includes and log.includes[-1].file == finding.file:
        log.includes = []  # gcc is back in the source file: the includers were those of a note
    finding.via = [*log.required, *log.includes]
    log.required, log.current = [], finding
    if any(word in line for word in _ROOT):
        finding.rank = Rank.ROOT
    return finding


def _read_lead(line: str, log: Log) -> Block | bool:
    if line.startswith("In file included from"):
        log.includes = []
        block = IncludeBlock(log)
        block.take(line, b"")
        return block
    if found := _REQUIRED.match(line):
        if len(log.required) < 24:
            column = int(found["column"]) if found["column"] else None
            log.required.append(Place(found["file"], int(found["line"]), column, "required from"))
        return CompilerBlock(log, None)
    if found := _INLINED.match(line):
        column = int(found["column"]) if found["column"] else None
        log.required = [*log.required[:24], Place(found["file"], int(found["line"]), column, "inlined from")]
        return True
    if _WHERE.match(line):
        if "instantiation" in line or "substitution" in line:
            log.required = []
        return True
    return False


def _read_tool(line: str, log: Log) -> Block | bool:
    found = _TOOL.match(line)
    if found is None:
        return False
    severity = found["severity"].lower()
    if severity == "warning":
        log.warn(1, Finding("compile", f"{found['name']}: {found['message']}"[:600]))
        return True
    if severity in ("note", "remark"):
        return True
    text = f"{found['name']}: {found['message']}"
    if severity == "internal compiler error":
        text = f"{found['name']}: internal compiler error: {found['message']}"
    finding = Finding("compile", text, raw=line)
    if any(word in line for word in _ROOT):
        finding.rank = Rank.ROOT
    if "linker command failed" in line:
        finding.rank = Rank.WRAPPER
    log.add(finding)
    return True


class IncludeBlock:
    """`In file included from a.h:1,` and the `from b.c:2:` lines under it, innermost first."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def take(self, line: str, raw: bytes) -> bool:
        found = _MODULE_FROM.match(line) or (_FROM.match(line) if _INCLUDE_LINE.match(line) else None)
        if found is None:
            return False
        if len(self._log.includes) < 40:
            self._log.includes.append(Place(found["file"], int(found["line"]), None, "included from"))
        return True

    def close(self) -> None:
        pass


class CompilerBlock:
    """The lines that belong to one diagnostic: the source line, carets, fix-its, notes and their own source lines."""

    def __init__(self, log: Log, finding: Finding | None, reported: bool = False) -> None:
        self._log, self._finding, self._reported = log, finding, reported
        self._bare: str | None = None  # clang and old gcc print the source without a margin
        self._in_note = False
        self._lines = 0

    def take(self, line: str, raw: bytes) -> bool:
        self._lines += 1
        if self._lines > 4000:  # a C++ cascade has hundreds; a runaway must not hide what follows
            return False
        gutter = _GUTTER.match(line)
        if gutter:
            self._take_source(gutter)
            return True
        if self._bare is not None and _CARET.match(line):
            if self._finding and self._finding.source is None and not self._in_note:
                self._finding.source = self._bare
            self._bare = None
            return True
        if line.startswith((" ", "......")) and "from " not in line[:60]:
            if self._bare is not None or (self._lines > 2 and not self._in_note):
                return _CARET.match(line) is not None or self._bare is not None
            self._bare = line[:400]
            return True
        return self._take_note(line)

    def _take_source(self, gutter: re.Match[str]) -> None:
        finding = self._finding
        if finding is None or self._in_note or finding.source is not None or gutter["number"] is None:
            return
        if finding.line is None or int(gutter["number"]) == finding.line:
            finding.source = gutter["text"].removeprefix(" ")[:400]

    def _take_note(self, line: str) -> bool:
        found = _AT.match(line) if "note" in line or "remark" in line else None
        if found is None or found["severity"] not in ("note", "remark"):
            return False
        self._in_note, self._bare = True, None
        finding = self._finding
        if finding is None:
            return True
        message = found["message"]
        place = Place(found["file"], int(found["line"]), int(found["column"]) if found["column"] else None)
        if _ORIGIN.search(message) and len(finding.via) < 60:
            place.what = squeeze(message)
            finding.via.append(place)
        elif len(finding.notes) < 6 and not any(dull in message for dull in _DULL_NOTE):
            finding.notes.append(f"{place.file}\0{place.line}\0{squeeze(message)[:300]}")
        return True

    def close(self) -> None:
        if self._finding is not None and not self._reported:
            self._log.add(self._finding)


def read_json(line: str, log: Log) -> bool:
    """`-fdiagnostics-format=json` or `sarif-stderr`: one line a compiler run."""
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError):
        return _read_broken_json(line, log)
    if isinstance(data, list):
        for item in cast(list[Any], data)[:2000]:
            _read_json_item(item, log)
        return True
    if isinstance(data, dict) and "runs" in data:
        for result in _list(data, "runs", 0, "results"):
            _read_sarif(result, log)
        return True
    return False


def _read_json_item(item: Any, log: Log) -> None:
    kind = _walk(item, "kind")
    if kind == "warning":
        log.warn()
    if kind not in ("error", "fatal error"):
        return
    option = _walk(item, "option")
    text = f"{_walk(item, 'message') or 'error'}" + (f" [{option}]" if option else "")
    finding = Finding("compile", text)
    _locate(finding, _walk(item, "locations", 0, "caret"))
    for child in _list(item, "children")[:6]:
        caret = _walk(child, "locations", 0, "caret")
        finding.notes.append(
            f"{_walk(caret, 'file') or ''}\0{_walk(caret, 'line') or ''}\0{_walk(child, 'message') or ''}"
        )
    finding.raw = f"{finding.file}:{finding.line}:{finding.column}: {kind}: {text}"
    log.add(finding)


def _read_sarif(result: Any, log: Log) -> None:
    level = _walk(result, "level")
    if level == "warning":
        log.warn()
    if level != "error":
        return
    text = str(_walk(result, "message", "text") or "error")
    finding = Finding("compile", text)
    place = _walk(result, "locations", 0, "physicalLocation")
    start = _walk(place, "region")
    _locate(finding, {"file": _walk(place, "artifactLocation", "uri"), "line": _walk(start, "startLine")})
    finding.column = _walk(start, "startColumn")
    finding.source = squeeze(str(_walk(place, "contextRegion", "snippet", "text") or "")) or None
    finding.raw = f"{finding.file}:{finding.line}: error: {text}"
    log.add(finding)


def _read_broken_json(line: str, log: Log) -> bool:
    """The line was too long to be kept whole: at least the first error's words and place."""
    kind = re.search(r'"kind": ?"(?:fatal )?error"', line)
    if kind is None:
        return False
    message = re.search(r'"message": ?"((?:[^"\\]|\\.){1,600})"', line[kind.start() :])
    file = re.search(r'"file": ?"([^"]{1,400})"', line[kind.start() :])
    number = re.search(r'"line": ?(\d{1,7})', line[kind.start() :])
    finding = Finding("compile", message[1] if message else "error", raw=line[:400])
    finding.file, finding.line = (file[1] if file else None), (int(number[1]) if number else None)
    log.add(finding)
    return True


def _locate(finding: Finding, caret: Any) -> None:
    file, line, column = _walk(caret, "file"), _walk(caret, "line"), _walk(caret, "column")
    finding.file = str(file) if file else None
    finding.line = line if isinstance(line, int) else None
    finding.column = column if isinstance(column, int) else None


def _list(data: Any, *keys: str | int) -> list[Any]:
    found = _walk(data, *keys)
    return cast(list[Any], found) if isinstance(found, list) else []


def _walk(data: Any, *keys: str | int) -> Any:
    """data[k1][k2]…, None where anything is missing or of another shape."""
    for key in keys:
        if isinstance(key, str) and isinstance(data, dict):
            data = cast(dict[str, Any], data).get(key)
        elif isinstance(key, int) and isinstance(data, list) and len(cast(list[Any], data)) > key:
            data = cast(list[Any], data)[key]
        else:
            return None
    return data


RULES: tuple[Rule, ...] = (
    Rule(
        "compile",
        ("out of memory", "memory exhausted"),
        r"^(?:\S*/)?(?P<message>(?:cc1\w*|lto1|as|ld|collect2|g?cc|g\+\+)?:? ?(?:out of memory"
        r"|virtual memory exhausted).*)$",
        "cc1: out of memory allocating 65536 bytes after a total of 82710528 bytes",
        rank=Rank.ROOT,
    ),
)
