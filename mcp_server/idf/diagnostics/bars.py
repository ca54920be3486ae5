"""Progress of what is not ninja: bitbake, pytest, cargo, docker, git, wget, rsync, dd, and lines of percent."""

import re

_TASK = re.compile(
    rb"NOTE: Running (?:noexec |setscene )?task (?P<done>\d{1,7}) of (?P<total>\d{1,7}) "
    rb"\((?:.{0,300}/)?(?P<what>[^/)]{1,200})\)"
)
_RUNNING = re.compile(
    rb"Currently {1,3}\d{1,4} running tasks? \((?P<done>\d{1,7}) of (?P<total>\d{1,7})(?P<what>.{0,60})"
)
_CARGO = re.compile(
    rb" {2,12}(?:Building|Downloading|Checking) \[[=> -]{1,200}\] (?P<done>\d{1,6})/(?P<total>\d{1,6})"
    rb"(?:: (?P<what>.{0,200}))?"
)
_CARGO_CRATE = re.compile(rb" {2,12}(?P<what>(?:Compiling|Checking|Downloading|Running|Documenting) \S.{0,200})")
_DOCKER = re.compile(rb"#\d{1,4} \[(?:[^\]\s]{1,60} )?(?P<done>\d{1,4})/(?P<total>\d{1,4})\] (?P<what>.{0,200})")
_STEP = re.compile(rb"Step (?P<done>\d{1,4})/(?P<total>\d{1,4}) : (?P<what>.{0,200})")
_LABELLED = re.compile(rb"(?:remote: )?(?P<what>[A-Z][\w ]{2,40}): {1,4}(?P<percent>\d{1,3})%(?: ?[|(]|$)")
_GRADLE = re.compile(rb"<[=-]{4,60}> (?P<percent>\d{1,3})% (?P<what>[A-Z]{4,20})")
_TRANSFER = re.compile(
    rb" {0,12}(?:\d[\d,.]{0,20}[KMGT]? {1,12}(?:(?:\.| |,){8,200})?)(?P<percent>\d{1,3})% {1,8}(?P<what>\S{1,20})"
)
_WGET = re.compile(rb"(?P<what>\S{1,100}) {1,40}(?P<percent>\d{1,3})%\[")
_CURL = re.compile(rb" {0,2}(?P<percent>\d{1,3}) {1,4}\d[\d.]{0,8}[kMGT]? {1,4}\d{1,3} .{0,60}[\d-]{1,2}:[\d-]{2}")
_DD = re.compile(rb"(?P<what>\d{1,20} bytes (?:\(.{1,40}\) )?copied, .{1,60})")
_BARE = re.compile(
    rb" {0,8}(?P<percent>\d{1,3})%(?! ?(?:tests passed|of |slower|faster|code|cover)) ?(?P<what>.{0,200})$"
)
_DONE_TESTS = re.compile(rb"(?P<what>\S.{0,400}?) {0,200}\[ {0,2}(?P<percent>\d{1,3})%\]$")
_WORKER = re.compile(rb"\[gw\d{1,4}\] \[ {0,2}(?P<percent>\d{1,3})%\] [A-Z]{4,8} (?P<what>.{0,400})")
_COLLECTED = re.compile(rb"(?:collecting \.\.\. )?collected (?P<total>\d{1,6}) items?")
_TEST_WORD = re.compile(rb" (?:PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)$")
_DOTS = re.compile(rb"[.FEsxXRu]{1,300}$")
_PATTERNS: tuple[tuple[bytes, tuple[re.Pattern[bytes], ...]], ...] = (
    (b"N", (_TASK,)),
    (b"C", (_RUNNING, _LABELLED)),
    (b"S", (_STEP,)),
    (b"#", (_DOCKER,)),
    (b"R", (_LABELLED,)),
    (b"P", (_LABELLED,)),
    (b"I", (_LABELLED,)),
    (b"L", (_LABELLED,)),
    (b"U", (_LABELLED,)),
    (b"r", (_LABELLED,)),
    (b"<", (_GRADLE,)),
    (b" ", (_CARGO, _CARGO_CRATE, _TRANSFER, _CURL, _BARE)),
    *((bytes([digit]), (_TRANSFER, _CURL, _DD, _BARE)) for digit in b"0123456789"),
)
_OF_FIRST = dict(_PATTERNS)
MAX_MESSAGE = 120  # letters of the current item


class Bars:
    """The last bar seen: `done` of `total`, 0 where the tool tells only what it does. Holds one line at most."""

    def __init__(self) -> None:
        self.known = False
        self.done = self.total = 0
        self._what = b""
        self._tests = 0
        self._bare: int | None = None

    def take(self, line: bytes) -> bool:
        """Whether the line is nothing but progress."""
        if line.endswith(b"%]"):
            return self._take_tests(line)
        if found := _WORKER.match(line):
            return self._took_tests(found["percent"], found["what"].strip())
        if b"%[" in line[:160] and (found := _WGET.match(line)):
            return self._took(found)
        first = line[:1]
        if first == b"c" and (found := _COLLECTED.match(line)):
            self._tests = int(found["total"])
            return False
        for pattern in _OF_FIRST.get(first, ()):
            if found := pattern.match(line):
                if pattern is _BARE and not self._is_bar(int(found["percent"])):
                    return False
                return self._took(found)
        return False

    @property
    def message(self) -> str:
        text = b" ".join(self._what.split()).decode("utf-8", "replace").strip(" :|(")
        return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"

    def _is_bar(self, percent: int) -> bool:
        """One line of percent proves nothing; a second one that is not less does."""
        before, self._bare = self._bare, percent
        return before is not None and before <= percent <= 100

    def _took(self, found: re.Match[bytes]) -> bool:
        groups = found.groupdict()
        if groups.get("percent"):
            self.done, self.total = min(int(groups["percent"]), 100), 100
        elif groups.get("total"):
            done, total = int(groups["done"]), int(groups["total"])
            if found.re is _DOCKER and self.total == total and done < self.done:
                return True  # docker goes back to say that an earlier step is done
            self.done, self.total = min(done, total), total
        elif self.total and self.done >= self.total:
            self.done = self.total = 0
        if groups.get("what") or found.re is _BARE:
            self._what = groups["what"] or b""
        self.known = True
        return True

    def _take_tests(self, line: bytes) -> bool:
        """pytest: `tests/test_a.py ..F.  [ 45%]`, `tests/test_a.py::test_b PASSED [ 45%]`."""
        found = _DONE_TESTS.match(line)
        if found is None:
            return False
        what = _TEST_WORD.sub(b"", found["what"])
        words = what.split()
        if b"::" not in what and not (words and _DOTS.match(words[-1])):
            return False  # a compiler's or a table's percent
        return self._took_tests(found["percent"], what if b"::" in what else words[0] if len(words) > 1 else b"tests")

    def _took_tests(self, percent_text: bytes, what: bytes) -> bool:
        percent = min(int(percent_text), 100)
        self.done, self.total = (percent * self._tests // 100, self._tests) if self._tests else (percent, 100)
        self._what, self.known = what, True
        return True
