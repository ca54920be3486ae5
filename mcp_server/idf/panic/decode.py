"""From a panic's addresses to functions, files and lines, by the ELF file of the firmware that printed it."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from mcp_server.idf.panic.addr2line import FIRST_ANSWER_S, Addr2line, Addr2lineFailed, Place
from mcp_server.idf.panic.elf import BadElf, Elf, read_elf
from mcp_server.idf.panic.model import Decoded, Frame, Panic
from mcp_server.idf.panic.unwind import Unwinder

WARM = 2  # ELF files kept open: an application and its bootloader
MAX_CANDIDATES = 16
DECODE_S = 60  # one panic, whatever its ELF file holds; the first answer of a large one may take half of it

_HANDLERS = re.compile(
    r"(?:panic_\w+|esp_panic_handler\w*|esp_system_abort|abort|__assert\w*|__stack_chk_fail|vPortTaskWrapper"
    r"|vApplicationStackOverflowHook|_?esp_error_check_failed\w*|xt_unhandled_exception|task_wdt_\w+"
    r"|esp_crosscore_\w+|multi_heap_assert|__ubsan_\w+|std::terminate|__cxxabiv1::\w+|__cxa_\w+"
    r"|__gnu_cxx::__verbose_terminate_handler|_vector_table|_interrupt_handler|_panic_handler|_frxt_\w+|_xt_\w+"
    r"|vPortAssertIfInISR|raise|_raise_r)(?:\(.*)?"
)
"""How ESP-IDF and its libraries stop; and a task's first function, which calls no one's mistake."""

_HEAP = re.compile(
    r"(?:multi_heap_\w+|tlsf_\w+|heap_caps_\w+|verify_\w+|poison_\w+|_?free(?:_r)?|cfree|_?(?:m|c|re)alloc(?:_r)?"
    r"|operator (?:new|delete)(?:\[\])?|block_\w+|remove_free_block|insert_free_block|_realloc_r)(?:\(.*)?"
)
"""Where a corrupt heap is noticed, long after it was broken."""


class _Firmware:
    """An ELF file that is open for questions."""

    def __init__(self, elf: Elf, program: str, timeout_s: float) -> None:
        self.elf = elf
        self.addr2line = Addr2line(program, elf.path, timeout_s)
        self.unwinder = Unwinder(elf) if elf.is_riscv else None


class Decoders:
    """Decodes panics; keeps the two ELF files used last warm until it is closed. For one event loop."""

    def __init__(self, timeout_s: float = FIRST_ANSWER_S, *, limit_s: float = DECODE_S) -> None:
        self._timeout_s = timeout_s  # for the first answer of an ELF file, when all of it is read
        self._limit_s = limit_s  # for all of one panic
        self._warm: dict[tuple[str, str, int, int], _Firmware] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every process."""
        warm, self._warm = self._warm, {}
        for firmware in warm.values():
            await firmware.addr2line.close()

    async def decode(self, panic: Panic, elf: Path, addr2line: str, *, project: Path | None = None) -> Decoded:
        """The frames of a panic. Whatever is absent or wrong costs its part and a note; nothing is raised.

        `addr2line` is the program's path or name. Files inside `project` are named relative to it. An ELF that is not
        the firmware's is not asked: its functions would be wrong ones.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._decode(panic, elf, addr2line, project)
        except TimeoutError:
            return undecoded(panic, None, f"not decoded: {elf.name} was not read within {self._limit_s:g} s")

    async def _decode(self, panic: Panic, elf: Path, addr2line: str, project: Path | None) -> Decoded:
        try:
            firmware = await self._open(elf, addr2line)
        except (OSError, BadElf) as error:
            why = f"{elf} cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
            return undecoded(panic, None, f"{why}: the addresses are not decoded")
        matches = _matches(panic, firmware.elf)
        if matches is False:
            return undecoded(
                panic,
                False,
                f"the ELF is not the firmware's: {elf.name} has SHA-256 {firmware.elf.sha256[:9]}, "
                f"the firmware {str(panic.elf_sha256)[:9]}. Flash this build, or decode with the ELF of that one",
            )
        addresses, candidates = await asyncio.to_thread(_addresses, panic, firmware)
        try:
            looked = [_inside_call(index, address, firmware) for index, address in enumerate(addresses)]
            places = await firmware.addr2line.look([*looked, *(one - 1 for one in candidates)])
        except Addr2lineFailed as error:
            return undecoded(panic, matches, f"{error}: {_installs(addr2line)}", [*addresses, *candidates])
        frames: list[Frame] = []
        for address, asked in zip(addresses, looked, strict=True):
            frames += _frames(address, places[asked], panic, project)
        for address in candidates:
            frames += _frames(address, places[address - 1], panic, project, certain=False)
        notes = ["the last frames are a guess from what lay on the stack"] if candidates else []
        return Decoded(panic=panic, frames=tuple(frames), matches=matches, notes=tuple(notes))

    async def _open(self, path: Path, program: str) -> _Firmware:
        async with self._opening:
            state = await asyncio.to_thread(path.stat)
            key = (program, os.fspath(path), state.st_mtime_ns, state.st_size)
            if key in self._warm:
                self._warm[key] = self._warm.pop(key)  # the one used last is at the end
                return self._warm[key]
            firmware = await asyncio.to_thread(lambda: _Firmware(read_elf(path), program, self._timeout_s))
            while len(self._warm) >= WARM:
                oldest = next(iter(self._warm))
                await self._warm.pop(oldest).addr2line.close()
            self._warm[key] = firmware
            return firmware


async def decode(panic: Panic, elf: Path, addr2line: str, *, project: Path | None = None) -> Decoded:
    """One panic, see `Decoders.decode`; for more than one of the same firmware that class is much faster."""
    async with Decoders() as decoders:
        return await decoders.decode(panic, elf, addr2line, project=project)


def _matches(panic: Panic, elf: Elf) -> bool | None:
    return elf.sha256.startswith(panic.elf_sha256.lower()) if panic.elf_sha256 else None


def undecoded(panic: Panic, matches: bool | None, note: str, addresses: Sequence[int] | None = None) -> Decoded:
    """The panic with bare addresses, and why they are no more."""
    if addresses is None:
        ra = panic.registers.get("RA")
        addresses = panic.backtrace or [one for one in (panic.pc, ra) if one]
    return Decoded(panic=panic, frames=tuple(Frame(address=one) for one in addresses), matches=matches, notes=(note,))


def _installs(program: str) -> str:
    name = PurePosixPath(program).name
    chip = next((chip for chip in ("esp32s2", "esp32s3", "esp32") if f"-{chip}-" in name), "esp32c3")
    if not name.startswith(("xtensa", "riscv32-esp")):
        return "the addresses are not decoded"
    return f"ESP-IDF's `install.sh {chip}` brings it, and activating ESP-IDF puts it on PATH"


def _addresses(panic: Panic, firmware: _Firmware) -> tuple[list[int], list[int]]:
    """The certain addresses, the innermost first; and behind them, where these lead on no more, those on the stack."""
    if panic.backtrace or firmware.unwinder is None:
        return list(panic.backtrace) or [one for one in (panic.pc,) if one is not None], []
    if "MEPC" not in panic.registers:
        return [panic.pc] if panic.pc is not None else [], []
    stack_at = panic.stack_at or 0
    walk = firmware.unwinder.walk(panic.registers, stack_at, panic.stack)
    if walk.lost_at is None:
        return list(walk.frames), []
    rest = panic.stack[max(walk.lost_at - stack_at, 0) // 4 :]
    candidates = [word for word in dict.fromkeys(rest) if word not in walk.frames and firmware.elf.follows_call(word)]
    return list(walk.frames), candidates[:MAX_CANDIDATES]


def _inside_call(index: int, address: int, firmware: _Firmware) -> int:
    """A return address is the one behind the call: its line may be the next one, even in another function.

    Xtensa's backtraces are printed with that corrected.
    """
    return address - 1 if index and firmware.elf.is_riscv else address


def _frames(
    address: int, places: Sequence[Place], panic: Panic, project: Path | None, *, certain: bool = True
) -> list[Frame]:
    if not places:
        return [Frame(address=address, certain=certain)] if certain else []
    return [
        Frame(
            address=address,
            function=place.function,
            file=_shortened(place.file, project),
            line=place.line,
            inlined=number < len(places) - 1,
            handler=_is_handler(place.function, panic),
            certain=certain,
        )
        for number, place in enumerate(places)
    ]


def _is_handler(function: str | None, panic: Panic) -> bool:
    if function is None:
        return False
    heap = panic.kind == "heap_corruption" and _HEAP.fullmatch(function)
    return bool(heap or _HANDLERS.fullmatch(function))


def _shortened(file: str | None, project: Path | None) -> str | None:
    if file is None or project is None:
        return file
    path = os.path.normpath(file)
    return os.path.relpath(path, project) if PurePosixPath(path).is_relative_to(project) else path
