"""Panics are found by any cuts, in any order of lines, and in linear time."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.idf.panic import Panic, PanicReader
from mcp_server.idf.panic.reader import BEFORE_LINES, KEPT, MAX_LINE_CHARS
from tests.unit.idf.test_panic_reader import SERIAL, lines_of, read


def test_line_of_a_megabyte_and_nuls_cost_little_and_hide_nothing() -> None:
    """Issue."""
    started = time.process_time()
    reader = read(b"x" * 1_000_000 + b"\0" * 1_000_000 + b"\nabort() was called at PC 0x400d7a19 on core 0\r\n")
    took = time.process_time() - started

    assert reader.count == 1
    assert took < 2


def test_text_beyond_4096_characters_of_a_line_is_not_read() -> None:
    """Issue. Callers cut there; one that does not costs no more."""
    assert read("", close=False).count == 0
    reader = PanicReader()
    reader.feed("x" * MAX_LINE_CHARS + "abort() was called at PC 0x1 on core 0")

    assert reader.count == 0


NASTY = [
    "assert failed: ",
    "assert failed: a b c d ",
    'assertion "" failed: file "',
    ": Assertion `",
    "a.c:1: f: Assertion `",
    "Guru Meditation Error: Core 0 panic'ed (",
    "***ERROR*** A stack overflow in task ",
    " - x (CPU ",
    "ESP_ERROR_CHECK failed: esp_err_t 0x1 (",
    "terminate called after throwing an instance of '",
    "task_wdt: CPU 0: ",
    "A1" + " " * 7,
    "3fc8d510: 0x00000000 ",
    "\x1b[",
    "\x1b",
    "E (1) boot",
    "ets ",
    "rst:0x1 (A",
]


@pytest.mark.parametrize("piece", NASTY)
def test_lines_made_to_be_slow_are_read_in_linear_time(piece: str) -> None:
    """Issue. 200 lines of 4 KB, alone and within a dump: 3 Mbaud brings 75 of them a second."""
    line = (piece * MAX_LINE_CHARS)[:MAX_LINE_CHARS]
    reader = PanicReader()
    started = time.process_time()
    for _ in range(100):
        reader.feed(line)
    reader.feed("E (5322) task_wdt: Task watchdog got triggered.")
    for _ in range(100):
        reader.feed(line)

    assert time.process_time() - started < 1.5


CRASH = (SERIAL / "serial-crash-c3-qemu.log").read_bytes()[:9000]


def fed_in_pieces(data: bytes, cuts: list[int]) -> PanicReader:
    """As a caller would: pieces arrive, whole lines are fed."""
    reader, rest = PanicReader(), b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        *lines, rest = (rest + data[start:end]).split(b"\n")
        for line in lines:
            for piece in lines_of(line):
                reader.feed(piece)
    for piece in lines_of(rest):
        reader.feed(piece)
    reader.close()
    return reader


@given(st.binary(max_size=300), st.lists(st.integers(0, 20_000), max_size=8))
def test_any_bytes_ahead_and_any_cuts_give_the_same_panics(noise: bytes, cuts: list[int]) -> None:
    """Issue."""
    data = noise + b"\n" + CRASH
    whole, cut = read(data), fed_in_pieces(data, cuts)

    assert whole.panics == cut.panics
    assert whole.panics[-1].kind == "store_fault"
    assert whole.panics[-1].registers["MEPC"] == 0x420057F0


@given(st.lists(st.one_of(st.sampled_from(CRASH.decode().splitlines() + NASTY), st.text(max_size=60)), max_size=80))
def test_any_lines_in_any_order_are_read_and_bounded(lines: list[str]) -> None:
    """Issue."""
    reader = PanicReader()
    for line in lines:
        reader.feed(line)
    reader.close()
    reader.close()

    assert len(reader.panics) == min(reader.count, KEPT)
    assert len(reader.warnings) == min(reader.warning_count, KEPT)
    assert not reader.open
    for panic in reader.panics:
        assert "{" not in panic.cause or any("{" in line for line in lines)
        assert len(panic.before) <= BEFORE_LINES
        assert Panic.model_validate_json(panic.model_dump_json()) == panic
