"""Splits the log of an emulation's job: its preparation, what the emulator says, and what the firmware says."""

import re
from typing import Final

from mcp_server.idf.qemu_job import START

MAX_LINE_BYTES = 4096
KEPT_LINES = 20

_OURS = "build-orchestrator: "
_GDB: Final = re.compile(r"gdb: target remote (127\.0\.0\.1:\d+)")
_NAME: Final = b"qemu-system-"
_SAYS: Final = re.compile(rb"qemu-system-\w+: ")
_MAY_SAY: Final = re.compile(rb"qemu-system-\w{0,20}:?\Z")
_VERSION: Final = re.compile(r"QEMU emulator version .+")
_NOTES: Final = frozenset(
    {b"Adding SPI flash device", b"Not initializing SPI Flash", b"Use -machine help to list supported machines"}
)
"""Lines without its name: the machine's own on its start, and the second one of an error."""

_ENDED: Final = "terminating on signal"  # by whoever ended the job, whose exit record says it


class EmulatorLog:
    """`feed` gives back the firmware's bytes. Both write to one stream, so a line of QEMU may break one of the UART.

    `told` are the sentences of the job's own program, `printed` other lines before the start, `said` the emulator's
    lines without its name. `spoke`: the firmware printed something. Lists hold 20 lines at most.
    """

    def __init__(self) -> None:
        self.started = False
        self.version = ""
        self.gdb: str | None = None
        self.told: list[str] = []
        self.printed: list[str] = []
        self.said: list[str] = []
        self.spoke = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Pieces of any size; what cannot be told apart yet waits for the next one."""
        data = self._rest + data
        self._rest = b""
        if not self.started:
            data = self._prepare(data)
        return self._firmware(data) if self.started else b""

    def close(self) -> bytes:
        """What waited, at the end of the log."""
        rest, self._rest = self._rest, b""
        if not self.started:
            self._look(rest)
            return b""
        return self._line(rest).removesuffix(b"\n") if rest else b""

    @property
    def complaint(self) -> str:
        """The emulator's first line that tells of an error, "" where it said of none."""
        lines = [line for line in self.said if not line.startswith(("warning:", "info:"))]
        return lines[0] if lines else ""

    def _prepare(self, data: bytes) -> bytes:
        """Read lines up to START; the bytes after it."""
        while not self.started:
            line, end, data = data.partition(b"\n")
            if not end:
                if len(line) < MAX_LINE_BYTES:
                    self._rest = line
                    return b""
                self._look(line)
                return b""
            self._look(line)
        return data

    def _look(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace").strip()
        if line.startswith(_OURS):
            sentence = line.removeprefix(_OURS)
            self.started = sentence == START
            if found := _GDB.fullmatch(sentence):
                self.gdb = found[1]
            elif not self.started:
                self.told = [*self.told, sentence][-KEPT_LINES:]
        elif _VERSION.fullmatch(line):
            self.version = line
        elif line:
            self.printed = [*self.printed, line[:500]][-KEPT_LINES:]

    def _firmware(self, data: bytes) -> bytes:
        body, end, last = data.rpartition(b"\n")
        lines = body + end
        if _NAME in lines or not self.spoke:
            lines = b"".join(map(self._line, lines.split(b"\n")[:-1]))
        return self._passed(lines) + self._passed(self._partial(last))

    def _line(self, line: bytes) -> bytes:
        """The firmware's part of a whole line: what the emulator says leaves nothing, as it broke in."""
        if not self.spoke and line.strip() in _NOTES:
            return b""
        if own := _SAYS.search(line):
            self._own(line[own.end() :])
            return self._passed(line[: own.start()])
        return self._passed(line + b"\n")

    def _partial(self, last: bytes) -> bytes:
        """Of a line without an end, what is the firmware's for sure; the rest waits."""
        own = _SAYS.search(last) or _MAY_SAY.search(last)
        if own is not None:
            cut = own.start()
        elif not self.spoke and any(note.startswith(last) for note in _NOTES):
            cut = 0
        else:
            cut = len(last) - max(n for n in range(len(_NAME) + 1) if last.endswith(_NAME[:n]))
        if len(last) - cut > MAX_LINE_BYTES:
            self._own(last[cut:])
            return last[:cut]
        self._rest = last[cut:]
        return last[:cut]

    def _own(self, raw: bytes) -> None:
        line = raw[:MAX_LINE_BYTES].decode("utf-8", "replace").removeprefix(_NAME.decode()).strip()
        if not line.startswith(_ENDED):
            self.said = [*self.said, line][:KEPT_LINES]

    def _passed(self, data: bytes) -> bytes:
        self.spoke = self.spoke or bool(data.strip(b"\r\n\0 "))
        return data
