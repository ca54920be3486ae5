"""Python: tracebacks (plain and boxed by rich), SyntaxErrors without one, usage errors of command-line tools."""

import re

from mcp_server.idf.diagnostics.finding import Block, Finding, Log, Place, Rank, Rule

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]{1,400})", line (?P<line>\d{1,7})(?:, in (?P<what>.{1,200}))?')
_ERROR = re.compile(r"^(?P<module>(?:[A-Za-z_]\w{0,80}\.){0,8})(?P<name>[A-Za-z_]\w{0,80})(?:: (?P<text>.*))?$")
_BOX_FRAME = re.compile(r"^[│|] (?P<file>(?:[A-Za-z]:)?[/\\]\S{1,400}?):(?P<line>\d{1,7}) in (?P<what>\S{1,200})")
_BOX_TOP = re.compile(r"^╭─* ?(?P<title>.*?) ?─*╮$")
_WRAPPED = re.compile(r"CalledProcessError|returned non-zero exit status|SystemExit|CommandFailed|SubprocessError")
_KCONFIG_AT = re.compile(r"^(?:KconfigE\w+: )?(?P<file>.{1,300}?):(?P<line>\d{1,7}): (?:error: )?(?P<message>.*)$")
_PARTITION_TOOLS = ("gen_esp32part.", "parttool.")
WORDS = ("Traceback (most recent", 'File "', "╭─")


def read(line: str, log: Log) -> Block | bool:
    if line.endswith("Traceback (most recent call last):"):
        return TracebackBlock(log)
    if line.startswith("╭─"):
        return BoxBlock(log, line)
    if 'File "' in line and _FRAME.match(line):
        block = TracebackBlock(log)
        block.take(line, b"")
        return block
    return line.startswith(("During handling of the above exception", "The above exception was the direct"))


def exception(log: Log, line: str, frames: list[Place], source: str | None) -> None:
    """Report the last line of a traceback. An error raised on purpose by ESP-IDF's own tools needs no class name."""
    found = _ERROR.match(line)
    name = found["name"] if found else ""
    text = (found["text"] if found else line) or name
    if name in ("KeyboardInterrupt", "Abort"):
        log.add(Finding("interrupted", f"interrupted ({name})", raw=line))
        return
    kind = "python"
    if found and found["module"].startswith(_PARTITION_TOOLS):
        kind = "partition"
    elif found and found["text"]:
        text = f"{name}: {text}"
    if name.startswith("Kconfig") and (at := _KCONFIG_AT.match(text)):
        log.add(Finding("kconfig", at["message"], file=at["file"], line=int(at["line"]), raw=line))
        return
    finding = Finding(kind, text, raw=line, source=source)
    if _WRAPPED.search(line):
        finding.rank = Rank.WRAPPER
    if frames and kind == "python":
        finding.via = list(reversed(frames))
        finding.file, finding.line = frames[-1].file, frames[-1].line
    log.add(finding)


class TracebackBlock:
    """Everything indented after `Traceback`, and the line that names the exception."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._frames: list[Place] = []
        self._source: str | None = None
        self._error = ""
        self._lines = 0

    def take(self, line: str, raw: bytes) -> bool:
        self._lines += 1
        if self._error or self._lines > 2000:
            return False
        if found := _FRAME.match(line):
            if found["file"].startswith("<frozen"):
                pass  # Python's own, e.g. <frozen os>
            elif len(self._frames) < 60:
                self._frames.append(Place(found["file"], int(found["line"]), None, found["what"] or ""))
            else:
                self._frames[-1] = Place(found["file"], int(found["line"]), None, found["what"] or "")
            self._source = None
            return True
        if line.startswith(" ") or not line:
            stripped = line.strip()
            if self._source is None and stripped.strip("^~ "):
                self._source = stripped[:300]
            return True
        if not _ERROR.match(line):
            return False
        self._error = line
        return True

    def close(self) -> None:
        if self._error:
            exception(self._log, self._error, self._frames, self._source)


class BoxBlock:
    """A box drawn by rich: a usage error, or a traceback whose exception stands below it."""

    def __init__(self, log: Log, line: str) -> None:
        self._log = log
        top = _BOX_TOP.match(line)
        self._title = top["title"] if top else ""
        self._text: list[str] = []
        self._frames: list[Place] = []
        self._closed = False
        self._error = ""

    def take(self, line: str, raw: bytes) -> bool:
        if line.startswith(("│", "|")):
            if found := _BOX_FRAME.match(line):
                self._frames = [*self._frames[-40:], Place(found["file"], int(found["line"]), None, found["what"])]
            elif len(self._text) < 20:
                self._text.append(line.strip("│| "))
            return True
        if line.startswith("╰"):
            self._closed = True
            return True
        if self._closed and "Traceback" in self._title and not self._error and _ERROR.match(line):
            self._error = line
            return True
        return False

    def close(self) -> None:
        if self._error:
            exception(self._log, self._error, self._frames, None)
        elif "Error" in self._title and self._text:
            text = " ".join(part for part in self._text if part)
            self._log.add(Finding("usage", text, raw=text))


RULES: tuple[Rule, ...] = (
    Rule(
        "python",
        ("No module named",),
        r"(?P<message>(?:\S*python\S*: )?No module named \S+)",
        "/home/dev/.espressif/python_env/idf6.0_py3.11_env/bin/python: No module named esptool",
        hint="run the install script of ESP-IDF again, then export.sh",
    ),
)
