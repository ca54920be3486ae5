"""Panics are decoded by a real 32-bit RISC-V ELF file and a real addr2line; by stand-ins where those misbehave."""

import asyncio
import itertools
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from benchmarks.panic import ADDR2LINE, CALLS, Firmware, build, missing
from mcp_server.idf.panic import Decoded, Decoders, Frame, Panic, PanicReader, addr2line_for, decode, panic_report
from mcp_server.idf.panic.elf import read_elf
from mcp_server.idf.panic.unwind import Unwinder

pytestmark = pytest.mark.skipif(
    missing() is not None,
    reason=f"{missing()} is not installed: sudo apt install gcc-riscv64-unknown-elf binutils-riscv64-unknown-elf",
)

VARIANTS: dict[str, Sequence[str]] = {
    "O1": ["-O1"],
    "Os": ["-Os"],
    "O0, by frame pointer": ["-O0"],
    "Og, by frame pointer": ["-Og", "-fno-omit-frame-pointer"],
    "DWARF 2": ["-O1", "-gdwarf-2"],
    "no compressed code": ["-O1", "-march=rv32im"],
}


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return build(tmp_path_factory.mktemp("lamp"))


def read(lines: Sequence[str]) -> Panic:
    reader = PanicReader()
    for line in lines:
        reader.feed(line)
    reader.close()
    return reader.panics[0]


