"""Numbers, times and foreign text as people read them; durations are `report.duration`'s."""

import re
import shlex
import shutil
import sys
from datetime import datetime
from pathlib import Path

PROGRAM = "build-orchestrator"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def typed() -> str:
    """How this program is called from here: by its path, where the shell would not find it by its name."""
    ran = sys.argv[0] if sys.argv else ""
    return shlex.quote(ran) if Path(ran).name == PROGRAM and shutil.which(PROGRAM) is None else PROGRAM


def ago(then: datetime, now: datetime) -> str:
    """`just now`, `40 s ago`, `3 min ago`, `5 h ago`, `2 d ago`; older than four weeks: the date."""
    seconds = (now - then).total_seconds()
    if seconds < 5:
        return "just now"
    for limit, size, unit in ((MINUTE, 1, "s"), (HOUR, MINUTE, "min"), (DAY, HOUR, "h"), (28 * DAY, DAY, "d")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    return f"{then.astimezone():%Y-%m-%d}"


def one_line(text: str, most: int = 400) -> str:
    """Text from outside on one line: what a terminal would obey or could not show is a replacement mark.

    A name may hold escape sequences, newlines, bytes that are no UTF-8 (lone surrogates here), or 10 kB.
    """
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(
        letter if letter.isprintable() else " " if letter in "\n\t\r" else "\N{REPLACEMENT CHARACTER}" for letter in cut
    )


_TOOL = re.compile(r"\bbuild_(list|get|log|cancel|retry|wait|stats)\b(?:\(([^()]*)\))?|\b(hosts)\((\"[^()\"]*\")\)")
_COMMANDS = {
    "list": "builds",
    "get": "status",
    "log": "logs",
    "cancel": "cancel",
    "retry": "retry",
    "wait": "status",
    "stats": "stats",
}
_BARE = {
    "idf_build": "run",
    "pipeline_run": "run",
    "qemu_run": "qemu",
    "idf_flash": "flash",
    "serial_monitor": "monitor",
}
_DETAIL = re.compile(r",\s*detail=\"\w+\"")  # a part of the whole, which `status` has as JSON
_NAMED = re.compile(r"\b(\w+)=")


def in_commands(sentence: str) -> str:
    """A text with the tools it names, such as `build_log(42, "build", tail=9)`, as commands of this program."""

    def command(found: re.Match[str]) -> str:
        if found[3]:
            return f"{typed()} hosts {shlex.quote(found[4].strip(chr(34)))}"
        name = _COMMANDS[found[1]]
        asked, whole = _DETAIL.subn("", found[2] or "")
        given = _NAMED.sub(r"--\1 ", asked.replace('"', "").replace(",", " ")).split()
        given += ["--json"] if whole else []
        return " ".join([typed(), name, *given, *(["--watch"] if found[1] == "wait" else [])])

    return _TOOL.sub(command, sentence)


def refusal_in_commands(sentence: str) -> str:
    """The same for a refusal, which also names tools without arguments; a report may hold such a name as a title."""
    return re.sub(rf"\b({'|'.join(_BARE)})\b", lambda found: f"{typed()} {_BARE[found[1]]}", in_commands(sentence))
