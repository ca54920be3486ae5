"""How fast panics are found in a log and decoded by a real RISC-V ELF file.

python -m benchmarks.panic        needs gcc-riscv64-unknown-elf and binutils-riscv64-unknown-elf
"""

import asyncio
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_server.idf.panic import Decoders, PanicReader, decode

GCC, ADDR2LINE = "riscv64-unknown-elf-gcc", "riscv64-unknown-elf-addr2line"
OBJDUMP, READELF = "riscv64-unknown-elf-objdump", "riscv64-unknown-elf-readelf"
PANICS = 1000
LIMIT_S = 2  # for all of them, once warm
STACK_AT, STACK_WORDS = 0x3FC8D510, 256

SOURCE = """\
volatile int *lamp;
static inline __attribute__((always_inline)) void light(int how)
{
    *lamp = how;
    __asm__ volatile("dark:" ::: "memory");
}
__attribute__((noinline)) void inner(int how)
{
    volatile int kept[4];
    kept[0] = how;
    light(how + 1);
    kept[1] = how;
}
__attribute__((noinline)) int outer(int how)
{
    inner(how + 1);
    return how * 2;
}
__attribute__((noinline)) int app_main(int how)
{
    return outer(how) + 1;
}
__attribute__((noinline)) int vPortTaskWrapper(int how)
{
    return app_main(how) + 1;
}
int _start(void)
{
    __asm__ volatile(".cfi_undefined ra");
    return vPortTaskWrapper(1) + 1;
}
"""
CALLS = ("inner", "outer", "app_main", "vPortTaskWrapper", "_start")


def missing() -> str | None:
    """The first absent tool; None where all are there."""
    return next((tool for tool in (GCC, ADDR2LINE, OBJDUMP, READELF) if shutil.which(tool) is None), None)


