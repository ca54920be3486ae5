"""The hole of a capped log, as its readers see it: NULs that no link has carried."""

from collections.abc import Iterator

PIECE = bytes(1 << 18)


def is_hole(piece: bytes) -> bool:
    """Whether a followed log's piece stands for its hole: such pieces hold nothing else."""
    return piece.startswith(b"\0") and not piece.strip(b"\0")


def nuls(offset: int, hole: tuple[int, int] | None) -> Iterator[bytes]:
    """What stands for the rest of a hole that `offset` lies in."""
    first, last = hole or (0, 0)
    left = last - offset if first <= offset < last else 0
    while left > 0:
        yield PIECE[:left]
        left -= len(PIECE)


class Stream:
    """A followed log as it comes: begun before `offset` where it was shorter then, and without its hole."""

    def __init__(self, offset: int, begun: bytes) -> None:
        words = begun.split() if begun.endswith(b"\n") else [b"%d" % offset, b"0", b"0"]
        self._offset = offset
        self._at, *hole = map(int, words)
        self._hole = hole[0], hole[1]

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """`chunk` cut at the hole, which becomes NULs; nothing before the offset that was asked for."""
        first, last = self._hole
        while chunk:
            if first <= self._at < last:
                yield from nuls(max(self._at, self._offset), self._hole)
                self._at = last
            room = first - self._at if self._at < first < last else len(chunk)
            part, chunk = chunk[:room], chunk[room:]
            if piece := part[max(0, self._offset - self._at) :]:
                yield piece
            self._at += len(part)
