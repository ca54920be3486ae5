"""ninja and make: failed steps, and what is wrong with the build files themselves."""

import re

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Rank, Rule

_ERROR = re.compile(r"^ninja: (?:error|fatal): (?P<message>.*)$")
_STOPPED = re.compile(r"^ninja: build stopped: (?P<why>.*)$")
_IDF_LAST = re.compile(r"^\S.{0,80}? failed with exit code -?\d+(?:, output of the command is in .*)?$")
_WRAPPERS = ("rebuilding 'build.ninja': subcommand failed", "subcommand failed")
WORDS = ("ninja: ", "failed with exit code", "process terminated", "make: ***", "make[")


def read(line: str, log: Log) -> Block | bool:
    if "ninja" not in line and "exit code" not in line and "terminated" not in line:
        return False
    if found := _STOPPED.match(line):
        log.failed()
        if "interrupted" in found["why"]:
            log.add(Finding("interrupted", line, raw=line))
        return True
    if found := _ERROR.match(line):
        log.failed()
        finding = Finding("ninja", found["message"], raw=line)
        if found["message"].endswith(_WRAPPERS):
            finding.rank = Rank.WRAPPER
        if "fatal:" in line and "posix_spawn" in line:
            finding.rank = Rank.ROOT
        return NearBlock(log, finding)
    if line.endswith(" process terminated"):
        log.add(Finding("interrupted", f"{line} (interrupted)", raw=line))
        return True
    if _IDF_LAST.match(line):
        log.failed()
        tool = line.partition(" ")[0]
        kind = tool if tool in ("cmake", "ninja") else "unknown"
        log.add(Finding(kind, line.partition(", output of")[0], Rank.LAST, raw=line))
        return True
    return False


class NearBlock:
    """ninja shows the bad line of build.ninja and `^ near here` below its message."""

    def __init__(self, log: Log, finding: Finding) -> None:
        self._log, self._finding = log, finding
        self._held = ""

    def take(self, line: str, raw: bytes) -> bool:
        if line.lstrip().startswith("(is the command line too long"):
            self._finding.message += line
            return True
        if line.strip().startswith("^ near here"):
            self._finding.source = self._held or None
            self._held = ""
            return True
        if (
            not self._held
            and line
            and line[0].isalpha()
            and not line.startswith(("ninja", "HINT", "CMake", "FAILED"))
            and " failed with" not in line
        ):
            self._held = line[:200]
            return True
        return False

    def close(self) -> None:
        self._log.add(self._finding)


RULES: tuple[Rule, ...] = (
    Rule(
        "make",
        ("No rule to make target",),
        r"^g?make(?:\[\d+\])?: \*\*\* (?P<message>No rule to make target .*)$",
        "make: *** No rule to make target 'foo.c', needed by 'foo.o'.  Stop.",
    ),
    Rule(
        "make",
        ("make", "***"),
        r"^g?make(?:\[\d+\])?: \*\*\* (?P<message>.*)$",
        "make[1]: *** [Makefile:12: all] Error 2",
        rank=Rank.LAST,
    ),
)
