"""Users' regular expressions: refused with a reason, or bounded."""

import time
from dataclasses import dataclass
from typing import cast

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.errors import BadInput
from mcp_server.idf.firmware_log import FirmwareLog
from mcp_server.idf.patterns import (
    AGAIN_S,
    MAX_CASELESS_CHARS,
    MAX_PATTERN_CHARS,
    MAX_PATTERNS,
    PATIENCE,
    SEARCH_S,
    SPARE_S,
    compile_patterns,
)
from mcp_server.idf.verdict import judge

MAX_FEED_S = 0.5  # 0.02 on an idle machine, and minutes where nothing ends a search
EXPLODING = (r"(a+)+$b", r"(a|aa)+$b", r"(a+)+b|\d", r"(?>a+)b", r"((a{1,99}){1,99}){1,99}b", r"(?:(\w)\1?)+#")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[", "no regular expression"),
        ("a{2,1}", "no regular expression"),
        ("(?P<x>", "no regular expression"),
        (r"\L<names>", "no regular expression"),
        ("*ready", "no regular expression"),
        ("", "empty pattern"),
        ("ready\n", "has a line end"),
        ("a" * (MAX_PATTERN_CHARS + 1), f"{MAX_PATTERN_CHARS} at most"),
        ("(?:" * 20 + "a" + "){1,9}" * 20, "repeats too much"),
        ("(" * 60 + "a|b" + ")+" * 60, "repeats too much"),
        ("(?:" * 20 + r"[)]\)a" + ") +" * 20, "repeats too much"),
        ("(?:" * 20 + "a" + ")(?#)+" * 20, "repeats too much"),
        ("(?:" * 20 + "[\\](]a" + ")+" * 20, "repeats too much"),
        ("a{4000000000}", "repeats too much"),
        ("(?x) a {60000}", "repeats too much"),
        ("(?:a{600}){600}", "repeats too much"),
        ("(?:(?:a|b){60,}){60,90}?", "repeats too much"),
        ("(?:a{600}[\\](]){600}", "repeats too much"),
        ("(?i)" + "a" * MAX_CASELESS_CHARS, "ignores case with 254 letters"),
        ("(?ms-x:(?si:" + "a" * MAX_CASELESS_CHARS + "))", "ignores case with"),
        (r"(?R)?a", "no regular expression"),
        (r"(?#[-ä)(?R)?(?#])a", "no regular expression"),
        (r"[ä-a]", "no regular expression"),
        ("(?:ready){e<=2}", "write"),
        ("(" * 499 + "a" + ")" * 499, "nested too deeply"),
    ],
)
def test_unusable_pattern_is_refused_by_the_argument_s_name(pattern: str, said: str) -> None:
    """Issue. Patterns come from people and models: one sentence, no traceback."""
    for argument in ("expect", "fail_on"):
        with pytest.raises(BadInput, match=said) as refused:
            FirmwareLog(**{argument: [pattern]})  # pyright: ignore[reportArgumentType]
        assert refused.value.argument == argument
        assert len(str(refused.value)) < 250


def test_pattern_that_would_grow_when_compiled_is_refused_at_once() -> None:
    """Ours. Each level of repeated groups doubles it: 20 of them were gigabytes."""
    started = time.thread_time()
    for depth in range(8, 100):
        with pytest.raises(BadInput):
            compile_patterns("expect", [("(?:" * depth + "word" * 10 + ")+" * depth)[:1000]])
    assert time.thread_time() - started < 3


