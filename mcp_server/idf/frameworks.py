"""How GoogleTest, Catch2 and pytest (pytest-embedded, too) print their results."""

import re
from typing import Literal

from mcp_server.idf.unity import Tally, TestCase, UnityReader

LINE_CHARS = 1000  # only a failure's message is longer; keeps what a search may cost small

_GOOGLE = re.compile(
    r"^\[ {1,7}(?P<what>RUN|OK|FAILED|SKIPPED) {1,7}\] (?P<suite>[^\s.]{1,200})\.(?P<name>[^\s,]{1,200})"
    r"(?:, where .*?)?(?: \((?P<ms>\d{1,9}) ms\))?$"
)
_GOOGLE_END = re.compile(r"^\[={10}\] (\d{1,7}) tests? from .* ran\.")
_GOOGLE_PLACE = re.compile(r"^(?P<file>[^\s:]{1,250}):(?P<line>\d{1,7}): Failure$")
_GOOGLE_RESULTS: dict[str, Literal["pass", "fail", "skip"]] = {"OK": "pass", "FAILED": "fail", "SKIPPED": "skip"}


class GoogleReader:
    """Reads GoogleTest's lines into a tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.open = False
        self._place: tuple[str, int] | None = None
        self._message: list[str] = []

    def feed(self, line: str) -> bool:
        """Whether the line was GoogleTest's."""
        if line.startswith("["):
            return self._bracket(line)
        if not self.open:
            return False
        if found := _GOOGLE_PLACE.match(line):
            if self._place is None:
                self._place = found["file"], int(found["line"])
            return True
        if self._place is not None and len(self._message) < 6 and line.strip():
            self._message.append(line.strip()[:200])
        return False

    def _bracket(self, line: str) -> bool:
        if found := _GOOGLE_END.match(line):
            self._tally.end(int(found[1]), 0, 0)
            self.open = False
            return True
        found = _GOOGLE.match(line)
        if found is None or (found["what"] != "RUN" and not self.open):
            return False  # the list after the summary names the failed ones again
        if found["what"] == "RUN":
            self.open, self._place, self._message = True, None, []
            self._tally.start(found["suite"], found["name"])
            return True
        file, number = self._place or (None, None)
        self._tally.add(
            TestCase(
                name=found["name"],
                suite=found["suite"],
                result=_GOOGLE_RESULTS[found["what"]],
                file=file,
                line=number,
                message=" ".join(self._message),
                seconds=int(found["ms"]) / 1000 if found["ms"] else None,
            )
        )
        self._place, self._message = None, []
        return True


_CATCH_FAILED = re.compile(r"^(?P<file>[^\s:]{1,250}):(?P<line>\d{1,7}): FAILED:$")
_CATCH_PASSED = re.compile(r"^All tests passed \(\d{1,9} assertions? in (\d{1,7}) test cases?\)$")
_CATCH_CASES = re.compile(r"^test cases: +(\d{1,7}) \|(?P<counts>.*)$")
_COUNT = re.compile(r"(\d{1,7}) (passed|failed|skipped|xfailed|xpassed|errors?|deselected|warnings?)")


