"""Results of tests, and how Unity prints them: plain, from ESP-IDF's menu, and by its fixture."""

import re
from typing import ClassVar, Literal

from mcp_server.model import Model

MAX_CASES = 500  # kept; all are counted
NAME_CHARS, MESSAGE_CHARS = 200, 500  # kept of each


class TestCase(Model):
    """One test. `file` and `line` are where it failed or stands; `suite` is its group or class, if it has one."""

    __test__: ClassVar[bool] = False  # pytest would take the class for a test

    name: str
    result: Literal["pass", "fail", "skip"]
    suite: str = ""
    file: str | None = None
    line: int | None = None
    message: str = ""
    seconds: float | None = None


class TestResults(Model):
    """All tests of a log. The counts are the larger of what was seen and what the summaries say.

    `cases` are the first ones, failures before all others; `truncated`: there were more. `complete` is False where a
    run has no summary: it was cut off, or goes on.
    """

    __test__: ClassVar[bool] = False

    total: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    cases: tuple[TestCase, ...] = ()
    truncated: bool = False
    complete: bool = True


class Tally:
    """Counts what the readers of test output find, run by run. Bounded, whatever is printed."""

    def __init__(self) -> None:
        self.cases: list[TestCase] = []
        self.running = False
        """A run has begun and has said no summary."""
        self.summaries = 0
        """Runs that ended with a summary of at least one test."""
        self.current: tuple[str, str] | None = None
        """Suite and name of the test that has begun and has no result."""
        self.empty = False
        """A run's summary counted no test at all."""
        self.cut = False
        """A run ended without a summary."""
        self._truncated = False
        self._done = [0, 0, 0]  # passed, failed, skipped of the runs that are over
        self._now = [0, 0, 0]  # of this one

    @property
    def begun(self) -> bool:
        """Whether any test has been seen."""
        return self.running or self.cut or self.summaries > 0

    @property
    def failed(self) -> int:
        return self._done[1] + self._now[1]

    @property
    def over(self) -> int:
        """Tests that have a result."""
        return sum(self._done) + sum(self._now)

    def begin(self) -> None:
        self.running = True

    def start(self, suite: str, name: str) -> None:
        """A test begins."""
        self.running = True
        self.current = suite[:NAME_CHARS], name[:NAME_CHARS]

    def add(self, case: TestCase) -> None:
        self.running = True
        self.current = None
        self._now[("pass", "fail", "skip").index(case.result)] += 1
        if len(case.name) > NAME_CHARS or len(case.message) > MESSAGE_CHARS:
            case = case.model_copy(update={"name": case.name[:NAME_CHARS], "message": case.message[:MESSAGE_CHARS]})
        if len(self.cases) >= MAX_CASES:
            self._truncated = True
            kept = next((at for at in range(MAX_CASES - 1, -1, -1) if self.cases[at].result != "fail"), None)
            if case.result != "fail" or kept is None:
                return
            del self.cases[kept]
        self.cases.append(case)

    def explain(self, *, message: str | None = None, seconds: float | None = None) -> None:
        """More about the last test, which was printed after its result."""
        if self.cases:
            given = {"message": message[:MESSAGE_CHARS] if message else None, "seconds": seconds}
            update = {name: value for name, value in given.items() if value is not None}
            self.cases[-1] = self.cases[-1].model_copy(update=update)

    def end(self, total: int, failed: int, skipped: int) -> None:
        """The run's summary: what it counts and was not seen is counted, too."""
        seen = self._now
        failed, skipped = max(failed, seen[1]), max(skipped, seen[2])
        total = max(total, sum(seen), failed + skipped)
        self.summaries += 1 if total else 0
        self.empty = self.empty or not total
        self._close([total - failed - skipped, failed, skipped])

    def pause(self) -> None:
        """No run is at work, and none was cut off: a test restarts the chip as it should."""
        self.empty = False
        self._close(self._now)

    def cut_off(self, why: str) -> None:
        """The run cannot go on: the test at work has failed."""
        if self.current is not None:
            suite, name = self.current
            self.add(TestCase(name=name, suite=suite, result="fail", message=f"cut off: {why}"))
        elif self.running:
            after = f"(the test after {self.cases[-1].name})" if self.cases else "(the first test)"
            self.add(TestCase(name=after, result="fail", message=f"cut off: {why}"))
        else:
            return
        self.cut = True
        self._close(self._now)

    def results(self) -> TestResults:
        passed, failed, skipped = (done + now for done, now in zip(self._done, self._now, strict=True))
        return TestResults(
            total=passed + failed + skipped,
            passed=passed,
            failed=failed,
            skipped=skipped,
            cases=tuple(self.cases),
            truncated=self._truncated,
            complete=not (self.running or self.cut),
        )

    def _close(self, counts: list[int]) -> None:
        self._done = [done + now for done, now in zip(self._done, counts, strict=True)]
        self._now = [0, 0, 0]
        self.running, self.current = False, None


