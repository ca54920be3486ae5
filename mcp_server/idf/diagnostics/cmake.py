"""CMake: `CMake Error at file:line (function):`, its indented message and its call stack."""

import re

from mcp_server.idf.diagnostics import dependency
from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Place, Rank, Rule
from mcp_server.idf.diagnostics.text import squeeze

_HEAD = re.compile(
    r"^(?P<indent> *)CMake (?P<severity>Error|Warning|Deprecation Warning|Deprecation Error"
    r"|Internal Error)(?: \((?:dev|deprecated)\))?"
    r"(?: at (?P<file>.{1,400}?):(?P<line>\d{1,7})(?: \((?P<function>[^)]{0,100})\))?"
    r"| in (?P<in>[^:]{1,400}))?: ?(?P<text>.*)$"
)
_CALLER = re.compile(r"^\s+(?P<file>\S.{0,400}?):(?P<line>\d{1,7}) \((?P<function>[^)]{0,100})\)$")
_WRAPPERS = (
    "Failed to run kconfgen",
    "execute_process failed command indexes",
    "Manifest is not valid",
    "Build step for",
    "Configuration step for",
    "Command failed",
    "Some Python dependencies must be installed",
    "try_compile",
)
_SERIAL_TOOL = re.compile(r"(?:^|/)python\S*;.{0,200} failed|^(?:\S+/)?(?:esptool|nvs_partition_gen)\S* failed")
_RESULTS = (
    "No SOURCES given to target",
    "Cannot determine link language",
    "Generator expression",
    "CMAKE_CXX_COMPILER not set",
    "CMAKE_ASM_COMPILER not set",
)
_SECOND_COMPILER = re.compile(r"The CMAKE_(?:CXX|ASM)_COMPILER:")
_DROP = re.compile(
    r"\s*(?:Tell CMake where to find the compiler.*|Tried extensions .*|Check Getting Started documentation.*"
    r"|This warning is for project developers.*"
    r"|Add the installation prefix of.*)$"
)
_CUT_KCONFGEN = re.compile(r" \(\S+;-m;kconfgen;.*?\)\.? Error")
_ERROR_WORD = re.compile(r"^(?:ERROR|Error|FATAL ERROR): ?")
_END = re.compile(r"^(?:CMake Generate step failed|-- Configuring incomplete|CMake Configure step failed)")
WORDS = ("CMake ", "-- Configuring incomplete", "cmake: ")


def read(line: str, log: Log) -> Block | bool:
    """A line of CMake's own, if it is one."""
    if "CMake " not in line and not line.startswith("--"):
        return False
    if _END.match(line):
        log.failed()
        return True
    found = _HEAD.match(line)
    if found is None or found["indent"]:
        return False
    return CMakeBlock(log, found)


class CMakeBlock:
    """One CMake message up to the first line that is neither indented, nor empty, nor `Call Stack`."""

    def __init__(self, log: Log, head: re.Match[str]) -> None:
        self._log, self._head = log, head
        self._body: list[str] = [head["text"]] if head["text"] else []
        self._stack: list[Place] = []
        self._in_stack = False
        self._inner: list[str] | None = None

    def take(self, line: str, raw: bytes) -> bool:
        if not line:
            return True
        if line.startswith("Call Stack (most recent call first)"):
            self._in_stack = True
            return True
        if line.startswith(("See also ", "This warning is for project developers")):
            return True
        if not line.startswith(" "):
            return False
        if self._in_stack:
            if (found := _CALLER.match(line)) and len(self._stack) < 40:
                self._stack.append(Place(found["file"], int(found["line"]), None, found["function"]))
            return True
        if "CMake Error" in line and _HEAD.match(line):
            self._inner = []  # CMake ran CMake: the inner message is the cause, and the last one of them
        if self._inner is not None and len(self._inner) < 80:
            self._inner.append(line)
        elif len(self._body) < 80:
            self._body.append(line.strip()[:600])
        return True

    def close(self) -> None:
        if self._inner and self._head["severity"].endswith("Error"):
            self._close_inner(self._inner)
        elif self._head["severity"].endswith("Error"):
            self._log.add(self._finding())
        else:
            line = int(self._head["line"]) if self._head["line"] else None
            text = squeeze(" ".join(self._body))[:600]
            self._log.warn(1, Finding("cmake", text, file=self._head["file"], line=line))
            if self._body and self._body[0].startswith("Git submodule"):
                self._log.remark(squeeze(" ".join(self._body)))

    def _close_inner(self, lines: list[str]) -> None:
        indent = len(lines[0]) - len(lines[0].lstrip())
        head = _HEAD.match(lines[0][indent:])
        if head is None:
            return
        inner = CMakeBlock(self._log, head)
        for line in lines[1:]:
            if not inner.take(line[indent:], b""):
                break
        inner.close()

    def _finding(self) -> Finding:
        text = squeeze(" ".join(self._body))
        function = self._head["function"] or ""
        finding = Finding("cmake", text, raw=f"CMake Error at {self._head['file']} ({function}): {text}")
        if any(word in text for word in _WRAPPERS):
            finding.rank = Rank.WRAPPER
        elif _SERIAL_TOOL.search(text):
            finding.rank = Rank.LAST
        elif any(word in text for word in _RESULTS) or _SECOND_COMPILER.search(text):
            finding.rank = Rank.RESULT
        text = _CUT_KCONFGEN.sub(": error", text)
        text = _ERROR_WORD.sub("", _DROP.sub("", text))
        finding.message = text or function or "CMake error"
        finding.file = self._head["file"] or self._head["in"]
        finding.line = int(self._head["line"]) if self._head["line"] else None
        if finding.file and finding.file.endswith("/git-data/grabRef.cmake"):
            finding.file = finding.line = None  # CMake's own copy of a script: nobody can mend anything there
        if dependency.read(finding, finding.message):
            return finding
        if finding.file:
            finding.via = [Place(finding.file, finding.line, None, function), *self._stack]
        return finding


RULES: tuple[Rule, ...] = (
    Rule(
        "cmake",
        ("is required",),
        r"^(?P<message>.*CMake \S+ or higher is required.*)$",
        "CMake 3.99 or higher is required.  You are running version 3.25.1",
    ),
)
