"""The registers that esptool reads and writes: eFuses, the flash controller, the watchdog. All others are memory."""

from collections.abc import Mapping

from mcp_server.demo.chip.models import Model

CHIP_MAGIC = 0x40001000
SPI_COMMAND_USER = 1 << 18
WATCHDOG_ON = 1 << 31
MAX_KEPT = 4096
"""Registers; what is written to more than so many is forgotten."""

READ_ID, READ_SFDP = 0x9F, 0x5A
GIGADEVICE = 0x40C8  # manufacturer C8, type 40; the third byte is the exponent of the size
SFDP_SIGNATURE = int.from_bytes(b"SFDP", "little")


class Registers:
    """Of one chip with a flash of `flash_size` bytes; `fixed` are eFuses, which stay as they are."""

    def __init__(self, model: Model, flash_size: int, fixed: Mapping[int, int], api_version: int = 3) -> None:
        self._spi, self._watchdog = model.spi, model.watchdog
        self._fixed = {CHIP_MAGIC: model.magic, **fixed}
        self._flash_id = GIGADEVICE | (flash_size.bit_length() - 1) << 16
        self._values: dict[int, int] = {}
        self.api_version = api_version

    def read(self, address: int) -> int:
        """0 where nothing was ever written."""
        return self._fixed.get(address, self._values.get(address, 0))

    def write(self, address: int, value: int, mask: int) -> bool:
        """Whether this resets the chip."""
        merged = (self.read(address) & ~mask | value & mask) & 0xFFFFFFFF
        if address == self._spi.base and merged & SPI_COMMAND_USER:
            self._ask_flash()
            merged &= ~SPI_COMMAND_USER
        if address in self._values or len(self._values) < MAX_KEPT:
            self._values[address] = merged
        return address == self._watchdog and bool(merged & WATCHDOG_ON)

    def _ask_flash(self) -> None:
        spi = self._spi
        command = self.read(spi.base + spi.usr2) & 0xFF
        address = self.read(spi.base + 0x04) >> spi.address_shift
        answer = 0
        if command == READ_ID:
            answer = self._flash_id
        elif command == READ_SFDP and address == 0:
            answer = SFDP_SIGNATURE
        self._values[spi.base + spi.data] = answer