def binutils(tool: str, *arguments: str) -> str:
    argv = [ADDR2LINE.replace("addr2line", tool), *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout


def shown(decoded: Decoded) -> list[tuple[str | None, str]]:
    return [(frame.function, frame.place) for frame in decoded.frames]


LINES = {"light": 4, "inner": 11, "outer": 16, "app_main": 21, "vPortTaskWrapper": 25, "_start": 30}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_stack_is_unwound_to_its_root_with_inlined_functions(variant: str, tmp_path: Path) -> None:
    """Issue. The stack lies as binutils reads the compiler's tables; the lines are those of the source."""
    firmware = build(tmp_path, *VARIANTS[variant])
    async with asyncio.timeout(20):
        decoded = await decode(read(firmware.dump()), firmware.elf, ADDR2LINE, project=tmp_path)

    assert shown(decoded) == [(name, f"main/lamp.c:{line}") for name, line in LINES.items()]
    assert [frame.inlined for frame in decoded.frames] == [True, False, False, False, False, False]
    assert [frame.function for frame in decoded.frames if frame.handler] == ["vPortTaskWrapper"]
    assert all(frame.certain for frame in decoded.frames)
    assert (decoded.matches, decoded.notes) == (True, ())


async def test_stack_that_was_cut_short_gives_the_frames_that_it_holds(firmware: Firmware) -> None:
    """Issue. A dump has 1,024 bytes; what lies beyond is unknown and not made up."""
    async with asyncio.timeout(20):
        decoded = await decode(read(firmware.dump(cut=8)), firmware.elf, ADDR2LINE)

    assert [frame.function for frame in decoded.frames] == ["light", "inner", "outer", "app_main"]


async def test_without_unwinding_tables_return_addresses_on_the_stack_are_guessed(tmp_path: Path) -> None:
    """Issue. Only words behind a call count; the frames say that they are a guess."""
    firmware = build(tmp_path)
    lines = [line for line in firmware.dump() if "SHA256" not in line]
    binutils("objcopy", "--remove-section", ".debug_frame", os.fspath(firmware.elf))
    # An address of code that no call leads to, as a function pointer on the stack is.
    at = next(i for i, line in enumerate(lines) if line.startswith("3fc8d530"))
    lines[at] = lines[at].replace("0xa5a5a5a5", f"0x{firmware.pc + 2:08x}", 1)
    async with asyncio.timeout(20):
        decoded = await decode(read(lines), firmware.elf, ADDR2LINE)

    assert [frame.function for frame in decoded.frames] == list(LINES)
    assert [frame.certain for frame in decoded.frames] == [True, True, True, False, False, False]
    assert decoded.notes == ("the last frames are a guess from what lay on the stack",)


async def test_overwritten_return_address_leads_to_a_guess_from_what_lies_behind_it(firmware: Firmware) -> None:
    """Issue. A smashed stack: the tables lead to a number that is no code."""
    lines = [line.replace(f"0x{firmware.returns['vPortTaskWrapper']:08x}", "0x41414141") for line in firmware.dump()]
    async with asyncio.timeout(20):
        decoded = await decode(read(lines), firmware.elf, ADDR2LINE)

    names = [(frame.function, frame.certain) for frame in decoded.frames]
    assert names == [("light", True), ("inner", True), ("outer", True), ("app_main", True), ("_start", False)]


async def test_first_function_of_a_task_ends_the_walk_without_a_guess(firmware: Firmware) -> None:
    """Ours. It says that it has no caller; what lies beyond its stack is another's."""
    lines = firmware.dump()
    lines = [line.replace("0xa5a5a5a5", f"0x{firmware.returns['outer']:08x}") for line in lines]
    async with asyncio.timeout(20):
        decoded = await decode(read(lines), firmware.elf, ADDR2LINE)

    assert [frame.function for frame in decoded.frames] == list(LINES)


async def test_jump_to_nowhere_is_told_from_its_caller_on(firmware: Firmware) -> None:
    """Ours. A wrong function pointer: MEPC is no code, RA leads to who called it."""
    words = "0xa5a5a5a5 0xa5a5a5a5 0xa5a5a5a5 " + f"0x{firmware.returns['app_main']:08x}"
    dump = [
        "Guru Meditation Error: Core  0 panic'ed (Instruction access fault). Exception was unhandled.",
        f"MEPC    : 0x00000001  RA      : 0x{firmware.returns['outer']:08x}  SP      : 0x3fc8d510",
        "Stack memory:",
        f"3fc8d510: {words}",
    ]
    async with asyncio.timeout(20):
        decoded = await decode(read(dump), firmware.elf, ADDR2LINE)

    assert [frame.function for frame in decoded.frames] == [None, "outer", "app_main"]
    assert decoded.panic.cause.startswith("jumped to 0x00000001, where no code is")


async def test_printed_backtrace_of_a_riscv_program_is_looked_up_inside_its_calls(firmware: Firmware) -> None:
    """Ours. With frame pointers the chip prints return addresses, whose own line may be the next one."""
    steps = [firmware.pc, *(firmware.returns[name] for name in CALLS[1:])]
    dump = [
        "abort() was called at PC 0x1 on core 0",
        "Backtrace:" + "".join(f" 0x{one:08x}:0x3fc8d510" for one in steps),
    ]
    async with asyncio.timeout(20):
        decoded = await decode(read(dump), firmware.elf, ADDR2LINE)

    assert [(frame.function, frame.line) for frame in decoded.frames] == list(LINES.items())


async def test_elf_of_another_firmware_is_not_asked(firmware: Firmware) -> None:
    """Issue. Functions of the wrong ELF would send a reader astray."""
    panic = read(firmware.dump()).model_copy(update={"elf_sha256": "d8025d7e0"})
    async with asyncio.timeout(20):
        decoded = await decode(panic, firmware.elf, ADDR2LINE)

    assert decoded.matches is False
    assert decoded.frames == (Frame(address=firmware.pc), Frame(address=firmware.returns["outer"]))
    assert decoded.notes[0].startswith(
        f"the ELF is not the firmware's: lamp.elf has SHA-256 {firmware.sha256[:9]}, the firmware d8025d7e0."
    )


async def test_panic_without_a_hash_is_decoded_and_says_that_none_was_seen(firmware: Firmware) -> None:
    """Ours."""
    panic = read(firmware.dump()).model_copy(update={"elf_sha256": None})
    async with asyncio.timeout(20):
        decoded = await decode(panic, firmware.elf, ADDR2LINE)

    assert decoded.matches is None
    assert decoded.frames[0].function == "light"


async def test_whole_hash_and_short_hash_match(firmware: Firmware) -> None:
    """Issue. ESP-IDF prints 8 to 64 digits."""
    panic = read(firmware.dump())
    async with asyncio.timeout(20), Decoders() as decoders:
        for digits in (8, 9, 64):
            one = panic.model_copy(update={"elf_sha256": firmware.sha256[:digits]})
            assert (await decoders.decode(one, firmware.elf, ADDR2LINE)).matches is True


@pytest.mark.parametrize(
    ("program", "command"),
    [("riscv32-esp-elf-addr2line", "install.sh esp32c3"), ("xtensa-esp32s3-elf-addr2line", "install.sh esp32s3")],
)
async def test_without_a_toolchain_addresses_stay_and_a_note_names_what_installs_it(
    program: str, command: str, firmware: Firmware
) -> None:
    """Issue."""
    async with asyncio.timeout(20):
        decoded = await decode(read(firmware.dump()), firmware.elf, f"/nowhere/{program}")

    assert [frame.address for frame in decoded.frames][:2] == [firmware.pc, firmware.returns["outer"]]
    assert all(frame.function is None for frame in decoded.frames)
    assert f"/nowhere/{program} cannot be run (No such file or directory)" in decoded.notes[0]
    assert command in decoded.notes[0]


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF", b"\x7fELF\x01\x01" + b"\xff" * 60, b"#!/bin/sh\n" * 50])
async def test_file_that_is_no_elf_costs_the_frames_and_a_note(content: bytes | None, tmp_path: Path) -> None:
    """Ours."""
    elf = tmp_path / "lamp.elf"
    if content is not None:
        elf.write_bytes(content)
    async with asyncio.timeout(20):
        decoded = await decode(read(["abort() was called at PC 0x42000010 on core 0"]), elf, ADDR2LINE)

    assert decoded.frames == (Frame(address=0x42000010),)
    assert decoded.notes[0].endswith("the addresses are not decoded")


async def test_elf_cut_at_any_place_is_survived(firmware: Firmware, tmp_path: Path) -> None:
    """Ours. A build that is still being written."""
    data, elf = firmware.elf.read_bytes(), tmp_path / "cut.elf"
    panic = read(firmware.dump()).model_copy(update={"elf_sha256": None})
    async with asyncio.timeout(30):
        for size in range(0, len(data), len(data) // 12):
            elf.write_bytes(data[:size])
            decoded = await decode(panic, elf, ADDR2LINE)
            assert decoded.frames[0].address == firmware.pc


async def test_garbled_unwinding_tables_cost_frames_and_nothing_else(firmware: Firmware, tmp_path: Path) -> None:
    """Ours. Each byte of the tables is broken in turn, once to what needs a number behind it."""
    data = firmware.elf.read_bytes()
    listing = binutils("readelf", "-SW", os.fspath(firmware.elf))
    fields = next(line for line in listing.splitlines() if ".debug_frame" in line).split("PROGBITS")[1].split()
    start, size = int(fields[1], 16), int(fields[2], 16)
    panic = read(firmware.dump()).model_copy(update={"elf_sha256": None})
    elf = tmp_path / "garbled.elf"
    began = time.monotonic()
    for at, broken in itertools.product(range(start, start + size), (b"\xff", b"\x0e")):
        elf.write_bytes(data[:at] + broken + data[at + 1 :])
        unwinder = Unwinder(await asyncio.to_thread(read_elf, elf))
        assert unwinder.walk(panic.registers, panic.stack_at or 0, panic.stack).frames[0] == firmware.pc
    assert time.monotonic() - began < 10


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A program with addr2line's command line that does as $MODE says; its process id is in `pid`."""
    program = tmp_path / "riscv32-esp-elf-addr2line"
    program.write_text(
        "#!/bin/sh\n"
        f"echo $$ >{tmp_path}/pid\n"
        f"mode=$(cat {tmp_path}/mode)\n"
        'case "$mode" in\n'
        "  silent) while read -r line; do :; done ;;\n"
        "  deaf) exec sleep 600 ;;\n"
        "  ends) read -r line; exit 1 ;;\n"
        "  garbage) while read -r line; do echo nonsense; done ;;\n"
        "  endless) exec tr '\\0' 'x' </dev/zero ;;\n"
        "esac\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize("mode", ["silent", "deaf", "ends", "garbage", "endless"])
async def test_addr2line_that_misbehaves_costs_the_frames_and_leaves_no_process(
    mode: str, stand_in: Path, firmware: Firmware
) -> None:
    """Issue. A stand-in with the same command line."""
    (stand_in.parent / "mode").write_text(mode)
    async with asyncio.timeout(10), Decoders(timeout_s=0.5) as decoders:
        decoded = await decoders.decode(read(firmware.dump()), firmware.elf, str(stand_in))
        assert not psutil.pid_exists(int((stand_in.parent / "pid").read_text()))

    assert len(decoded.notes) == 1
    assert "riscv32-esp-elf-addr2line" in decoded.notes[0]
    assert decoded.frames[0] == Frame(address=firmware.pc)


async def test_cancelled_decoding_leaves_no_process(stand_in: Path, firmware: Firmware) -> None:
    """Issue."""
    (stand_in.parent / "mode").write_text("silent")
    started = stand_in.parent / "pid"
    os.mkfifo(started)
    async with asyncio.timeout(10), Decoders() as decoders:
        task = asyncio.create_task(decoders.decode(read(firmware.dump()), firmware.elf, str(stand_in)))
        pid = int(await asyncio.to_thread(started.read_text))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not psutil.pid_exists(pid)


async def test_warm_process_is_started_once_and_ends_with_its_decoders(firmware: Firmware) -> None:
    """Issue."""
    before = {child.pid for child in psutil.Process().children()}
    panic = read(firmware.dump())
    async with asyncio.timeout(20):
        async with Decoders() as decoders:
            await asyncio.gather(*(decoders.decode(panic, firmware.elf, ADDR2LINE) for _ in range(20)))
            running = [child for child in psutil.Process().children() if child.pid not in before]
            assert [child.name()[:15] for child in running] == [ADDR2LINE[:15]]
            assert not running[0].cmdline()[-1].startswith("0x")

    assert not running[0].is_running()


async def test_elf_that_was_built_anew_is_read_anew(tmp_path: Path) -> None:
    """Ours. The path is the same."""
    old = build(tmp_path)
    async with asyncio.timeout(20), Decoders() as decoders:
        assert (await decoders.decode(read(old.dump()), old.elf, ADDR2LINE)).matches is True
        new = build(tmp_path, "-O0")
        decoded = await decoders.decode(read(new.dump()), new.elf, ADDR2LINE)

    assert (decoded.matches, decoded.frames[0].function) == (True, "light")


async def test_no_more_than_two_elf_files_stay_warm(tmp_path: Path) -> None:
    """Ours. An application and its bootloader."""
    before = {child.pid for child in psutil.Process().children()}
    async with asyncio.timeout(30), Decoders() as decoders:
        for name in ("one", "two", "three"):
            firmware = build(tmp_path / name)
            decoded = await decoders.decode(read(firmware.dump()), firmware.elf, ADDR2LINE)
            assert decoded.frames[0].function == "light"
        running = [child for child in psutil.Process().children() if child.pid not in before]
        assert len(running) == 2


async def test_thousand_panics_are_decoded_within_two_seconds_once_warm(firmware: Firmware) -> None:
    """Issue."""
    panic = read(firmware.dump())
    async with asyncio.timeout(30), Decoders() as decoders:
        await decoders.decode(panic, firmware.elf, ADDR2LINE)
        started = time.perf_counter()
        for _ in range(1000):
            await decoders.decode(panic, firmware.elf, ADDR2LINE)
        took = time.perf_counter() - started

    assert took <= 2


async def test_report_of_a_decoded_panic_is_short_and_begins_with_the_cause(firmware: Firmware) -> None:
    """Issue. Under 600 bytes: cause, frames, the lines ahead."""
    project = firmware.source.parents[1]
    log = ["I (80) lamp: reading", "W (80) lamp: no card", "E (80) lamp: giving up", *firmware.dump()]
    async with asyncio.timeout(20):
        decoded = await decode(read(log), firmware.elf, ADDR2LINE, project=project)

    assert panic_report(decoded) == [
        "panic: wrote to address 0x00000000: a NULL pointer (Store access fault), core 0",
        "  light main/lamp.c:4",
        "  inner main/lamp.c:11",
        "  outer main/lamp.c:16",
        "  app_main main/lamp.c:21",
        "  _start main/lamp.c:30",
        "before it:",
        "  | I (80) lamp: reading",
        "  | W (80) lamp: no card",
        "  | E (80) lamp: giving up",
    ]


def test_program_is_found_by_chip_in_the_activated_environment(tmp_path: Path) -> None:
    """Issue."""
    program = tmp_path / "xtensa-esp32s3-elf-addr2line"
    shutil.copy("/bin/true", program)

    assert addr2line_for("esp32s3") == "xtensa-esp32s3-elf-addr2line"
    assert addr2line_for("esp32s3", {"PATH": f"{tmp_path}:/usr/bin"}) == os.fspath(program)
    assert addr2line_for("esp32s2", {"PATH": f"{tmp_path}"}) == "xtensa-esp32s2-elf-addr2line"
    assert addr2line_for("esp32p4") == "riscv32-esp-elf-addr2line"
    assert addr2line_for("linux") == "addr2line"
