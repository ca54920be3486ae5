"""The C library's heaps in a process that lives long: kept from growing with the hours."""

import asyncio
import contextlib
import ctypes
from typing import NoReturn

from mcp_server.clock import Clock

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h of the GNU C library
ARENAS = 2
OWN_PAGES_BYTES = 128 * 1024  # as at a process's start
GIVE_BACK_S = 60


def steady_heaps() -> None:
    """Have few heaps with few holes, from here on, where the C library knows of such settings.

    Each thread would have a heap of its own, up to eight a core, and what SQLite reads would grow in all of them. And
    what is read from a process or a connection comes in buffers of 256 kB, cut to what was there: in a heap they leave
    holes that nothing fills, as pages of their own they leave none. Unless it is told so, the library takes them from
    the heap as soon as the first was given back.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, ARENAS)
        library.mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES)


async def keep_giving_back(clock: Clock) -> NoReturn:
    """Once a minute, give back what is free in the heaps, until cancelled."""
    while True:
        await clock.sleep(GIVE_BACK_S)
        await asyncio.to_thread(give_back)


def give_back() -> None:
    """Let the system have the free pages of the heaps.

    Of itself the C library gives back what is free at a heap's end. What lies between two things that stay, such as
    the pages that one look through all builds took, would be the process's for ever.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
