"""Runs one program for a template: in a process group of its own, within a time and a size."""

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_server.errors import BadInput

LOOK_S = 0.25  # between two looks at what it has written
TAIL_BYTES = 20_000
END_S = 5  # for the pipe of a program that was killed


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a template, or a project made of one, may hold at most."""

    files: int = 5000
    size: int = 100_000_000  # bytes

    @property
    def too_much(self) -> str:
        return f"larger than {self.files} files or {self.size / 1_000_000:g} MB, which is the most"


async def run(
    argv: Sequence[str], environment: Mapping[str, str], cwd: Path, *, limit_s: float, writes: Path, bounds: Bounds
) -> tuple[int, str]:
    """Exit code and the end of what it printed. BadInput: it took too long, or `writes` grew beyond `bounds`.

    Whatever it started in its own process group is gone when this returns, also where the caller is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(environment),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    reading = asyncio.create_task(_tail(process))
    try:
        async with asyncio.timeout(limit_s):
            while not (await asyncio.wait({reading}, timeout=LOOK_S))[0]:
                await asyncio.to_thread(measure, writes, bounds)
            code = await process.wait()
    except TimeoutError:
        raise BadInput("template", f"making the project took longer than {limit_s:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait({reading}, timeout=END_S)
        reading.cancel()
        await process.wait()
    return code, reading.result() if not reading.cancelled() else ""


async def _tail(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    kept = b""
    while data := await process.stdout.read(65_536):
        kept = (kept + data)[-TAIL_BYTES:]
    return kept.decode("utf-8", "replace")


def measure(folder: Path, bounds: Bounds) -> None:
    """BadInput: `folder` holds more than `bounds`. Follows no link; what vanishes meanwhile is not counted."""
    files = size = 0
    for place, folders, names in os.walk(folder):
        files += len(folders) + len(names)
        for name in names:
            with contextlib.suppress(OSError):
                found = Path(place, name).lstat()
                size += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if files > bounds.files or size > bounds.size:
            raise BadInput("template", f"it is {bounds.too_much}")
