"""Whatever bytes a console may bring, in whatever pieces: the verdict is that of the lines."""

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.firmware_log import KEPT_LINES
from mcp_server.idf.lines import LINE_BYTES, LineCutter
from mcp_server.idf.verdict import FirmwareLog, judge
from tests.unit.idf.watched import BOOT, CRASH, CUT, STARTED, TESTS, TIMEOUT, watched


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b[0;32mI (5) app: re\x1b[1mady\x1b[0m\n",
        b"I (5) app: ready\r\r\n",
        b"I (5) app: ready\rnext\r",
        b"\0I (5) \0app: ready\0\n",
        b"\x1b]0;title\x07I (5) app: ready\n",
        b"\x02I (5) app: ready\x7f\n",
    ],
)
def test_line_is_seen_through_colours_and_control_characters(data: bytes) -> None:
    """Issue. ANSI, CR, NUL."""
    log = FirmwareLog([r"^I \(5\) app: ready$"])
    log.feed(data)
    log.close()

    assert log.complete


def test_megabyte_without_a_line_end_is_read_in_parts() -> None:
    """Issue. No newline for 1 MB: bounded memory, and what stands in it is found."""
    log = FirmwareLog(["needle"])
    data = b"x" * 1_000_000 + b"needle" + b"y" * 10_000
    for at in range(0, len(data), 1000):
        log.feed(data[at : at + 1000])
        assert len(log.last_lines) <= KEPT_LINES
        assert all(len(line) <= LINE_BYTES for line in log.last_lines)

    assert log.decided
    assert len(json.dumps(judge(log, None).details)) < 4000


def test_progress_is_the_last_line_and_the_tests() -> None:
    """Ours."""
    log = FirmwareLog()
    assert log.progress is None
    log.feed(b"main/t.c:3:a:PASS\nmain/t.c:3:b:FAIL\n" + b"w" * 500 + b"\n\n")
    progress = log.progress

    assert progress is not None
    assert (progress.done, progress.errors, progress.message) == (2, 1, "w" * 200)


PIECES = st.lists(
    st.sampled_from(
        [
            b"I (5) app: hello\r\n",
            b"ready",
            b"\n",
            b"\r",
            b"\xed\x95\x9c\xea\xb8\x80",
            b"\0\xff",
            b"\x1b[31m",
            b"FAULT\n",
            STARTED,
            b"z" * 5000,
            BOOT,
            CRASH[CRASH.index(b"Guru") : CUT + 20],
            b"ESP-ROM:esp32c3\nrst:0xc (RTC_SW_CPU_RST),boot:0x8 (SPI)\n",
            TESTS % (b"PASS", 0, b"OK"),
            b"main/t.c:9:b:FAIL: no\n",
            b"TEST(g, n)",
            b" PASS\n",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(PIECES, st.lists(st.integers(0, 30_000), max_size=8))
def test_verdict_is_the_same_however_the_log_was_split(data: bytes, cuts: list[int]) -> None:
    """Issue."""
    split = FirmwareLog(["ready", "hello"], ["FAULT"])
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, stop in itertools.pairwise(places):
        split.feed(data[start:stop])
    whole = FirmwareLog(["ready", "hello"], ["FAULT"])
    whole.feed(data)

    assert judge(split, TIMEOUT) == judge(whole, TIMEOUT)
    assert split.last_lines == whole.last_lines


@given(st.binary(max_size=300), st.integers(0, 300))
def test_lines_are_the_same_however_they_were_split(data: bytes, cut: int) -> None:
    """Ours. CR and LF in two pieces are one line end."""
    one, two = LineCutter(), LineCutter()

    assert [*one.feed(data[:cut]), *one.feed(data[cut:]), *one.close()] == [*two.feed(data), *two.close()]
    assert (one.total_bytes, one.garbage_bytes) == (two.total_bytes, two.garbage_bytes)


def test_byte_by_byte_gives_the_same_verdict() -> None:
    """Ours. An idle line brings single bytes."""
    log = FirmwareLog(["Hello world!"])
    for byte in BOOT:
        log.feed(bytes([byte]))

    assert judge(log, None) == watched(BOOT, "Hello world!")


@given(st.binary(max_size=2000))
def test_any_bytes_are_judged(data: bytes) -> None:
    """Ours."""
    verdict = watched(data, "(?i)ready", fail_on=("fatal",))

    json.dumps(verdict.details)
    assert verdict.result in ("timeout", "unknown", "fail", "pass")


def test_fast_line_does_not_hold_the_loop() -> None:
    """Issue. 3 Mbaud are 0.3 MB/s: a piece of 64 kB is 0.2 s of it."""
    log = FirmwareLog(["never", r"Got IP: \d+"], ["FAULT"])
    piece = (b"".join(b"I (%d) app: reading %d of the sensor, 23.5 C\r\n" % (at, at) for at in range(2000)))[:65_536]
    log.feed(piece)

    started = time.thread_time()
    log.feed(piece)
    assert time.thread_time() - started < 0.3