@dataclass(frozen=True)
class Firmware:
    """A program for a 32-bit RISC-V chip that writes to NULL in `light`, inlined into `inner`."""

    elf: Path
    source: Path
    pc: int
    returns: Mapping[str, int]
    """Function → the return address behind its call of the next inner one."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.elf.read_bytes()).hexdigest()

    def dump(self, *, cut: int = STACK_WORDS) -> list[str]:
        """What the chip would print, with the stack as the compiler's own tables say it lies, of `cut` words."""
        words, fp = self._stack()
        registers = {"MEPC": self.pc, "RA": self.returns["outer"], "SP": STACK_AT, "S0/FP": fp, "MTVAL": 0}
        lines = ["Guru Meditation Error: Core  0 panic'ed (Store access fault). Exception was unhandled.", ""]
        lines += ["Core  0 register dump:", "  ".join(f"{n:8}: 0x{v:08x}" for n, v in registers.items()), ""]
        lines += ["Stack memory:"]
        for start in range(0, cut, 8):
            row = " ".join(f"0x{word:08x}" for word in words[start : start + 8])
            lines.append(f"{STACK_AT + 4 * start:08x}: {row}")
        return [*lines, "", f"ELF file SHA256: {self.sha256[:9]}", "", "Rebooting..."]

    def _stack(self) -> tuple[list[int], int]:
        """The words from SP on, and the frame pointer; by readelf's reading of the tables, not by ours."""
        words = [0xA5A5A5A5] * STACK_WORDS
        frames = _frame_tables(self.elf)
        frame_at = [STACK_AT]
        places = [self.pc, *(self.returns[name] - 1 for name in CALLS[1:])]
        rows = [_row(frames, place) for place in places]
        ends: list[int] = []
        for register, offset, _ in rows:
            # A frame by the frame pointer ends where its stack pointer was; the tables' first rows name that size.
            size = offset if register == "sp" else _largest(frames, places[len(ends)])
            ends.append(frame_at[-1] + size)
            frame_at.append(ends[-1])
        for number, (_, _, saved) in enumerate(rows):
            outer = number + 1
            if "ra" in saved and outer < len(CALLS):
                words[(ends[number] + saved["ra"] - STACK_AT) // 4] = self.returns[CALLS[outer]]
            if "s0" in saved and outer < len(ends):
                words[(ends[number] + saved["s0"] - STACK_AT) // 4] = ends[outer]
        return words, ends[0]


def build(folder: Path, *options: str) -> Firmware:
    """Compile it; `options` come last. subprocess.CalledProcessError."""
    source, elf = folder / "main" / "lamp.c", folder / "build" / "lamp.elf"
    source.parent.mkdir(parents=True, exist_ok=True)
    elf.parent.mkdir(exist_ok=True)
    source.write_text(SOURCE)
    flags = ["-march=rv32imc", "-mabi=ilp32", "-g", "-nostdlib", "-ffreestanding", "-O1", "-Wl,-Ttext=0x42000000"]
    subprocess.run([GCC, *flags, *options, str(source), "-o", str(elf)], check=True, capture_output=True, timeout=60)
    listing = _output(OBJDUMP, "-d", "--no-show-raw-insn", str(elf))
    instructions = [
        (int(address, 16), text) for address, text in re.findall(r"^\s*([0-9a-f]+):\t(.*)$", listing, re.MULTILINE)
    ]
    starts = {name: int(at, 16) for at, name in re.findall(r"^([0-9a-f]+) <(\w+)>:$", listing, re.MULTILINE)}
    returns: dict[str, int] = {}
    for caller, callee in zip(CALLS[1:], CALLS[:-1], strict=True):
        call = next(
            number
            for number, (address, text) in enumerate(instructions)
            if text.startswith("jal") and f"<{callee}>" in text and address > starts[caller]
        )
        returns[caller] = instructions[call + 1][0]
    pc = max(address for address, _ in instructions if address < starts["dark"])
    return Firmware(elf, source, pc, returns)


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, timeout=60, text=True).stdout


_Rows = list[tuple[int, str, int, dict[str, int]]]


def _frame_tables(elf: Path) -> list[tuple[int, int, _Rows]]:
    """Of each function: start, end, rows of (address, register, offset, where registers are saved)."""
    functions: list[tuple[int, int, _Rows]] = []
    columns: list[str] = []
    for line in _output(READELF, "--debug-dump=frames-interp", str(elf)).splitlines():
        if found := re.search(r"FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)", line):
            functions.append((int(found[1], 16), int(found[2], 16), []))
        elif line.lstrip().startswith("LOC"):
            columns = line.split()[2:]
        elif functions and (row := re.match(r"([0-9a-f]{8}) (\w+)\+(\d+)\s*(.*)", line)):
            saved = {n: int(t[1:]) for n, t in zip(columns, row[4].split(), strict=True) if t.startswith("c")}
            functions[-1][2].append((int(row[1], 16), row[2], int(row[3]), saved))
    return functions


def _row(functions: Sequence[tuple[int, int, _Rows]], place: int) -> tuple[str, int, dict[str, int]]:
    rows = next(rows for start, end, rows in functions if start <= place < end)
    _, register, offset, saved = [row for row in rows if row[0] <= place][-1]
    return register, offset, saved


def _largest(functions: Sequence[tuple[int, int, _Rows]], place: int) -> int:
    rows = next(rows for start, end, rows in functions if start <= place < end)
    return max(offset for _, register, offset, _ in rows if register == "sp")


async def main() -> int:
    if tool := missing():
        print(f"{tool} is not installed: sudo apt install gcc-riscv64-unknown-elf binutils-riscv64-unknown-elf")
        return 1
    with tempfile.TemporaryDirectory() as name:
        firmware = build(Path(name))
        log = [line for _ in range(PANICS) for line in ("I (80) app: started", *firmware.dump())]
        started = time.perf_counter()
        reader = PanicReader()
        for line in log:
            reader.feed(line)
        reading = time.perf_counter() - started
        assert reader.count == PANICS
        panic = reader.panics[0]

        started = time.perf_counter()
        await decode(panic, firmware.elf, ADDR2LINE)
        cold = time.perf_counter() - started

        async with Decoders() as decoders:
            decoded = await decoders.decode(panic, firmware.elf, ADDR2LINE)
            started = time.perf_counter()
            for _ in range(PANICS):
                decoded = await decoders.decode(panic, firmware.elf, ADDR2LINE)
            warm = time.perf_counter() - started
        assert decoded.frames[0].function == "light"
    print(f"{len(log):,} lines with {PANICS:,} panics read: {reading:.2f} s, {reading / len(log) * 1e6:.1f} µs a line")
    print(f"first panic of an ELF file: {cold * 1000:.0f} ms")
    print(f"{PANICS:,} panics decoded once it is warm: {warm:.2f} s ({warm / LIMIT_S:.0%} of the {LIMIT_S} s allowed)")
    return 0 if warm <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
