"""Regular expressions of users and models, searched line by line in the worker's loop: bounded, whatever they are.

They are those of the `regex` library: what `re` takes, with a time limit inside a search, which `re` cannot have.
RE2 never takes long either, but refuses look-around and back references, and its wheels come late for new Pythons.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import thread_time
from typing import cast

import regex

from mcp_server.errors import BadInput

MAX_PATTERNS = 50  # of one argument
MAX_PATTERN_CHARS = 1000
MAX_WEIGHT = 5000  # compiled in 5 ms at most; see `_weight`
MAX_CASELESS_CHARS = 250  # of one that ignores case: the first search of a word costs its length squared, here 5 ms
SEARCH_S = 0.002  # processor time of one search: 200 times what a good pattern takes for 4096 bytes
AGAIN_S = 0.02  # of one more: what the process's other threads take counts, too, and so does a page that is fetched
SPARE_S = 0.1  # the thread's own time that such searches may take, of all patterns of an argument together
PATIENCE = 10  # searches that may run out of time before their pattern is given up: 20 ms in all, and what is spared

_FUZZY = re.compile(r"\{[^{}]{0,40}?(?<!\w)[eids]\s*(?:<=?\s*\d+)?\s*[,}:]")
"""What `regex` reads as a number of wrong letters that are allowed, e.g. `{e<=1}`; to `re` it is plain text."""

_CASELESS = re.compile(r"\(\?[amsuxL]*i")
_POSIX = re.compile(r"\[:\^?\w{1,10}:\]")  # a name within a set, to `regex` alone
_TOKEN = re.compile(
    r"(?P<comment>\(\?#[^)]*\))|(?P<set>\[\^?(?:\\.|[^\\])(?:\\.|[^\\\]])*\])"
    r"|\s*(?:(?P<some>[*+?])|\{(?P<count>\d*)(?:,\d*)?\})|\\.|.",
    re.DOTALL,
)
_LETTER_CODE = re.compile(r"\\[xuUN0-7]")


@dataclass(slots=True)
class Spare:
    """Seconds that are left for second searches."""

    seconds: float = SPARE_S


@dataclass(slots=True)
class Pattern:
    """One pattern as it was written, compiled. `slow` counts the lines whose search ran out of time."""

    argument: str
    text: str
    compiled: "regex.Pattern[str]"
    slow: int = 0
    spare: Spare = field(default_factory=Spare)

    def search(self, line: str) -> bool:
        """Whether it is found in the line. False, too, where that was not known in time: ask `given_up` then."""
        try:
            return self.compiled.search(line, timeout=SEARCH_S) is not None
        except TimeoutError:
            return self._again(lambda: self.compiled.search(line, timeout=AGAIN_S) is not None)

    def search_behind(self, line: str, first: int) -> bool:
        """Whether a match ends behind the first letters, so many. False as in `search`."""

        def found(seconds: float) -> bool:
            return any(match.end() > first for match in self.compiled.finditer(line, timeout=seconds))

        try:
            return found(SEARCH_S)
        except TimeoutError:
            return self._again(lambda: found(AGAIN_S))

    def _again(self, search: Callable[[], bool]) -> bool:
        """Once more, as somebody else's work may have cost the time; what this thread takes for it is counted."""
        if self.spare.seconds > 0:
            began = thread_time()
            try:
                return search()
            except TimeoutError:
                pass
            finally:
                self.spare.seconds -= thread_time() - began
        self.slow += 1
        return False

    @property
    def given_up(self) -> bool:
        """It took too long too often: what it would have found is not known."""
        return self.slow >= PATIENCE


def compile_patterns(argument: str, patterns: object) -> tuple[Pattern, ...]:
    """The patterns, each once; they may be anything that YAML or JSON brings, None for none.

    BadInput names `argument` and what is wrong with the first bad one.
    """
    if patterns is None:
        return ()
    if not isinstance(patterns, list | tuple):
        raise BadInput(argument, "a list of regular expressions is wanted")
    given = list(cast(Iterable[object], patterns))
    if len(given) > MAX_PATTERNS:
        raise BadInput(argument, f"{len(given)} patterns; {MAX_PATTERNS} at most")
    spare = Spare()
    compiled = [Pattern(argument, str(text), _compile(argument, text), spare=spare) for text in given]
    return tuple({pattern.text: pattern for pattern in compiled}.values())


def _compile(argument: str, text: object) -> "regex.Pattern[str]":
    if not isinstance(text, str):
        raise BadInput(argument, f"{str(text)[:60]!r} is no text; put the regular expression in quotes")
    if not text:
        raise BadInput(argument, "an empty pattern is found in every line; write what the firmware prints")
    if "\n" in text:
        raise BadInput(argument, f"{text[:60]!r} has a line end; lines are searched one by one, so give each its own")
    if len(text) > MAX_PATTERN_CHARS:
        raise BadInput(argument, f"{text[:60]!r}… has {len(text)} letters; {MAX_PATTERN_CHARS} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful set such as `[[a]` still means what it does
            re.compile(_for_re(text))  # what only `regex` knows (recursion) is refused: it may cost what it likes
            _check(argument, text)
            return regex.compile(text)
    except RecursionError as error:
        raise BadInput(argument, f"{text[:60]!r} is nested too deeply for a regular expression") from error
    except (re.error, regex.error, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise BadInput(argument, f"{text[:60]!r} is no regular expression: {error}") from error


def _for_re(text: str) -> str:
    """The same with short sets, for `re`, which is only asked whether it takes the rest.

    It goes through all letters of a range: up to 7 ms for `[\x00-\U0010ffff]`, a second for 200 of them.
    """
    return _TOKEN.sub(_short, text)


def _short(token: re.Match[str]) -> str:
    is_wide = token["set"] and (not token["set"].isascii() or _LETTER_CODE.search(token["set"]))
    return "[a]" if is_wide else token[0]


def _check(argument: str, text: str) -> None:
    """BadInput for what `re` takes and `regex` takes for something else, or compiles into something huge."""
    if found := _FUZZY.search(text):
        raise BadInput(argument, f"{text[:60]!r}: write \\{{ for the brace of {found[0]!r}")
    if len(text) > MAX_CASELESS_CHARS and _CASELESS.search(text):
        raise BadInput(argument, f"{text[:60]!r}… ignores case with {len(text)} letters; {MAX_CASELESS_CHARS} at most")
    if _weight(text) > MAX_WEIGHT:
        raise BadInput(argument, f"{text[:60]!r} repeats too much; write it more simply")


def _weight(text: str) -> int:
    """About how large it is when compiled: `a{9}` is nine of them, `(…)+` two, so each level of groups multiplies."""
    levels = [0]
    last, is_group = 0, False  # what a quantifier repeats
    for token in _TOKEN.finditer(_POSIX.sub("a", text)):
        if token["comment"]:
            continue
        if token["some"] or token["count"] is not None:
            times = max(min(int(token["count"] or 1), MAX_WEIGHT + 1), 2 if is_group else 1)
            levels[-1] += last * (times - 1)
            last, is_group = last * times, False
        elif token[0] == "(":
            levels.append(0)
            last, is_group = 0, False
        elif token[0] == ")" and len(levels) > 1:
            last, is_group = levels.pop() + 1, True
            levels[-1] += last
        else:
            last, is_group = len(token[0]), False
            levels[-1] += last
    return sum(levels)
