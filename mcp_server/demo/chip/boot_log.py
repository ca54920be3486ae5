"""What a chip prints between a reset and its app: the ROM's lines and those of the second stage bootloader."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcp_server.demo.chip.image import EspImage, Partition, bootloader_description, usage
from mcp_server.demo.chip.models import Model

MODES = {0: "QIO", 1: "QOUT", 2: "DIO", 3: "DOUT"}
SPEEDS = {0xF: "80MHz", 0x0: "40MHz", 0x1: "26MHz", 0x2: "20MHz"}


@dataclass(frozen=True)
class Cause:
    """Of a reset, as a ROM prints it; ESP32's names are longer."""

    code: int
    name: str
    old_name: str


POWER_ON = Cause(0x1, "POWERON", "POWERON_RESET")
SOFTWARE = Cause(0xC, "RTC_SW_CPU_RST", "SW_CPU_RESET")
WATCHDOG = Cause(0x7, "TG0WDT_SYS_RST", "TG0WDT_SYS_RESET")
RTC_WATCHDOG = Cause(0x10, "RTCWDT_RTC_RST", "RTCWDT_RTC_RESET")


def rom_banner(model: Model, cause: Cause, *, download: bool) -> list[str]:
    """The ROM's first lines."""
    old = model.name == "esp32"
    strap = model.strap_load if download else model.strap_run
    if not download:
        mode = "SPI_FAST_FLASH_BOOT"
    else:
        mode = "DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2)" if old else "DOWNLOAD(USB/UART0/1)"
    lines = [*model.banner, f"rst:{cause.code:#x} ({cause.old_name if old else cause.name}),boot:{strap:#x} ({mode})"]
    return [*lines, "waiting for download"] if download else lines


def rom_load(image: EspImage) -> list[str]:
    """The ROM on the bootloader that it loads."""
    return [
        "SPIWP:0xee",
        f"mode:{MODES.get(image.mode, '?')}, clock div:1",
        *(f"load:{part.vaddr:#010x},len:{part.size:#x}" for part in image.segments),
        f"entry {image.entry:#010x}",
    ]


def second_stage(model: Model, image: EspImage, data: bytes, revision: tuple[int, int]) -> Iterator[str]:
    """The bootloader's lines up to the partition table, without their time; `data` is its image."""
    described = bootloader_description(data)
    if described:
        yield f"boot: ESP-IDF {described[0]} 2nd stage bootloader"
        yield f"boot: compile time {described[1]}"
    else:
        yield "boot: 2nd stage bootloader (simulated)"
    yield f"boot: chip revision: v{revision[0]}.{revision[1]}"
    tag = f"boot.{model.name}"
    yield f"{tag}: SPI Speed      : {SPEEDS.get(image.speed, '?')}"
    yield f"{tag}: SPI Mode       : {MODES.get(image.mode, '?')}"
    yield f"{tag}: SPI Flash Size : {1 << image.flash_size}MB"


def table(partitions: Sequence[Partition]) -> Iterator[str]:
    """The partition table as a bootloader prints it."""
    yield "boot: Partition Table:"
    yield "boot: ## Label            Usage          Type ST Offset   Length"
    for number, part in enumerate(partitions):
        yield (
            f"boot: {number:2} {part.label:<16} {usage(part):<16} {part.kind:02x} {part.subtype:02x} "
            f"{part.offset:08x} {part.size:08x}"
        )
    yield "boot: End of partition table"


def segments(
    image: EspImage, mapped: Sequence[tuple[int, int]] = ((0x3C000000, 0x3E000000), (0x42000000, 0x44000000))
) -> Iterator[str]:
    """The bootloader on the app's segments."""
    for number, part in enumerate(image.segments):
        how = "map" if any(low <= part.vaddr < high for low, high in mapped) else "load"
        yield (
            f"esp_image: segment {number}: paddr={part.paddr:08x} vaddr={part.vaddr:08x} "
            f"size={part.size:05x}h ({part.size:6}) {how}"
        )
