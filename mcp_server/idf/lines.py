"""Bytes of a console, cut into clean lines: any line end, no colours, no control characters, bounded."""

import re

LINE_BYTES = 4096  # a longer line is looked at in parts of so many bytes
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\^_])")
_PLAIN = bytes(range(32, 127)) + b"\t\n\r\x1b"  # of what a healthy console of ASCII prints
_CONTROLS = bytes(code for code in (*range(32), 127) if code not in (9, 27))
_ENDS = re.compile(rb"\r+")


class LineCutter:
    """Cuts what comes in pieces: the lines are the same however it was split.

    A line ends with LF, CR LF or CR alone; NULs and other control characters are left out, and what is no UTF-8 becomes
    U+FFFD. `total_bytes` counts all, `garbage_bytes` those that no text has: together they show a wrong baud rate.
    """

    def __init__(self) -> None:
        self.total_bytes = 0
        self.garbage_bytes = 0
        self._rest = b""
        self._return = False  # a CR came last: whether a LF follows is not known yet

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        self.total_bytes += len(data)
        data = b"\r" + data if self._return else data
        if b"\r" in data:
            data = _ENDS.sub(b"\r", data)
            self._return = data.endswith(b"\r")
            data = data[:-1] if self._return else data
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        ended, end, rest = (self._rest + data).rpartition(b"\n")
        whole = self._whole(ended) if end else []
        while len(rest) > LINE_BYTES:
            whole.append(self._text(rest[:LINE_BYTES]))
            rest = rest[LINE_BYTES:]
        self._rest = rest
        return whole

    def close(self) -> list[str]:
        """The last line, which has no end; none where nothing is left."""
        rest, self._rest, self._return = self._rest, b"", False
        return self._texts(rest) if rest else []

    def _whole(self, data: bytes) -> list[str]:
        """Whole lines, without the last one's end."""
        lines = data.split(b"\n")
        if len(max(lines, key=len)) <= LINE_BYTES and b"\x1b" not in data and not data.translate(None, _PLAIN):
            return data.decode("ascii").split("\n")  # most of what is ever printed, in one go
        return [text for line in lines for text in self._texts(line)]

    def _texts(self, line: bytes) -> list[str]:
        if len(line) <= LINE_BYTES:
            return [self._text(line)]
        return [self._text(line[at : at + LINE_BYTES]) for at in range(0, len(line), LINE_BYTES)]

    def _text(self, line: bytes) -> str:
        if not line.translate(None, _PLAIN) and b"\x1b" not in line:
            return line.decode("ascii")
        if b"\x1b" in line:
            line = _ESCAPE.sub(b"", line)
        clean = line.translate(None, _CONTROLS + b"\x1b")
        text = clean.decode("utf-8", "replace")
        self.garbage_bytes += len(line) - len(clean) + text.count("\ufffd")
        return text