_RESULTS: dict[str, Literal["pass", "fail", "skip"]] = {"PASS": "pass", "FAIL": "fail", "IGNORE": "skip"}
_TIME = r"(?: \((?P<ms>\d{1,9}) ms\))?"
_PLAIN = re.compile(
    r"(?P<file>[^:]{1,250}\.\w{1,10}):(?P<line>\d{1,7}):(?P<name>.{1,300}?):(?P<result>PASS|FAIL|IGNORE)"
    rf"(?:: ?(?P<message>.*?))?{_TIME}$"
)
_SUMMARY = re.compile(r"^(\d{1,7}) Tests (\d{1,7}) Failures (\d{1,7}) Ignored\s*$")
_FIXTURE = re.compile(r"^(?P<ignored>IGNORE_)?TEST\((?P<suite>\w{1,200}), (?P<name>\w{1,200})\)(?P<rest>.*)$")
_FIXTURE_BAD = re.compile(
    r"(?P<file>[^:\s]{1,250}\.\w{1,4}):(?P<line>\d{1,7})::(?P<result>FAIL|IGNORE)"
    rf"(?:: ?(?P<message>.*?))?{_TIME}$"
)
_FIXTURE_PASS = re.compile(rf"(?:^|[^\w:])PASS{_TIME}$")
_RUNNING = re.compile(r"^Running (?P<name>.{1,300})\.\.\.$")
_MATCHING = re.compile(r"^Running tests (?:NOT )?matching '.{0,200}'\.\.\.$")
_REPEATED = re.compile(r"^Unity test run (\d{1,6}) of (\d{1,6})$")
_RAN = re.compile(r"^Test ran in (\d{1,9})ms$")
_STAGE = re.compile(r"^Running stage \d{1,3}\.\.\.$")
MENU = ("Press ENTER to see the list of tests", "Here's the test menu", "Enter next test, or 'enter' to see menu")


class UnityReader:
    """Reads Unity's lines into a tally. `staged`: the test at work restarts the chip on purpose."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._fixture: tuple[str, str] | None = None
        self._known = False  # "Running x..." is Unity's only where more of Unity was seen
        self._more = False
        self.staged = False

    @property
    def open(self) -> bool:
        """A test of the fixture has begun: its result may stand at the end of any line."""
        return self._fixture is not None

    def feed(self, line: str) -> bool:
        """Whether the line was Unity's."""
        if self._fixture is not None and self._fixture_result(line):
            return True
        if found := _FIXTURE.match(line):
            self._fixture_begins(found)
        elif (":PASS" in line or ":FAIL" in line or ":IGNORE" in line) and (found := _PLAIN.search(line)):
            self._result(found)
        elif found := _SUMMARY.match(line):
            total, failed, skipped = (int(number) for number in found.groups())
            self._tally.end(total, failed, skipped)
            self._fixture, self.staged, self._known = None, False, True
            if self._more:
                self._tally.begin()
        else:
            return self._announcement(line)
        self._known = True
        return True

    def restarted(self) -> None:
        """The chip began anew: whatever was at work is not any more."""
        self._fixture, self.staged, self._more = None, False, False

    def _announcement(self, line: str) -> bool:
        if line.startswith(MENU):
            self._known = True
        elif _MATCHING.match(line):
            self._known = True
            self._tally.begin()
        elif found := _REPEATED.match(line):
            self._known = True
            self._more = int(found[1]) < int(found[2])
            self._tally.begin()
        elif _STAGE.match(line) and self._known:
            self.staged = True
        elif (found := _RUNNING.match(line)) and self._known:
            self._tally.start("", found["name"])
        elif (found := _RAN.match(line)) and self._known:
            self._tally.explain(seconds=int(found[1]) / 1000)
        else:
            return False
        return True

    def _fixture_begins(self, found: re.Match[str]) -> None:
        suite, name, rest = found["suite"], found["name"], found["rest"]
        if found["ignored"]:
            self._tally.add(TestCase(name=name, suite=suite, result="skip"))
            return
        self._fixture = suite, name
        self._tally.start(suite, name)
        self._fixture_result(rest)

    def _fixture_result(self, text: str) -> bool:
        """Whether the text ends the fixture's test, whose own output may stand before it."""
        assert self._fixture is not None
        suite, name = self._fixture
        if bad := _FIXTURE_BAD.search(text):
            case = TestCase(
                name=name,
                suite=suite,
                result=_RESULTS[bad["result"]],
                file=bad["file"],
                line=int(bad["line"]),
                message=(bad["message"] or "").strip(),
                seconds=_seconds(bad),
            )
        elif passed := _FIXTURE_PASS.search(text):
            case = TestCase(name=name, suite=suite, result="pass", seconds=_seconds(passed))
        else:
            return False
        self._fixture = None
        self._tally.add(case)
        return True

    def _result(self, found: re.Match[str]) -> None:
        name, suite = found["name"].strip(), ""
        if fixture := _FIXTURE.match(name):
            name, suite = fixture["name"], fixture["suite"]
        self._tally.add(
            TestCase(
                name=name,
                suite=suite,
                result=_RESULTS[found["result"]],
                file=found["file"].strip(),
                line=int(found["line"]),
                message=(found["message"] or "").strip(),
                seconds=_seconds(found),
            )
        )


def _seconds(found: re.Match[str]) -> float | None:
    return int(found["ms"]) / 1000 if found["ms"] else None
