"""What the readers of a log share: a finding, its rank, a rule, a block of lines, and the log they report to."""

import re
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Protocol


class Rank(IntEnum):
    """How near to the cause a line is; a lower rank is told first, and a higher one may be told only alone."""

    ROOT = 0  # explains whatever else went wrong: disk full, out of memory
    ERROR = 1  # a tool's own error
    RESULT = 2  # follows from an ERROR where there is one
    STATED = 3  # a line that calls itself an error; no rule knows it
    WRAPPER = 4  # a tool that only says another one failed
    LAST = 5  # the last words of a log


@dataclass(slots=True)
class Place:
    """A position that a tool named on its way to the error: an includer, a template's user, a CMake caller."""

    file: str
    line: int | None = None
    column: int | None = None
    what: str = ""


@dataclass(slots=True)
class Finding:
    """A diagnostic in the making: paths as the tool printed them, shortened at the end, when all roots are known."""

    kind: str
    message: str
    rank: Rank = Rank.ERROR
    file: str | None = None
    line: int | None = None
    column: int | None = None
    source: str | None = None
    notes: list[str] = field(default_factory=list[str])
    via: list[Place] = field(default_factory=list[Place])
    count: int = 1
    also: list[str] = field(default_factory=list[str])  # further positions with the same message
    raw: str = ""  # as printed, for ESP-IDF's hints
    hint: str = ""
    earlier: bool = False  # likely of an action that another one followed
    step: int = 0
    order: int = 0
    subject: str = ""  # what ninja was making


class Block(Protocol):
    """Lines that belong together. It is offered every further line until it refuses one."""

    def take(self, line: str, raw: bytes) -> bool:
        """True if the line is part of the block."""
        ...

    def close(self) -> None:
        """The block is complete: report it."""
        ...


class Log(Protocol):
    """What a reader may tell about the log."""

    includes: list[Place]
    required: list[Place]
    function: str
    current: Finding | None  # the compiler's last error, which notes may follow

    def add(self, finding: Finding) -> None: ...

    def warn(self, times: int = 1, what: "Finding | None" = None) -> None: ...

    def hint(self, text: str) -> None: ...

    def remark(self, text: str) -> None:
        """A tool noticed something without failing; told where a later error has to do with it."""
        ...

    def failed(self) -> None:
        """The log says that something failed for good."""
        ...


@dataclass(frozen=True)
class Rule:
    """One kind of message. `words`: one of them is in the line; looked for before `pattern` is tried.

    `seen` is a line as the tool prints it. The groups file, line, column and message of `pattern` fill the finding;
    `message` is a template over all groups. `follow` matches the lines that continue it, `gaps` empty ones between.
    """

    kind: str
    words: tuple[str, ...]
    pattern: str
    seen: str
    rank: Rank = Rank.ERROR
    message: str = ""
    follow: str = ""
    hint: str = ""

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @cached_property
    def follow_regex(self) -> re.Pattern[str]:
        return re.compile(self.follow)

    def match(self, line: str) -> Finding | None:
        found = self.regex.search(line)
        if found is None:
            return None
        groups = {name: value or "" for name, value in found.groupdict().items()}
        text = self.message.format(**groups) if self.message else groups.get("message") or line
        finding = Finding(self.kind, text, self.rank, raw=line, hint=self.hint.format(**groups) if self.hint else "")
        finding.file = groups.get("file") or None
        finding.line = int(groups["line"]) if groups.get("line") else None
        finding.column = int(groups["column"]) if groups.get("column") else None
        return finding


class FollowBlock:
    """The lines after a rule's own that continue its message, at most eight."""

    def __init__(self, log: Log, rule: Rule, finding: Finding) -> None:
        self._log, self._rule, self._finding = log, rule, finding
        self._more: list[str] = []

    def take(self, line: str, raw: bytes) -> bool:
        if len(self._more) >= 8 or not self._rule.follow_regex.search(line):
            return False
        self._more.append(line.strip().removeprefix("remote: ")[:300])
        return True

    def close(self) -> None:
        if self._more:
            self._finding.message = " ".join([self._finding.message, *self._more])
            self._finding.raw += "\n" + "\n".join(self._more)
        self._log.add(self._finding)


def tail_of(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
