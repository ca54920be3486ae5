"""SLIP, the framing of the serial loader: a frame lies between two C0; C0 and DB in it are written DB DC and DB DD."""

END, ESCAPE = 0xC0, 0xDB
_END, _ESCAPE = bytes([END]), bytes([ESCAPE])
_ESCAPED = {0xDC: END, 0xDD: ESCAPE}

MAX_FRAME = 1 << 17
"""Bytes; esptool's longest frame carries 16 KiB. What is longer is noise and is forgotten."""


def encode(frame: bytes) -> bytes:
    """The frame as it goes over the line."""
    return _END + frame.replace(_ESCAPE, b"\xdb\xdd").replace(_END, b"\xdb\xdc") + _END


class Decoder:
    """Frames out of a stream that comes in pieces of any size; bytes outside frames are dropped."""

    def __init__(self) -> None:
        self._piece = bytearray()
        self._inside = False

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now. Empty frames and those with a wrong escape are left out."""
        frames: list[bytes] = []
        *ended, rest = data.split(_END)
        for part in ended:
            if self._inside:
                self._piece += part
                if frame := self._taken():
                    frames.append(frame)
                # The same C0 may end this frame and begin the next: an empty one is no frame.
            self._inside = True
            self._piece.clear()
        if self._inside:
            self._piece += rest
            if len(self._piece) > MAX_FRAME:
                self.clear()
        return frames

    def clear(self) -> None:
        """Forget a frame that has begun."""
        self._piece.clear()
        self._inside = False

    def _taken(self) -> bytes:
        """The piece without its escapes; b"" where it is empty, too long or wrongly escaped."""
        piece = bytes(self._piece)
        if _ESCAPE not in piece:
            return piece if len(piece) <= MAX_FRAME else b""
        first, *others = piece.split(_ESCAPE)
        frame = bytearray(first)
        for part in others:
            if not part or part[0] not in _ESCAPED:
                return b""
            frame.append(_ESCAPED[part[0]])
            frame += part[1:]
        return bytes(frame)
