"""rustc and cargo: `error[E0425]: …` with its ` --> file:line:column`, panics of tests, and cargo's own refusals."""

import re

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Rank, Rule

_HEAD = re.compile(r"^error(?:\[(?P<code>E\d{4})\])?: (?P<message>.+)$")
_ARROW = re.compile(r"^ {0,8}--> (?P<file>.{1,400}?):(?P<line>\d{1,7})(?::(?P<column>\d{1,6}))?$")
_GUTTER = re.compile(r"^ {0,8}(?P<number>\d{1,7})? ?(?:\||=|\.\.\.)(?P<text>.*)$")
_PANIC = re.compile(
    r"^thread '(?P<thread>[^']{1,200})'(?: \(\d+\))? panicked at (?:'(?P<message>.{1,600})', )?"
    r"(?P<file>[^\s:][^:]{0,300}):(?P<line>\d{1,7}):(?P<column>\d{1,6}):?$"
)
_SUMMARY = re.compile(r"^warning: `[^`]+` \(.{1,100}\) generated \d+ warnings?|^warning: \d+ warnings? emitted")


def is_summary(line: str) -> bool:
    """rustc counts its own warnings: no further one."""
    return bool(_SUMMARY.match(line))


def read(line: str, log: Log) -> Block | bool:
    if line.startswith("error[E") and (found := _HEAD.match(line)):
        return ErrorBlock(log, f"{found['message']} [{found['code']}]", line)
    if line.startswith("thread '") and (found := _PANIC.match(line)):
        return PanicBlock(log, found)
    return False


def maybe(line: str, log: Log) -> Block | None:
    """`error: …` of rustc has its place on the next line; without one it is anybody's."""
    found = _HEAD.match(line)
    return ErrorBlock(log, found["message"], line, certain=False) if found else None


class ErrorBlock:
    """An error with its place and source line; labels, notes and help below it."""

    def __init__(self, log: Log, message: str, line: str, *, certain: bool = True) -> None:
        self._log, self._certain = log, certain
        self._finding = Finding("compile", message, raw=line)

    def take(self, line: str, raw: bytes) -> bool:
        finding = self._finding
        if finding.file is None and (found := _ARROW.match(line)):
            finding.file, finding.line = found["file"], int(found["line"])
            finding.column = int(found["column"]) if found["column"] else None
            return True
        if finding.file is None:
            return False
        if found := _GUTTER.match(line):
            if finding.source is None and found["number"] and int(found["number"]) == finding.line:
                finding.source = found["text"].removeprefix(" ")[:400]
            return True
        return bool(_ARROW.match(line)) or line.startswith(("help: ", "note: ", "...", "     :::"))

    def close(self) -> None:
        if self._finding.file is None and not self._certain:
            self._finding.kind, self._finding.rank = "unknown", Rank.STATED
        self._log.add(self._finding)


class PanicBlock:
    """A panic and its message, which newer compilers write on the lines below."""

    def __init__(self, log: Log, found: re.Match[str]) -> None:
        self._log, self._thread = log, found["thread"]
        self._text = [found["message"]] if found["message"] else []
        self._finding = Finding("test" if found["thread"] != "main" else "crash", "", raw=found[0])
        self._finding.file, self._finding.line = found["file"], int(found["line"])
        self._finding.column = int(found["column"])

    def take(self, line: str, raw: bytes) -> bool:
        if not line or line.startswith(("note: ", "stack backtrace", "thread '", "test ")) or len(self._text) >= 5:
            return False
        self._text.append(line.strip()[:300])
        return True

    def close(self) -> None:
        self._finding.message = f"{self._thread} panicked: {', '.join(self._text) or 'no message'}"
        self._log.add(self._finding)


RULES: tuple[Rule, ...] = (
    Rule(
        "cargo",
        ("could not compile", "aborting due to"),
        r"^error: (?P<message>(?:could not compile|aborting due to) .*)$",
        'error: could not compile `lamp` (bin "lamp") due to 2 previous errors',
        rank=Rank.RESULT,
    ),
    Rule(
        "cargo",
        ("test failed, to rerun",),
        r"^error: (?P<message>test failed, to rerun pass .*)$",
        "error: test failed, to rerun pass `--bin lamp`",
        rank=Rank.RESULT,
    ),
    Rule(
        "cargo",
        ("no matching package", "failed to parse manifest", "failed to select a version", "failed to get `"),
        r"^error: (?P<message>(?:no matching package|failed to (?:parse manifest|select a version|get `)).*)$",
        "error: no matching package named `nosuchlampcrate` found",
    ),
)
