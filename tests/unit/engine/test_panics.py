"""What a run's verdict says of a panic, beside what the panic's own reader found."""

import asyncio
from pathlib import Path

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
        found = await decoded_panic(panic_with_core_dump(), elf, "no-addr2line", tmp_path, "boot")

    kept = tmp_path / "coredump-boot.b64"
    assert kept.read_text().splitlines()[0] == "kCwAAAUAAAAIAAAAdAEAAAAAAAAAAAAA"
    command = f"esp-coredump info_corefile -t b64 -c '{kept}' '{elf}'".replace(f"'{kept}'", str(kept))
    assert found["panic"]["core_dump"] == {"path": str(kept), "bytes": 54, "command": command}
    assert found["panic_report"][-1] == f"  core dump: {command}"
    assert sum(len(line.encode()) + 1 for line in found["panic_report"]) <= LIMIT_BYTES


async def test_half_a_core_dump_is_not_kept(tmp_path: Path) -> None:
    """Ours. No tool reads it, and it would look as if one could."""
    panic = panic_with_core_dump().model_copy(update={"core_dump_whole": False})

    async with asyncio.timeout(5):
        found = await decoded_panic(panic, tmp_path / "lamp.elf", "no-addr2line", tmp_path, "boot")

    assert "core_dump" not in found["panic"]
    assert not list(tmp_path.glob("coredump*"))


async def test_a_core_dump_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Ours. The build directory may be gone by then."""
    async with asyncio.timeout(5):
        found = await decoded_panic(panic_with_core_dump(), tmp_path / "gone" / "a.elf", "no", tmp_path, "boot")

    assert "cannot be written: No such file or directory" in found["panic_report"][-1]