class CatchReader:
    """Reads Catch2's failures and its summary; it names no test that passes."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def feed(self, line: str) -> bool:
        if found := _CATCH_FAILED.match(line):
            place = f"{found['file']}:{found['line']}"
            self._tally.add(TestCase(name=place, result="fail", file=found["file"], line=int(found["line"])))
        elif found := _CATCH_PASSED.match(line):
            self._tally.end(int(found[1]), 0, 0)
        elif found := _CATCH_CASES.match(line):
            counts = {word: int(number) for number, word in _COUNT.findall(found["counts"])}
            self._tally.end(int(found[1]), counts.get("failed", 0), counts.get("skipped", 0))
        else:
            return False
        return True


_PYTEST = re.compile(
    r"^(?P<id>[^\s:]{1,250}\.py::.{1,300}?) (?P<what>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)"
    r"(?: \(.*\))?(?:\s+\[ *\d{1,3}%\])?$"
)
_PYTEST_AGAIN = re.compile(r"^(?:FAILED|ERROR) (?P<id>[^\s:]{1,250}\.py::.{1,300}?)(?: - (?P<message>.*))?$")
_PYTEST_BEGINS = re.compile(r"^=+ test session starts .{0,80}=+$")
_PYTEST_END = re.compile(r"^=+ (?P<counts>\d{1,7} [a-z]+.*?|no tests ran) in [\d.]+s.*=+$")
_PYTEST_RESULTS: dict[str, Literal["pass", "fail", "skip"]] = {
    "PASSED": "pass",
    "XPASS": "pass",
    "FAILED": "fail",
    "ERROR": "fail",
    "SKIPPED": "skip",
    "XFAIL": "skip",
}


class PytestReader:
    """Reads pytest's lines (-v), its short summary and its last line into a tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._failed: set[str] = set()

    def feed(self, line: str) -> bool:
        if found := _PYTEST.match(line):
            self._add(found["id"], _PYTEST_RESULTS[found["what"]], "")
        elif found := _PYTEST_AGAIN.match(line):
            self._again(found["id"], found["message"] or "")
        elif found := _PYTEST_END.match(line):
            counts = {word.rstrip("s"): int(number) for number, word in _COUNT.findall(found["counts"])}
            failed = counts.get("failed", 0) + counts.get("error", 0)
            skipped = counts.get("skipped", 0) + counts.get("xfailed", 0)
            total = failed + skipped + counts.get("passed", 0) + counts.get("xpassed", 0)
            self._tally.end(total, failed, skipped)
            self._failed.clear()
        elif _PYTEST_BEGINS.match(line):
            self._tally.begin()
        else:
            return False
        return True

    def _add(self, identity: str, result: Literal["pass", "fail", "skip"], message: str) -> None:
        file, _, name = identity.partition("::")
        if result == "fail" and len(self._failed) < 1000:
            self._failed.add(identity)
        self._tally.add(TestCase(name=name, suite=file, result=result, file=file, message=message))

    def _again(self, identity: str, message: str) -> None:
        """The short summary names a failed test once more, with its reason."""
        if identity not in self._failed:
            self._add(identity, "fail", message)
            return
        file, _, name = identity.partition("::")
        for at, case in enumerate(self._tally.cases):
            if case.result == "fail" and (case.suite, case.name) == (file, name[:200]):
                self._tally.cases[at] = case.model_copy(update={"message": message[:500]})


_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d{1,6})? (?:\[[\w-]{1,40}\] )?")
"""What pytest-embedded puts before a board's lines."""


class TestReader:
    """Reads whatever test output a log has into one tally."""

    __test__ = False

    def __init__(self) -> None:
        self.tally = Tally()
        self._unity = UnityReader(self.tally)
        self._google = GoogleReader(self.tally)
        self._readers = (self._unity, self._google, CatchReader(self.tally), PytestReader(self.tally))

    @property
    def open(self) -> bool:
        """The next line may be a test's whatever stands in it."""
        return self._unity.open or self._google.open

    def feed(self, line: str) -> None:
        """Read the next line, without control sequences. Costs little where nothing in it looks like a test's."""
        if len(line) > LINE_CHARS:
            line = line[:LINE_CHARS] + "…"
        if self.open or _may_tell(line):
            if line.startswith("20") and (stamp := _STAMP.match(line)):
                line = line[stamp.end() :]
            for reader in self._readers:
                if reader.feed(line):
                    return

    def restarted(self, *, expected: bool) -> None:
        """The chip began anew. A run is cut off by it, but one with a test that restarts the chip on purpose."""
        if not expected and not self._unity.staged:
            self.tally.cut_off("the chip restarted")
        self.tally.pause()
        self._unity.restarted()
        self._google.open = False

    def cut_off(self, why: str) -> None:
        """Nothing more of the run can come: `why` in words, e.g. a panic's cause."""
        self.tally.cut_off(why)
        self._unity.restarted()
        self._google.open = False


SIGNS = ("PASS", "FAIL", "IGNORE", "TEST(", " Tests ", "est", ".py::")
FIRST_SIGNS = ("Running ", "[", "=", "ERROR", "Enter", "Press", "Here")
"""A line that tells of tests has one of the former, or begins with one of these."""


def _may_tell(line: str) -> bool:
    return (
        "PASS" in line
        or "FAIL" in line
        or "IGNORE" in line
        or "TEST(" in line
        or " Tests " in line
        or "est" in line
        or line.startswith(FIRST_SIGNS)
        or ".py::" in line
    )
