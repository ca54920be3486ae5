"""NOR flash kept in a file: erasing makes ones, writing can only make zeros, and both are in the file at once.

What is killed in mid-write leaves what it had written, as a board does that loses its power.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from mcp_server.errors import BadInput, Conflict

SECTOR = 4096
"""Bytes; the least that can be erased."""

_CHUNK = 1 << 20  # bytes; of large areas one at a time


class FlashRange(Exception):
    """An address beyond the end of the flash."""


class NorFlash:
    """The flash of one chip. A file that is not there is made, erased; only one chip may have it open."""

    def __init__(self, path: Path, size: int) -> None:
        """BadInput: the file is longer than the flash or no file. Conflict: another chip has it open."""
        self.path, self.size = path, size
        if path.exists() and not path.is_file():
            raise BadInput("flash", f"{path} is no file")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BadInput("flash", f"{path} cannot be opened: {error.strerror}") from error
        try:
            self._claim()
        except BaseException:
            os.close(self._file)
            raise

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"{self.path} is the flash of another virtual chip that runs now") from None
        there = os.fstat(self._file).st_size
        if there > self.size:
            raise BadInput("flash", f"{self.path} has {there} bytes, the flash only {self.size}: choose a larger flash")
        if there < self.size:
            self._fill(there, self.size)

    def __enter__(self) -> "NorFlash":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._file)

    def read(self, address: int, size: int) -> bytes:
        """FlashRange where any of it lies beyond the end."""
        self._check(address, size)
        return os.pread(self._file, size, address)

    def write(self, address: int, data: bytes) -> None:
        """Clear the bits that are 0 in `data`; bits that are 0 already stay so until they are erased."""
        self._check(address, len(data))
        there = os.pread(self._file, len(data), address)
        if there.count(0xFF) != len(there):
            merged = int.from_bytes(there, "big") & int.from_bytes(data, "big")
            data = merged.to_bytes(len(data), "big")
        os.pwrite(self._file, data, address)

    def erase(self, address: int, size: int) -> None:
        """Erase every sector that the area touches."""
        self._check(address, size)
        if size:
            self._fill(address - address % SECTOR, -(-(address + size) // SECTOR) * SECTOR)

    def contents(self) -> bytes:
        """All of it."""
        return os.pread(self._file, self.size, 0)

    def _check(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self.size:
            raise FlashRange(f"{address:#x}+{size:#x} lies beyond {self.size:#x}")

    def _fill(self, start: int, end: int) -> None:
        for at in range(start, end, _CHUNK):
            os.pwrite(self._file, b"\xff" * min(_CHUNK, end - at), at)