@pytest.mark.parametrize("flag", ["", "(?i)"])
def test_sets_of_all_letters_cost_little(flag: str) -> None:
    """Ours. `re` goes through every letter of a range: these took 9 s."""
    wide = [r"[\x00-\U0010ffff]", "[\x01-\U0010fffe]", "[^a-\U0010fffe]", "[가-힣]", r"[\N{DEGREE SIGN}-\uffff]"]
    room = MAX_CASELESS_CHARS - len(flag)

    started = time.thread_time()
    for one in wide:
        (pattern,) = compile_patterns("expect", [flag + one * (room // len(one))])
        assert not pattern.search("a" * 200) or one not in wide[2:]
    assert time.thread_time() - started < 2


@pytest.mark.parametrize(
    "pattern",
    [
        "a{0,4000000000}b",
        "(?:a?){60}a{500}",
        "(?i)" + "a" * 240,
        "(?:" + "|".join("a" * n for n in range(1, 40)) + ")+z",
    ],
)
def test_no_pattern_that_is_taken_costs_much_at_its_first_search(pattern: str) -> None:
    """Ours. The search has a time limit, but what is prepared ahead of it has none."""
    started = time.thread_time()
    (compiled,) = compile_patterns("expect", [pattern])
    compiled.search("a" * 4095 + "b")
    assert time.thread_time() - started < MAX_FEED_S


@pytest.mark.parametrize(
    ("given", "said"),
    [([42], "quotes"), ([{"a": 1}], "quotes"), ("ready", "a list"), ({"a": 1}, "a list"), (7, "a list")],
)
def test_what_yaml_may_bring_instead_is_refused(given: object, said: str) -> None:
    """Ours. `expect: [42]` is a number to YAML, `expect: ready` one text."""
    with pytest.raises(BadInput, match=said):
        compile_patterns("expect", given)


def test_nothing_is_no_pattern() -> None:
    """Ours. `expect:` without a value is null to YAML."""
    assert compile_patterns("expect", None) == ()


def test_too_many_patterns_are_refused() -> None:
    """Ours."""
    with pytest.raises(BadInput, match="at most"):
        compile_patterns("expect", [f"line {number}" for number in range(MAX_PATTERNS + 1)])


def test_what_re_takes_is_taken() -> None:
    """Ours. Look-around, back references, named groups and flags mean what they mean in `re`."""
    wanted = [
        r'{"id": {2}\d}',
        r"(?:(?:a+b)*c)+d{2,}",
        r"(?i)READY",
        r"(?<=t: )\d+",
        r"^(?!.*error).*done$",
        r"(?P<w>\w)(?P=w)\b",
        r"\bup\Z",
        "[[a]b",
        r"sha [0-9a-f]{64}$",
        r"^(?:[0-9A-F]{2} ){16}\|",
        r"(?i)[]\]]\{9999}[가-힣]+",
    ]
    lines = ['{"id":  7}', "aabcabcdd", "ready", "t: 42", "all done", "fell", "is up", "[b"]
    lines += ["sha " + "0f" * 32, "0A " * 16 + "|", "]{9999}온도"]

    assert [pattern.search(line) for pattern, line in zip(compile_patterns("expect", wanted), lines, strict=True)] == (
        [True] * len(wanted)
    )
    assert not compile_patterns("expect", wanted)[4].search("an error was done")


@pytest.mark.parametrize("pattern", [r"(a+)+$", *EXPLODING])
def test_exploding_pattern_does_not_hold_the_loop(pattern: str) -> None:
    """Issue. 4 KB of a's are enough for minutes in `re`."""
    log = FirmwareLog(expect=[pattern, "ready"], fail_on=["^" + pattern])
    log.feed(b"warm up\n")

    started = time.thread_time()
    log.feed(b"a" * 4096 + b"\n")
    assert time.thread_time() - started < MAX_FEED_S


def test_many_exploding_lines_end_the_search_and_tell_which_pattern_it_was() -> None:
    """Ours. What such a pattern would have found is not known: no pass, no fail, and no more time for it."""
    log = FirmwareLog(fail_on=[r"(a|aa)+$b"])

    started = time.thread_time()
    log.feed((b"a" * 4096 + b"\n") * (PATIENCE + 40))
    assert time.thread_time() - started < MAX_FEED_S

    assert log.decided
    verdict = judge(log, None)
    assert verdict.result == "unknown"
    assert "fail_on: '(a|aa)+$b' takes too long" in verdict.summary


def test_one_slow_line_does_not_end_the_search() -> None:
    """Ours. An unlucky line of 4 KB may be slow for a pattern that is good for all others."""
    log = FirmwareLog(expect=[r"(a|aa)+$b|ready"])
    log.feed(b"a" * 4096 + b"\nready\n")

    assert log.decided
    verdict = judge(log, None)
    assert verdict.result == "pass"
    assert verdict.details["notes"] == ["expect: '(a|aa)+$b|ready' was too slow for 1 lines"]


@dataclass
class Interrupted:
    """A compiled pattern whose first searches others take the processor from."""

    compiled: "regex.Pattern[str]"
    times: int

    def search(self, line: str, timeout: float) -> object:
        self._interrupt()
        return self.compiled.search(line, timeout=timeout)

    def finditer(self, line: str, timeout: float) -> object:
        self._interrupt()
        return self.compiled.finditer(line, timeout=timeout)

    def _interrupt(self) -> None:
        if self.times:
            self.times -= 1
            raise TimeoutError


def test_no_line_is_missed_because_the_machine_is_busy_with_something_else() -> None:
    """Ours. On a loaded machine a boot timed out whose line was there: processor time is that of all threads."""
    (pattern,) = compile_patterns("expect", ["hello from .*"])
    compiled = pattern.compiled
    for _ in range(100):
        pattern.compiled = cast("regex.Pattern[str]", Interrupted(compiled, 1))
        assert pattern.search("hello from esp32c3")
        pattern.compiled = cast("regex.Pattern[str]", Interrupted(compiled, 1))
        assert pattern.search_behind("hello from esp32c3", 5)
    assert pattern.slow == 0
    pattern.compiled = cast("regex.Pattern[str]", Interrupted(compiled, 2))
    assert not pattern.search("hello from esp32c3")
    assert pattern.slow == 1  # nobody claims that it was not there


def test_many_exploding_patterns_are_searched_once_more_for_a_tenth_of_a_second_together() -> None:
    """Ours. What is spared for a busy machine is no more time for those that are slow by themselves."""
    patterns = compile_patterns("expect", [rf"(a|aa)+$b{number}" for number in range(MAX_PATTERNS)])

    started = time.thread_time()
    assert sum(pattern.search("a" * 4096) for pattern in patterns) == 0
    assert patterns[0].spare.seconds <= 0
    assert time.thread_time() - started < SPARE_S + AGAIN_S + 4 * SEARCH_S * MAX_PATTERNS


@given(st.text(min_size=1, max_size=40), st.text(max_size=80))
def test_any_text_is_a_pattern_or_refused(pattern: str, line: str) -> None:
    """Ours."""
    try:
        (compiled,) = compile_patterns("expect", [pattern])
    except BadInput as refused:
        assert refused.argument == "expect"
        return
    compiled.search(line)
