"""The toolchain's addr2line as a warm process: started once for an ELF file, asked as often as wanted."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BATCH = 64  # addresses in one question: 700 bytes, which a pipe takes whole
FIRST_ANSWER_S = 30  # it reads all debug information first: seconds for a large C++ firmware on a slow disk
ANSWER_S = 10
MAX_LINE_BYTES = 1 << 20  # a C++ template's name has been seen with 60 kB
MAX_REMEMBERED = 8192
MAX_INLINED = 32
_END = "0xffffffff"  # no code is there; its answer ends a batch

_XTENSA = {"esp32", "esp32s2", "esp32s3"}
_PLACE = re.compile(r"(?P<file>.+):(?P<line>\d{1,9}|\?)(?: \(discriminator \d{1,9}\))?$")


class Addr2lineFailed(Exception):
    """It could not be started, ended, or did not answer. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """A function and its place in the source, as far as known."""

    function: str | None
    file: str | None
    line: int | None


def addr2line_for(target: str, environment: Mapping[str, str] | None = None) -> str:
    """The name of the program for a chip, e.g. `riscv32-esp-elf-addr2line`; with an environment, its path in there.

    The bare name where it is not on that PATH.
    """
    if target == "linux":
        name = "addr2line"
    elif target in _XTENSA:
        name = f"xtensa-{target}-elf-addr2line"
    else:
        name = "riscv32-esp-elf-addr2line"
    path = None if environment is None else environment.get("PATH")
    return (shutil.which(name, path=path) if path else None) or name


class Addr2line:
    """One process for one ELF file. Many tasks may ask; one is answered at a time."""

    def __init__(self, program: str, elf: Path, timeout_s: float = FIRST_ANSWER_S) -> None:
        self.program, self.elf = program, elf
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._known: dict[int, tuple[Place, ...]] = {}
        self._timeout_s = timeout_s

    async def look(self, addresses: Sequence[int]) -> Mapping[int, tuple[Place, ...]]:
        """Of each address its function, behind that the ones it was inlined into. Addr2lineFailed."""
        if all(address in self._known for address in addresses):
            return {address: self._known[address] for address in addresses}
        async with self._lock:
            answers = {address: self._known[address] for address in addresses if address in self._known}
            asked = [address for address in dict.fromkeys(addresses) if address not in answers]
            for start in range(0, len(asked), BATCH):
                answers |= await self._ask(asked[start : start + BATCH])
        if len(self._known) + len(asked) > MAX_REMEMBERED:
            self._known.clear()
        self._known |= answers
        return answers

    async def close(self) -> None:
        """End the process, once nobody is being answered; a closed one starts anew when asked."""
        async with self._lock:
            await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own, see `_start`
            await asyncio.shield(_gone(process))

    async def _ask(self, addresses: Sequence[int]) -> dict[int, tuple[Place, ...]]:
        try:
            async with asyncio.timeout(self._timeout_s):
                process = self._process or await self._start()
                assert process.stdin is not None
                assert process.stdout is not None
                question = "\n".join([*(f"0x{address:x}" for address in addresses), _END, ""])
                process.stdin.write(question.encode())
                await process.stdin.drain()
                answer = await _answer(process.stdout)
        except TimeoutError:
            await self._end()
            raise Addr2lineFailed(f"{self.program} did not answer within {self._timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            await self._end()
            raise Addr2lineFailed(f"{self.program} stopped while it was asked ({error})") from None
        except BaseException:
            await self._end()  # a half-read answer would be taken for the next question's
            raise
        self._timeout_s = min(self._timeout_s, ANSWER_S)
        found = dict(answer)
        return {address: found.get(address, ()) for address in addresses}

    async def _start(self) -> asyncio.subprocess.Process:
        argv = [self.program, "-e", os.fspath(self.elf), "-f", "-C", "-i", "-a"]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_LINE_BYTES,
                start_new_session=True,  # Ctrl-C in a terminal is ours to handle
            )
        except OSError as error:
            raise Addr2lineFailed(f"{self.program} cannot be run ({error.strerror or error})") from None
        return self._process


async def _gone(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(OSError):
        await process.communicate()  # closes the pipes too


async def _answer(output: asyncio.StreamReader) -> list[tuple[int, tuple[Place, ...]]]:
    """The blocks up to the end mark: an address, then a function and a place for each level of inlining."""
    blocks: list[tuple[int, list[str]]] = []
    while True:
        line = await output.readline()
        if not line.endswith(b"\n"):
            raise ValueError("it ended")
        text = line.decode("utf-8", "replace").strip()
        if text.startswith("0x") and (len(blocks) == 0 or len(blocks[-1][1]) % 2 == 0):
            blocks.append((int(text, 16), []))
        elif not blocks:
            raise ValueError("it printed no address")
        else:
            blocks[-1][1].append(text)
        if blocks[-1][0] == 0xFFFFFFFF and len(blocks[-1][1]) == 2:
            return [(address, _places(lines)) for address, lines in blocks[:-1]]


def _places(lines: Sequence[str]) -> tuple[Place, ...]:
    places: list[Place] = []
    for function, where in zip(lines[::2], lines[1::2], strict=False):
        found = _PLACE.match(where)
        file = found["file"] if found and found["file"] != "??" else None
        line = int(found["line"]) if found and found["line"].isdigit() and int(found["line"]) else None
        places.append(Place(None if function == "??" else function, file, line if file else None))
    known = any(place.function or place.file for place in places)
    return tuple(places[:MAX_INLINED]) if known else ()
