"""How fast what firmware says is read, and how soon the expected line decides.

python -m benchmarks.firmware_log
"""

import random
import statistics
import time
from pathlib import Path

from mcp_server.idf.verdict import FirmwareLog

SERIAL = Path(__file__).parent.parent / "tests" / "fixtures" / "serial"
LINE_RATE_MB_S = 0.3  # 3 Mbaud, ten bits a byte
CHUNK_BYTES = 4096
WANTED_BYTES = 6_000_000
EXPECT = [r"Got IP: \d+\.\d+\.\d+\.\d+", r"(?i)self[- ]test passed", r"never printed"]
FAIL_ON = [r"\bFAULT\b", r"assertion .* failed"]


def logs() -> dict[str, bytes]:
    """Logs of a fast console, by what is in them."""
    boot = (SERIAL / "serial-ok-c3-qemu.log").read_bytes().replace(b"0x1 (POWERON)", b"0x5 (DSLEEP)")
    chance = random.Random(1)
    sensors = [b"I (%d) sensor: reading %d: %.2f C, %d %%\r\n" % (at, at, at / 7, at % 100) for at in range(2000)]
    colours = [b"\x1b[0;32m%s\x1b[0m\r\n" % line.strip() for line in sensors]
    return {
        "boots, again and again": boot,
        "sensor readings": b"".join(sensors),
        "the same in colours": b"".join(colours),
        "Korean text": "I (5) 밸브: 온도 23.5도, 습도 40 %, 열림\r\n".encode() * 500,
        "hex dump": b"".join(b"%08x: %s\r\n" % (at, chance.randbytes(32).hex(" ").encode()) for at in range(500)),
        "no line end": b"0123456789abcdef" * 4000,
        "garbage (wrong baud)": chance.randbytes(100_000),
        "Unity results": b"".join(b"main/test_%d.c:%d:test_%d:PASS\r\n" % (at, at, at) for at in range(1000)),
    }


def speed(data: bytes) -> float:
    """MB of the log, repeated and fed in chunks, a second of processor time."""
    data *= max(1, WANTED_BYTES // len(data))
    log = FirmwareLog(EXPECT, FAIL_ON)
    started = time.process_time()
    for at in range(0, len(data), CHUNK_BYTES):
        log.feed(data[at : at + CHUNK_BYTES])
    assert not log.failed, log.failed_line
    return len(data) / (time.process_time() - started) / 1e6


def delays(chunk_bytes: int) -> list[float]:
    """Milliseconds from having a chunk, whose last line is the expected one, to `decided`."""
    line = b"I (5) app: Got IP: 10.0.0.7\r\n"
    filler = (b"I (5) app: working on something else\r\n" * (chunk_bytes // 38 + 1))[: max(0, chunk_bytes - len(line))]
    taken: list[float] = []
    for _ in range(50):
        log = FirmwareLog(EXPECT[:1], FAIL_ON)
        started = time.perf_counter()
        log.feed(filler[: filler.rfind(b"\n") + 1] + line)
        assert log.decided
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def main() -> None:
    for name, data in logs().items():
        found = speed(data)
        print(f"{found:6.1f} MB/s  {found / LINE_RATE_MB_S:5.0f} x 3 Mbaud  {name}")
    for chunk_bytes in (64, 4096, 65_536):
        taken = delays(chunk_bytes)
        print(f"{statistics.median(taken):6.2f} ms median, {max(taken):.2f} ms at most: decided in {chunk_bytes:,} B")


if __name__ == "__main__":
    main()
