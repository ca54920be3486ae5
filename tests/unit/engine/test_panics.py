"""What a run's verdict says of a panic, beside what the panic's own reader found."""

import asyncio
import os
from pathlib import Path

import pytest

from mcp_server.engine.stages.panics import decoded_panic
from mcp_server.idf.panic import Panic, PanicReader
from mcp_server.idf.panic.report import LIMIT_BYTES

SERIAL = Path(__file__).parents[2] / "fixtures" / "serial"


def panic_with_core_dump() -> Panic:
    reader = PanicReader()
    for line in (SERIAL / "composed-core-dump.log").read_text().splitlines():
        reader.feed(line)
    (panic,) = reader.panics
    return panic


async def test_a_whole_core_dump_is_kept_beside_the_elf_with_the_command_that_reads_it(tmp_path: Path) -> None:
    """Issue: core dumps on UART. esp-coredump decodes each line of base64 by itself, so lines stay lines."""
    elf = tmp_path / "my lamp.elf"

    async with asyncio.timeout(5):
        found = await decoded_panic(panic_with_core_dump(), tmp_path, elf, "no-addr2line", tmp_path, "boot")

    kept = tmp_path / "coredump-boot.b64"
    assert kept.read_text().splitlines()[0] == "kCwAAAUAAAAIAAAAdAEAAAAAAAAAAAAA"
    command = f"esp-coredump info_corefile -t b64 -c '{kept}' '{elf}'".replace(f"'{kept}'", str(kept))
    assert found["panic"]["core_dump"] == {"path": str(kept), "bytes": 54, "command": command}
    assert found["panic_report"][-1] == f"  core dump: {command}"
    assert sum(len(line.encode()) + 1 for line in found["panic_report"]) <= LIMIT_BYTES


async def test_a_panic_without_an_address_misses_no_elf(tmp_path: Path) -> None:
    """Ours. Nothing of a brownout could be decoded, so no note says that it was not."""
    panic = Panic(kind="brownout", cause="the supply voltage fell too low (brownout)", elf_sha256="0123456789")

    async with asyncio.timeout(5):
        found = await decoded_panic(panic, tmp_path, tmp_path / "no.elf", "no-addr2line", tmp_path, "boot")

    assert found["panic"]["notes"] == []
    assert found["panic_report"] == ["panic: the supply voltage fell too low (brownout)"]


async def test_half_a_core_dump_is_not_kept(tmp_path: Path) -> None:
    """Ours. No tool reads it, and it would look as if one could."""
    panic = panic_with_core_dump().model_copy(update={"core_dump_whole": False})

    async with asyncio.timeout(5):
        found = await decoded_panic(panic, tmp_path, tmp_path / "lamp.elf", "no-addr2line", tmp_path, "boot")

    assert "core_dump" not in found["panic"]
    assert not list(tmp_path.glob("coredump*"))


async def test_a_core_dump_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Ours. The build directory may be gone by then."""
    async with asyncio.timeout(5):
        gone = tmp_path / "gone"
        found = await decoded_panic(panic_with_core_dump(), gone, gone / "a.elf", "no", tmp_path, "boot")

    assert "cannot be written: No such file or directory" in found["panic_report"][-1]


async def test_a_core_dump_takes_the_place_of_what_lies_there_and_follows_no_link(tmp_path: Path) -> None:
    """Ours. The build directory is the project's: a link in it may name any file of the user."""
    (tmp_path / "precious").write_text("x")
    (tmp_path / "coredump-boot.b64").symlink_to(tmp_path / "precious")

    async with asyncio.timeout(5):
        await decoded_panic(panic_with_core_dump(), tmp_path, tmp_path / "a.elf", "no", tmp_path, "boot")

    assert (tmp_path / "precious").read_text() == "x"
    assert (tmp_path / "coredump-boot.b64").read_text().startswith("kCw")


async def test_an_elf_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """Ours. A project names its ELF: a FIFO has no end, and a thread that reads one outlives its worker."""
    os.mkfifo(tmp_path / "a.elf")

    async with asyncio.timeout(5):
        found = await decoded_panic(panic_with_core_dump(), tmp_path, tmp_path / "a.elf", "no", tmp_path, "boot")

    assert found["panic"]["notes"][-1].endswith("a.elf cannot be read (it is no file): the addresses are not decoded")


@pytest.mark.parametrize("named", ["/dev/zero", "../other/a.elf", "link.elf"])
async def test_an_elf_outside_the_build_directory_is_not_opened(named: str, tmp_path: Path) -> None:
    """Ours. /dev/zero has no end; another file is not what the firmware was built from."""
    build = tmp_path / "build"
    build.mkdir()
    (build / "link.elf").symlink_to("/dev/zero")

    async with asyncio.timeout(5):
        found = await decoded_panic(panic_with_core_dump(), build, build / named, "no", tmp_path, "boot")

    assert "lies outside the build directory" in found["panic"]["notes"][-1]
    assert found["panic"]["frames"], "the addresses are kept"
