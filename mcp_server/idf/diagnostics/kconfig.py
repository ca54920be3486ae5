"""Kconfig files, sdkconfig and sdkconfig.defaults, as kconfgen and menuconfig read them."""

import re

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Rank, Rule

_REMARK = re.compile(r"^(?P<level>NOTE|WARNING|INFO|warning): (?P<text>.*)$")
_TELLING = (
    "has a non-",
    "is invalid for",
    "unknown kconfig symbol",
    "unknown symbol",
    "malformed line",
    "assignment ignored",
    "undefined symbol",
    "unsatisfied",
    "unmet direct",
    "is not a valid",
    "has no effect",
    "set more than once",
    "is not defined",
)
_DEFINED = re.compile(
    r"(?P<verb>\.\.\.(?:depends (?:on|again on)|select\w*"
    r"|\w[\w ]{0,40}?) )?(?P<name>\w{1,100}) \(defined at (?P<place>[^)]{1,300}:\d{1,6})\)"
)


def read(line: str, log: Log) -> Block | bool:
    """What kconfgen remarks on Kconfig and sdkconfig without failing, and its report of a dependency loop."""
    if line == "Dependency loop":
        return LoopBlock(log)
    found = _REMARK.match(line) if line.startswith(("NOTE: ", "WARNING: ", "INFO: ", "warning: ")) else None
    if found is None or not any(word in line for word in _TELLING):
        return False
    if found["level"] in ("WARNING", "warning"):
        log.warn()
    log.remark(found["text"])
    return True


class LoopBlock:
    """`A (defined at F:1), with definition...`, the definitions, `...depends again on A (defined at F:1)`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._parts: list[str] = []
        self._first: tuple[str, int] | None = None
        self._lines = 0

    def take(self, line: str, raw: bytes) -> bool:
        self._lines += 1
        if found := _DEFINED.search(line):
            file, _, number = found["place"].rpartition(":")
            self._first = self._first or (file, int(number))
            if len(self._parts) < 6:
                self._parts.append(f"{(found['verb'] or '').removeprefix('...')}{found['name']} ({found['place']})")
            return True
        return self._lines < 200 and (
            not line or line.startswith((" ", "config ", "choice", "menuconfig ", "====", "..."))
        )

    def close(self) -> None:
        finding = Finding("kconfig", "dependency loop: " + " ".join(self._parts), raw="Dependency loop")
        if self._first:
            finding.file, finding.line = self._first
        self._log.add(finding)


RULES: tuple[Rule, ...] = (
    Rule(
        "kconfig",
        ("Kconfig",),
        r"^(?:(?:ERROR|Error|error|FATAL|kconfiglib\S*|esp_kconfiglib\S*|[\w.]*KconfigError"
        r"|[\w.]*KconfigParseError): )*"
        r"(?P<file>[^\s:][^:]{0,300}Kconfig[^:\s]{0,60}):(?P<line>\d{1,6})(?::(?P<column>\d{1,4}))?: (?:error: "
        r")?(?P<message>(?!warning|note|info|Deprecation).*)$",
        "ERROR: /p/main/Kconfig.projbuild:10: error: couldn't parse 'depnds on A > 0': syntax error",
    ),
    Rule(
        "kconfig",
        ("sdkconfig",),
        r"^(?:(?:ERROR|Error|error|RuntimeError"
        r"|kconfgen)[:,] )*(?P<file>\S{0,300}sdkconfig[^:\s]{0,60}):(?P<line>\d{1,6}): (?P<message>(?!warning).*)$",
        "sdkconfig.defaults:3: error: ignoring malformed line 'CONFIG_FOO y'",
    ),
    Rule(
        "kconfig",
        ("expected ",),
        r"^(?:(?:ERROR|error): )+(?P<message>expected \w+ at end of (?P<file>.*Kconfig\S*))$",
        "ERROR: error: expected endmenu at end of /p/main/Kconfig.projbuild",
    ),
    Rule(
        "kconfig",
        ("ecursive",),
        r"^(?:ERROR: )?(?:[\w.]*KconfigError: )?(?P<message>.*[Rr]ecursive '?source.*)$",
        "ERROR: recursive source of 'Kconfig' detected",
    ),
    Rule(
        "kconfig",
        ("Defaults file not found", "Syntax error in"),
        r"(?P<message>Defaults file not found: .*|Syntax error in \S*rename\S* \(line \d+\))$",
        "RuntimeError: Defaults file not found: /p/sdkconfig.defaults",
    ),
    Rule(
        "kconfig",
        ("curses", "terminal"),
        r"^(?P<message>.*(?:_curses\.error: .*|menuconfig failed to import the standard Python 'curses'"
        r"|setupterm: could not find terminal|"
        r"Error opening terminal: .*|could not find terminal).*)$",
        "_curses.error: setupterm: could not find terminal",
        hint="menuconfig needs a terminal; set values in sdkconfig.defaults instead",
    ),
    Rule(
        "kconfig",
        ("kconfgen",),
        r"^(?P<message>.*kconfgen.*(?:not found|failed|returned).*)$",
        "kconfgen failed",
        rank=Rank.STATED,
    ),
)
