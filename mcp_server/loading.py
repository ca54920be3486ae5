"""What a program of ours leaves undone until it has loaded its modules: the search for garbage."""

import contextlib
import ctypes
import gc

M_ARENA_MAX = -8  # malloc.h of the GNU C library
ARENAS = 2


def all_is_loaded() -> None:
    """Collect garbage from here on; what is loaded stays, so it is left out of every later search.

    For a program that `mcp_server.__main__` started, which turned collection off. In any other process, such as that of
    tests, nothing happens.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def calm_collector() -> None:
    """Look for garbage less often, and not among what is loaded: that stopped all builds or answers for 50 ms."""
    gc.freeze()
    gc.set_threshold(10_000)


def few_arenas() -> None:
    """Have threads share their heaps, from here on, where the C library knows of such.

    Each thread of a long-lived program would take one for itself, up to eight a core, and what SQLite reads would grow
    in all of them: a worker that had fifty jobs took 30 MB more an hour.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
