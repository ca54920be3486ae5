"""Build tools that somebody else runs in a build directory, by hand say: noticed, and waited for.

A hand-run `idf.py build` takes no lock of ours, but its ninja and CMake work in the build directory itself.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("ninja", "cmake", "make", "gmake")


@dataclass(frozen=True, slots=True)
class Stranger:
    """A build tool of another program."""

    pid: int
    name: str


def strangers(build_dir: Path) -> Iterator[Stranger]:
    """Build tools whose working directory is `build_dir`. None is found where there is no /proc (macOS)."""
    wanted = str(build_dir.resolve())
    for pid in (int(name) for name in _processes() if name.isdecimal()):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == wanted:  # noqa: PTH115 - a thousand Path objects cost 5 ms
                name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
                if name in TOOLS:
                    yield Stranger(pid, name)
        except OSError:  # gone, or another user's
            continue


async def until_alone(build_dir: Path, tell: Callable[[str], Awaitable[None]]) -> None:
    """Return once no stranger builds in `build_dir`; `tell` is called with a sentence if there is one to wait for."""
    while found := await asyncio.to_thread(lambda: next(strangers(build_dir), None)):
        await tell(f"waiting for {found.name} (process {found.pid}), which was started by hand in {build_dir}")
        await _ended(found.pid)


async def _ended(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _processes() -> list[str]:
    try:
        return os.listdir("/proc")  # noqa: PTH208
    except OSError:
        return []
