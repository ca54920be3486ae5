"""A panic as the verdict of a run tells it: decoded as far as the build's ELF and the chip's tools allow."""

import asyncio
import shlex
from pathlib import Path
from typing import Any

from mcp_server.idf.panic import Panic, decode, panic_details, panic_report


async def decoded_panic(panic: Panic, elf: Path, addr2line: str, project: Path, stage: str) -> dict[str, Any]:
    """`panic` (kind, cause, frames, the lines before it) and `panic_report`, a few lines for a reader.

    A whole core dump is written beside the ELF, for ESP-IDF's own esp-coredump, whose command is told.
    """
    decoded = await decode(panic, elf, addr2line, project=project)
    about = {**panic_details(decoded), "elf": str(elf), "matches": decoded.matches}
    more: list[str] = []
    if panic.core_dump_whole:
        about["core_dump"] = kept = await asyncio.to_thread(_keep, panic, elf, stage)
        more = [f"  core dump: {kept.get('command') or kept['note']}"]
    return {"panic": about, "panic_report": panic_report(decoded, more)}


def _keep(panic: Panic, elf: Path, stage: str) -> dict[str, Any]:
    """Where the core dump lies and what reads it; of each stage the last one is kept."""
    path = elf.parent / f"coredump-{stage}.b64"
    try:
        path.write_text(panic.core_dump + "\n", encoding="ascii")
    except OSError as error:
        return {"bytes": panic.core_dump_bytes, "note": f"{path} cannot be written: {error.strerror}"}
    argv = ["esp-coredump", "info_corefile", "-t", "b64", "-c", str(path), str(elf)]
    return {"path": str(path), "bytes": panic.core_dump_bytes, "command": shlex.join(argv)}
