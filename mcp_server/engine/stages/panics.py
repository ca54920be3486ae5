"""A panic as the verdict of a run tells it: decoded as far as the build's ELF and the chip's tools allow."""

import asyncio
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from mcp_server.idf.panic import Decoded, Panic, decode, panic_details, panic_report, undecoded


async def decoded_panic(
    panic: Panic, build_dir: Path, elf: Path, addr2line: str, project: Path, stage: str
) -> dict[str, Any]:
    """`panic` (kind, cause, frames, the lines before it) and `panic_report`, a few lines for a reader.

    `elf` is what the project names: one that lies outside `build_dir` is not the build's and is not opened.
    A whole core dump is written into `build_dir`, for ESP-IDF's own esp-coredump, whose command is told.
    """
    if not (panic.backtrace or panic.registers or panic.stack or panic.pc is not None):
        decoded = Decoded(panic=panic)  # e.g. a brownout: no address was printed, so no ELF is missed
    elif await asyncio.to_thread(_is_inside, elf, build_dir):
        decoded = await decode(panic, elf, addr2line, project=project)
    else:
        decoded = undecoded(panic, None, f"not decoded: {elf} lies outside the build directory {build_dir}")
    about = {**panic_details(decoded), "elf": str(elf), "matches": decoded.matches}
    more: list[str] = []
    if panic.core_dump_whole:
        about["core_dump"] = kept = await asyncio.to_thread(_keep, panic, build_dir, elf, stage)
        more = [f"  core dump: {kept.get('command') or kept['note']}"]
    return {"panic": about, "panic_report": panic_report(decoded, more)}


def _is_inside(elf: Path, build_dir: Path) -> bool:
    try:
        return Path(os.path.realpath(elf)).is_relative_to(os.path.realpath(build_dir))
    except ValueError:  # a NUL in its name
        return False


def _keep(panic: Panic, build_dir: Path, elf: Path, stage: str) -> dict[str, Any]:
    """Where the core dump lies and what reads it; of each stage the last one is kept."""
    path = build_dir / f"coredump-{stage}.b64"
    try:
        # What lies there may be a FIFO, or a link to a file of somebody else: it is replaced, never opened.
        with tempfile.TemporaryDirectory(prefix=".coredump-", dir=build_dir) as folder:
            new = Path(folder, path.name)
            new.write_text(panic.core_dump + "\n", encoding="ascii")
            new.replace(path)
    except OSError as error:
        return {"bytes": panic.core_dump_bytes, "note": f"{path} cannot be written: {error.strerror}"}
    argv = ["esp-coredump", "info_corefile", "-t", "b64", "-c", str(path), str(elf)]
    return {"path": str(path), "bytes": panic.core_dump_bytes, "command": shlex.join(argv)}
