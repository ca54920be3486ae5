"""The chips that are simulated, and in what they differ for a loader: identity, registers, eFuses, banner."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mcp_server.errors import BadInput

MIB = 1 << 20
FLASH_SIZES = {f"{size}MB": size * MIB for size in (1, 2, 4, 8, 16)}
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


@dataclass(frozen=True)
class SpiRegisters:
    """Where the flash controller's registers lie, relative to `base`."""

    base: int
    usr2: int = 0x20  # its low byte is the command sent to the flash
    data: int = 0x58  # W0, what the flash answered
    address_shift: int = 0  # the ESP32 keeps the 24 bits of an address in the upper ones


@dataclass(frozen=True)
class Model:
    """One kind of chip. `magic` is what older loaders tell chips apart by; newer ones ask for `chip_id`."""

    name: str
    title: str
    chip_id: int
    magic: int
    efuse: int
    spi: SpiRegisters
    banner: tuple[str, ...]
    revision: tuple[int, int]
    bootloader_offset: int = 0
    tells_security: bool = True
    strap_run: int = 0x8
    """What the ROM prints as boot mode when the strap says "run"."""
    strap_load: int = 0x0
    watchdog: int | None = None
    """Register whose bit 31 starts the watchdog that resets the chip; None: esptool does not use it on this one."""

    def efuses(self, mac: str, revision: tuple[int, int], security: "Security") -> dict[int, int]:
        """Register address → value, as far as esptool reads them."""
        number = int(mac.replace(":", ""), 16)
        if self.name == "esp32":
            return self._efuses_of_esp32(number, revision, security)
        major, minor = revision
        words = [number & 0xFFFFFFFF, number >> 32, 0, 0, 0, 0]
        if self.name in ("esp32c6", "esp32h2"):
            words[1] |= 0xFFFE << 16  # the two bytes that make an EUI-64 of the MAC
            words[3] = minor << 18 | major << (22 if self.name == "esp32c6" else 21)
        else:
            words[3] = (minor & 7) << 18
            words[5] = major << 24 | (minor >> 3) << 23
        values = {self.efuse + 0x44 + 4 * index: word for index, word in enumerate(words)}
        values[self.efuse + 0x30] = int(security.release) << 20
        values[self.efuse + 0x34] = security.crypt_count << 18
        values[self.efuse + 0x38] = int(security.boot) << 20
        return values

    def _efuses_of_esp32(self, mac: int, revision: tuple[int, int], security: "Security") -> dict[int, int]:
        major, minor = revision
        bits = {0: 0, 1: 1, 2: 3, 3: 7}[major]  # the major revision is spread over three registers
        return {
            self.efuse: security.crypt_count << 20,
            self.efuse + 0x04: mac & 0xFFFFFFFF,
            self.efuse + 0x08: mac >> 32,
            self.efuse + 0x0C: (bits & 1) << 15 | 1 << 9,  # package ESP32-D0WD
            self.efuse + 0x10: 128,  # with the next but one: a crystal of 40 MHz, measured by the ROM
            self.efuse + 0x14: (bits >> 1 & 1) << 20 | minor << 24,
            self.efuse + 0x18: int(security.boot) << 5 | int(security.release) << 7,
            0x3FF5F06C: 800 << 7,
            0x3FF6607C: (bits >> 2 & 1) << 31,
            0x3FF40014: 347,  # UART clock divider: 40 MHz / 115200
        }


@dataclass(frozen=True)
class Security:
    """What the chip reports of itself. `crypt_count`: odd number of bits set means flash encryption is on."""

    boot: bool = False
    download: bool = False
    crypt_count: int = 0
    release: bool = False
    """Flash encryption in release mode: the loader no longer encrypts what it writes."""


_ESP32 = Model(
    name="esp32",
    title="ESP32",
    chip_id=0,
    magic=0x00F01D83,
    efuse=0x3FF5A000,
    spi=SpiRegisters(0x3FF42000, usr2=0x24, data=0x80, address_shift=8),
    banner=("ets Jul 29 2019 12:21:46", ""),
    revision=(3, 1),
    bootloader_offset=0x1000,
    tells_security=False,
    strap_run=0x13,
    strap_load=0x3,
)
_ESP32C3 = Model(
    name="esp32c3",
    title="ESP32-C3",
    chip_id=5,
    magic=0x1B31506F,
    efuse=0x60008800,
    spi=SpiRegisters(0x60002000),
    banner=("ESP-ROM:esp32c3-api1-20210207", "Build:Feb  7 2021"),
    revision=(0, 4),
    strap_run=0xC,
    strap_load=0x4,
    watchdog=0x60008090,
)
_ESP32S3 = Model(
    name="esp32s3",
    title="ESP32-S3",
    chip_id=9,
    magic=0x00000009,
    efuse=0x60007000,
    spi=SpiRegisters(0x60002000),
    banner=("ESP-ROM:esp32s3-20210327", "Build:Mar 27 2021"),
    revision=(0, 2),
    watchdog=0x60008098,
)
_ESP32C6 = Model(
    name="esp32c6",
    title="ESP32-C6",
    chip_id=13,
    magic=0x2CE0806F,
    efuse=0x600B0800,
    spi=SpiRegisters(0x60003000),
    banner=("ESP-ROM:esp32c6-20220919", "Build:Sep 19 2022"),
    revision=(0, 1),
    strap_run=0xC,
    strap_load=0x4,
)
_ESP32H2 = Model(
    name="esp32h2",
    title="ESP32-H2",
    chip_id=16,
    magic=0xD7B73E80,
    efuse=0x600B0800,
    spi=SpiRegisters(0x60003000),
    banner=("ESP-ROM:esp32h2-20221101", "Build:Nov  1 2022"),
    revision=(0, 1),
    strap_run=0xC,
    strap_load=0x4,
)
MODELS: Mapping[str, Model] = {model.name: model for model in (_ESP32C3, _ESP32, _ESP32S3, _ESP32C6, _ESP32H2)}


def find_model(name: str) -> Model:
    """BadInput for a chip that is not simulated. "ESP32-C3" and "esp32c3" are the same."""
    model = MODELS.get(name.lower().replace("-", ""))
    if model is None:
        raise BadInput("chip", f"{name} is not simulated; these are: {', '.join(MODELS)}")
    return model


def flash_bytes(size: str) -> int:
    """Bytes of "4MB". BadInput for any other size than the known ones."""
    if size not in FLASH_SIZES:
        raise BadInput("flash-size", f"{size} is no flash size; these are: {', '.join(FLASH_SIZES)}")
    return FLASH_SIZES[size]


def check_mac(mac: str) -> str:
    """The MAC in small letters; BadInput where it is none."""
    if not MAC_PATTERN.fullmatch(mac):
        raise BadInput("mac", f"{mac} is no MAC address; one looks like 7c:df:a1:00:00:01")
    return mac.lower()


def parse_revision(text: str, model: Model) -> tuple[int, int]:
    """(0, 4) of "v0.4" or "0.4". BadInput where it is none that the chip's eFuses can hold."""
    found = re.fullmatch(r"v?([0-3])\.(\d{1,2})", text)
    most = 3 if model.name == "esp32" else 7 if model.name == "esp32h2" else 15
    if not found or int(found[2]) > most:
        raise BadInput("revision", f"{text} is no revision of {model.title}; one looks like 0.4, at most 3.{most}")
    return int(found[1]), int(found[2])
