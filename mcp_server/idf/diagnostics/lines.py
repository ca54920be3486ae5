"""Cuts a byte stream into lines with bounded memory, the same lines however the stream is chunked."""

HEAD_BYTES = 49_152  # of a longer line the first 48 kB …
TAIL_BYTES = (
    4_096  # … and the last 4 kB are kept: gcc's JSON has its first error at the start, ld its symbol at the end
)
MAX_BYTES = HEAD_BYTES + TAIL_BYTES


class Lines:
    """Bytes in, whole lines out, without their ends. \\r ends a line too (progress bars); NULs are dropped (UTF-16)."""

    def __init__(self) -> None:
        self._rest = b""
        self._tail = b""
        self._long = False
        self._cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        if b"\0" in chunk:
            chunk = chunk.replace(b"\0", b"")
        if self._cr:
            chunk = b"\r" + chunk
        self._cr = chunk.endswith(b"\r")
        if self._cr:
            chunk = chunk[:-1]  # \r\n may be cut in two
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        pieces = chunk.split(b"\n")
        last = pieces.pop()
        if pieces:
            self._grow(pieces[0])
            pieces[0] = self._take()
            for i in range(1, len(pieces)):
                if len(pieces[i]) > MAX_BYTES:
                    pieces[i] = pieces[i][:HEAD_BYTES] + pieces[i][-TAIL_BYTES:]
        self._grow(last)
        return pieces

    def end(self) -> list[bytes]:
        """The last line, if it had no end."""
        self._cr = False
        rest = self._take()
        return [rest] if rest else []

    def _grow(self, piece: bytes) -> None:
        if self._long:
            self._tail = (self._tail + piece)[-TAIL_BYTES:]
            return
        self._rest += piece
        if len(self._rest) > MAX_BYTES:
            self._long = True
            self._tail = self._rest[-TAIL_BYTES:]
            self._rest = self._rest[:HEAD_BYTES]

    def _take(self) -> bytes:
        line = self._rest + self._tail
        self._rest, self._tail, self._long = b"", b"", False
        return line
