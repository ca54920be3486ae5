"""How fast logs are read, and in how much memory.

python -m benchmarks.diagnosis [LOG…]
"""

import re
import sys
import time
import tracemalloc
from pathlib import Path

from benchmarks.failing_log import failing_log
from mcp_server.idf.diagnostics import Diagnoser, Hints

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures" / "logs"
CHUNK_BYTES = 65_536  # as a log is followed
WANTED_BYTES = 8_000_000  # enough to time: a log is read again and again up to it
A_WORD = re.compile(rb"\b(error|warning|FAILED)\b")


def speed(log: bytes) -> float:
    """MB of the log, repeated and fed in chunks, a second of processor time."""
    data = log * max(1, WANTED_BYTES // max(len(log), 1))
    diagnoser = Diagnoser(hints=Hints())
    started = time.process_time()
    for start in range(0, len(data), CHUNK_BYTES):
        diagnoser.feed(data[start : start + CHUNK_BYTES])
    diagnoser.finish(2)
    return len(data) / (time.process_time() - started) / 1e6


def floor_speed(log: bytes) -> float:
    """The same of a loop that looks for one of three words in each line, and does nothing about them."""
    data = log * max(1, WANTED_BYTES // max(len(log), 1))
    started = time.process_time()
    found = sum(1 for line in data.split(b"\n") if A_WORD.search(line))
    took = time.process_time() - started
    assert found
    return len(data) / took / 1e6


def memory_growth(log: bytes, times: int) -> int:
    """Bytes that `times` readings of the log hold more than the first did, at most."""
    diagnoser = Diagnoser(hints=Hints())
    diagnoser.feed(log)
    tracemalloc.start()
    for _ in range(times):
        for start in range(0, len(log), CHUNK_BYTES):
            diagnoser.feed(log[start : start + CHUNK_BYTES])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main(names: list[str]) -> None:
    logs = {"2,000-line failing log": failing_log()}
    paths = [Path(name) for name in names] or sorted(FIXTURES.glob("*.log"))
    logs |= {path.name: path.read_bytes() for path in paths}
    for name, log in logs.items():
        speed(log[:100_000])  # patterns are compiled when first used
        print(f"{speed(log):7.1f} MB/s  {len(log):9,} B  {name}")
    ratio = floor_speed(failing_log()) / speed(failing_log())
    print(f"a loop that looks for three words in each line of the failing log is {ratio:.1f} times as fast")
    growth = memory_growth(failing_log(), 20)
    print(f"memory: at most {growth:,} B more while 20 further failing logs (3.8 MB) are read")


if __name__ == "__main__":
    main(sys.argv[1:])
