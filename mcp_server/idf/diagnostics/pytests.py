"""pytest: failed tests as they are announced, then each with its place, source line and reason."""

import re
from dataclasses import dataclass

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Place
from mcp_server.idf.diagnostics.text import decode, strip_escapes

MAX_KEPT = 100  # failures whose details wait for their name in the summary
_TITLE = re.compile(r"^=+ (?P<title>.{1,300}?) =+$")
_OPENS = ("FAILURES", "ERRORS", "short test summary info")
_ENDS = re.compile(r"^(?:=+ )?(?:no tests ran|\d+ \w+(?:, \d+ \w+)*) in \d[\d.]*s\b")
_HEADER = re.compile(r"^_{2,} (?P<name>\S.{0,400}?) _{2,}$")
_ROLE = re.compile(r"^ERROR (?:at (?:setup|teardown) of|collecting) ")
_PLACE = re.compile(r"^(?P<file>(?:[A-Za-z]:)?[^\s:<][^:]{0,400}):(?P<line>\d{1,7}): ?(?P<what>.{0,200})$")
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) (?P<id>\S+?(?:\[.{0,300}?\])?)(?: - (?P<message>.*))?$")
_ANNOUNCED = re.compile(
    r"^(?:\[gw\d+\] \[ *\d+%\] (?:FAILED|ERROR) (?P<id>\S.*?)|(?P<before>\S.*?) (?:FAILED|ERROR) +\[ *\d+%\])$"
)
_DOTS = re.compile(r"(?:^| )(?P<dots>[.FEsxXRu]{1,300}) +\[ *\d+%\]$")
_FILE = re.compile(r'^File "(?P<file>[^"]{1,400})", line (?P<line>\d{1,7})')
_RAISED = re.compile(r"^[\w.]{1,100}(?:Error|Exception|Exit|Interrupt|Failed|Warning)\b")


@dataclass(slots=True)
class _Failure:
    name: str
    places: list[Place]
    source: str | None = None
    message: str = ""
    raised: bool = False
    captured: bool = False


class TestRun:
    """What a pytest run told of its failures so far: `open` of them only by a letter or a word."""

    __test__ = False  # no test of ours, whatever its name says

    def __init__(self) -> None:
        self._announced = self._told = 0
        self._ids: dict[str, None] = {}

    @property
    def open(self) -> int:
        return max(0, self._announced - self._told)

    def announce(self, line: str) -> None:
        """A line that ends in `[ 45%]`, or one of xdist's workers."""
        if found := _ANNOUNCED.match(line):
            self._announced += 1
            if len(self._ids) < MAX_KEPT:
                self._ids[(found["id"] or found["before"]).strip()] = None
        elif found := _DOTS.search(line):
            self._announced += found["dots"].count("F") + found["dots"].count("E")

    def tell(self, log: Log, node: str, failure: "_Failure | None", message: str = "") -> None:
        self._told += 1
        self._ids.pop(node, None)
        text = (failure.message if failure else "") or message or "failed"
        finding = Finding("test", f"{node}: {text}", raw=text)
        places = failure.places if failure else []
        if places:
            finding.via = list(reversed(places))
            finding.file, finding.line = places[-1].file, places[-1].line
            finding.source = failure.source if failure else None
        else:
            finding.file = node.partition("::")[0]
        log.add(finding)

    def end(self, log: Log) -> None:
        """The log is over: a run that was cut short told no more than the names."""
        for node in list(self._ids):
            self.tell(log, node, None)


def read(line: str, log: Log, run: TestRun) -> Block | bool:
    """A title line of pytest's that failures follow, if it is one."""
    found = _TITLE.match(line)
    if found is None or found["title"] not in _OPENS:
        return False
    block = FailuresBlock(log, run)
    block.take(line, b"")
    return block


class FailuresBlock:
    """All from `= ERRORS =` or `= FAILURES =` to the last line of the run; what tests printed in between is theirs."""

    def __init__(self, log: Log, run: TestRun) -> None:
        self._log, self._run = log, run
        self._waiting: dict[str, _Failure] = {}
        self._current: _Failure | None = None
        self._summary = self._over = False

    def take(self, line: str, raw: bytes) -> bool:
        if self._over:
            return False
        if _ENDS.match(line):
            self._over = True
            return True
        if line.startswith("=") and (title := _TITLE.match(line)):
            self._current, self._summary = None, title["title"] == "short test summary info"
            return title["title"] != "test session starts"
        if self._summary:
            self._take_summary(line)
        elif line.startswith("__") and (header := _HEADER.match(line)):
            self._begin(header["name"])
        elif self._current is not None and line:
            if b">" in raw[:12] and (whole := strip_escapes(raw[:800])).startswith(b">  "):
                line = decode(whole)  # its mark looks like a margin, which was cut off
            self._take_detail(self._current, line)
        return True

    def close(self) -> None:
        for failure in self._waiting.values():
            self._run.tell(self._log, failure.name, failure)
        if self._over:
            self._run.end(self._log)

    def _begin(self, name: str) -> None:
        name = _ROLE.sub("", name)
        self._current = _Failure(name, [])
        if len(self._waiting) < MAX_KEPT:
            self._waiting.setdefault(name, self._current)

    def _take_summary(self, line: str) -> None:
        if found := _SUMMARY.match(line):
            file, _, rest = found["id"].partition("::")
            failure = self._waiting.pop(rest.replace("::", ".") or file, None)
            self._run.tell(self._log, found["id"], failure, found["message"] or "")

    @staticmethod
    def _take_detail(failure: _Failure, line: str) -> None:
        if line.startswith("----"):
            failure.captured = True
        if failure.captured:
            return
        if line.startswith("E  "):
            text = line[1:].strip()[:600]
            raised = bool(_RAISED.match(text))
            if place := _FILE.match(text):  # a SyntaxError's own place
                failure.places.append(Place(place["file"], int(place["line"])))
                failure.source = None
            elif text and (not failure.message or (raised and not failure.raised)):
                failure.message, failure.raised = text, raised
        elif line.startswith(">  "):
            failure.source = line[1:].strip()[:400]
        elif found := _PLACE.match(line):
            place = Place(found["file"], int(found["line"]), None, found["what"])
            failure.places = [*failure.places[-30:], place]
            if place.what.startswith("in "):
                failure.source = None  # --tb=short: the source line comes below
        elif line.startswith("    ") and not failure.source and failure.places and failure.places[-1].what[:3] == "in ":
            failure.source = line.strip()[:400]
