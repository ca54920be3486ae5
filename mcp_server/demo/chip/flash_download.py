"""One image on its way into the flash: blocks in order, deflated or not, erased as ROM and stub do it."""

import zlib

from mcp_server.demo.chip.flash import SECTOR, FlashRange, NorFlash

MAX_INFLATED = 1 << 24
"""Bytes that one block may inflate to; the largest flash."""


class BadStream(Exception):
    """What came is no deflate stream, more than was announced, or out of order."""


class Download:
    """Where the next block goes. `written` counts bytes that are in the flash."""

    def __init__(self, flash: NorFlash, offset: int, size: int, *, at_once: bool, deflated: bool) -> None:
        """`size` bytes from `offset` will be erased: all of them now (a ROM), or as the data comes (the stub).

        FlashRange where they lie beyond the end; nothing is erased then.
        """
        if offset + size > flash.size:
            raise FlashRange(f"{offset:#x}+{size:#x}")
        self._flash, self._at, self._end = flash, offset, offset + size
        self._erased = offset - offset % SECTOR
        self._inflate = zlib.decompressobj() if deflated else None
        self._next: int = 0
        self.written = 0
        if at_once:
            self._erase_to(self._end)

    def block(self, sequence: int, payload: bytes) -> None:
        """Write one block. The same again, as after an answer that was lost, is passed over. BadStream, FlashRange."""
        if sequence == self._next - 1:
            return
        if sequence != self._next:
            raise BadStream(f"block {sequence} came instead of {self._next}")
        data = self._inflated(payload) if self._inflate else payload
        self._next += 1
        if not self._inflate:
            # The last block is filled up with ones to a whole one, which may reach beyond the flash.
            data = data[: max(0, self._flash.size - self._at)]
        self._erase_to(self._at + len(data))
        self._flash.write(self._at, data)
        self._at += len(data)
        self.written += len(data)

    def _inflated(self, payload: bytes) -> bytes:
        assert self._inflate is not None
        try:
            data = self._inflate.decompress(payload, min(MAX_INFLATED, self._end - self._at + SECTOR))
        except zlib.error as error:
            raise BadStream(str(error)) from None
        if self._at + len(data) > -(-self._end // SECTOR) * SECTOR or self._inflate.unconsumed_tail:
            raise BadStream("more data than announced")
        return data

    def _erase_to(self, end: int) -> None:
        end = min(end, -(-self._end // SECTOR) * SECTOR)
        if end > self._erased:
            self._flash.erase(self._erased, end - self._erased)
            self._erased = -(-end // SECTOR) * SECTOR
