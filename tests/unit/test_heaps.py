"""The C library's heaps: tried in interpreters of their own, as the settings stay."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's settings")

LIBRARY = """
import ctypes
from mcp_server import heaps

class Info(ctypes.Structure):
    names = "arena ordblks smblks own_pages own_bytes usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
"""


def run(code: str) -> list[int]:
    """The numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY + code], capture_output=True, text=True, timeout=30, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_a_large_buffer_has_pages_of_its_own_also_after_the_first() -> None:
    """Ours. Buffers of 256 kB, cut to a line, left the worker's heap full of holes: 3 kB a build."""
    before, after = run(
        """
heaps.steady_heaps()
bytes(300_000)
before = library.mallinfo2().own_pages
kept = bytes(300_000)
print(before, library.mallinfo2().own_pages)
"""
    )

    assert after == before + 1


def test_free_pages_between_what_stays_are_given_back() -> None:
    """Ours. What one look through all builds takes is not the process's for ever."""
    before, after = run(
        """
import os
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
blocks = [bytearray(b"x" * 9000) for _ in range(4000)]
del blocks[::2]
before = resident()
heaps.give_back()
print(before, resident())
"""
    )

    assert before - after > 5_000_000
