"""A panic as the verdict of a run tells it: decoded as far as the build's ELF and the chip's tools allow."""

from pathlib import Path
from typing import Any

from mcp_server.idf.panic import Panic, decode, panic_details, panic_report


async def decoded_panic(panic: Panic, elf: Path, addr2line: str, project: Path) -> dict[str, Any]:
    """`panic` (kind, cause, frames, the lines before it) and `panic_report`, a few lines for a reader."""
    decoded = await decode(panic, elf, addr2line, project=project)
    about = {**panic_details(decoded), "elf": str(elf), "matches": decoded.matches}
    return {"panic": about, "panic_report": panic_report(decoded)}
