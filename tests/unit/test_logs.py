"""Slices of a log: whatever is in it, an answer is readable and bounded."""

import asyncio
from pathlib import Path

import pytest

from mcp_server.errors import BadInput
from mcp_server.hosts.base import Host
from mcp_server.hosts.search import literals
from mcp_server.logs import clean, slice_log


class Log:
    """The reading half of a host, over bytes."""

    def __init__(self, data: bytes, hole: tuple[int, int] | None = None) -> None:
        self.data, self.hole = data, hole

    async def log_hole(self, job_id: str) -> tuple[int, int] | None:
        return self.hole

    async def read_log(self, job_id: str, offset: int, max_bytes: int = 65_536) -> bytes:
        start = max(0, len(self.data) + offset) if offset < 0 else offset
        return self.data[start : start + max_bytes]


def host(data: bytes, hole: tuple[int, int] | None = None) -> Host:
    return Log(data, hole)  # pyright: ignore[reportReturnType]


LINES = b"".join(b"line %d\n" % number for number in range(1, 1001))


async def test_without_a_wish_the_end_of_the_log_is_shown() -> None:
    """Ours. The end is where a build says why it stopped."""
    assert (await slice_log(host(LINES), "j", "build", max_bytes=24)).text == "line 999\nline 1000"


async def test_the_last_lines_are_counted_as_a_person_counts_them() -> None:
    """Ours. The newline at the end makes no line of its own."""
    assert (await slice_log(host(LINES), "j", "build", tail=2)).text == "line 999\nline 1000"


async def test_matching_lines_come_with_their_numbers_and_their_count() -> None:
    """Ours. `around` then shows the neighbourhood of such a number."""
    found = await slice_log(host(LINES), "j", "build", grep="7$", max_bytes=30)
    near = await slice_log(host(LINES), "j", "build", around=997)

    assert found.text == "7: line 7\n17: line 17"
    assert found.note == "100 of 1000 lines match, the first 2 shown"
    assert near.text.splitlines()[12] == "997: line 997"


async def test_of_a_long_line_the_surroundings_of_the_match_are_shown() -> None:
    """Ours. A compiler's command line is four kilobytes, and matches nearly every word."""
    line = b"cc " + b"-Ia/b/c " * 400 + b"valve.c " + b"-DX " * 400
    found = await slice_log(host(line), "j", "build", grep="valve")

    assert "valve.c" in found.text
    assert len(found.text) < 320


async def test_a_pattern_that_would_take_for_ever_is_given_up_and_blocks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ours. Nested repetition on an unlucky line; the search is a process that can be killed."""
    monkeypatch.setattr("mcp_server.logs.SEARCH_S", 0.5)
    search = asyncio.create_task(slice_log(host(b"a" * 60), "j", "build", grep=r"(\w+\s?)+!$"))
    for _ in range(5):
        await asyncio.sleep(0)  # others go on meanwhile

    with pytest.raises(BadInput, match="simpler pattern"):
        await search


async def test_a_tail_that_does_not_fit_says_so() -> None:
    """Ours. Forty lines were asked for; fewer came."""
    found = await slice_log(host(LINES), "j", "build", tail=40, max_bytes=100)

    assert found.note.startswith("the last 10 lines")


async def test_offsets_go_on_where_the_last_slice_ended() -> None:
    """Ours. Bytes, so that nothing is lost or seen twice."""
    text, offset = "", 0
    while offset is not None:
        piece = await slice_log(host(LINES), "j", "build", offset=offset, max_bytes=999)
        text, offset = text + piece.text, piece.next_offset

    assert text == LINES.decode()


async def test_whole_lines_go_on_both_ways_from_any_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours. A reader who jumps into a log's middle reads on from there, up and down, and loses no byte."""
    monkeypatch.setattr("mcp_server.logs.PIECE_BYTES", 1000)
    data = LINES + b"the end"
    here = await slice_log(host(data), "j", "build", line=500, max_bytes=100)
    assert here.text.startswith("line 500\nline 501\n") and here.text.endswith("\n")
    assert here.start_offset == data.index(b"line 500") and here.next_offset == here.end_offset
    found = await slice_log(host(data), "j", "build", grep="^line 7", max_bytes=20)
    assert (found.matches, found.lines) == (111, 1001)

    text, start, end = here.text, here.start_offset, here.next_offset
    while start:
        piece = await slice_log(host(data), "j", "build", before=start, max_bytes=999)
        assert piece.end_offset == start and piece.text.startswith("line ")
        text, start = piece.text + text, piece.start_offset
    while end is not None:
        piece = await slice_log(host(data), "j", "build", offset=end, whole=True, max_bytes=999)
        assert piece.text.endswith("\n") or piece.next_offset is None
        text, end = text + piece.text, piece.next_offset
    assert text.encode() == data
    tail = await slice_log(host(data), "j", "build", before=2**53 - 1, max_bytes=30)
    assert (tail.text, tail.end_offset) == ("line 999\nline 1000\nthe end", len(data) - len("the end"))
    tail = await slice_log(host(data), "j", "build", offset=tail.end_offset, whole=True)
    assert (tail.text, tail.end_offset) == ("the end", len(data) - len("the end"))
    assert (await slice_log(host(b""), "j", "build", before=2**53 - 1)).end_offset == 0


async def test_a_line_behind_a_hole_has_its_own_byte() -> None:
    """Ours. The hole counts as a line of its own, as a search has it."""
    data = b"one\ntw" + bytes(1_000_000) + b"o\nlast\n"
    capped = host(data, (6, 1_000_006))
    found = [await slice_log(capped, "j", "build", line=number) for number in (1, 2, 3, 4, 5)]
    assert [piece.start_offset for piece in found] == [0, 4, 1_000_006, 1_000_006, 1_000_008]
    assert found[4].text == "last\n"
    back = await slice_log(capped, "j", "build", before=1_000_008)
    assert (back.text, back.start_offset) == ("o\n", 1_000_006)
    back = await slice_log(capped, "j", "build", before=1_000_006)
    assert (back.text, back.start_offset) == ("one\ntw", 0)
    assert "not kept" in back.note


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"grep": "("}, "no regular expression"),
        ({"grep": "x" * 501}, "longer than 500"),
        ({"around": 0}, "out of range"),
        ({"around": 2000}, "past the log's end"),
        ({"tail": -1}, "out of range"),
        ({"offset": -1}, "out of range"),
        ({"max_bytes": 10**9}, "out of range"),
        ({"line": 0}, "out of range"),
        ({"line": 2000}, "past the log's end: it has 1000 lines"),
        ({"grep": "a", "tail": 3}, "cannot be combined"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_one_sentence(wish: dict[str, int], sentence: str) -> None:
    """Ours."""
    with pytest.raises(BadInput, match=sentence):
        await slice_log(host(LINES), "j", "build", **wish)  # pyright: ignore[reportArgumentType]


def test_what_is_shown_is_text() -> None:
    """Ours. Colours, rewritten lines, NUL and broken UTF-8 are what logs are made of."""
    raw = b"\x1b[31mred\x1b[0m\r\n10%\r20%\r100%\nno\0thing \xff\n\x1b]0;title\x07x"

    assert clean(raw) == "red\n100%\nnothing �\nx"


async def test_a_log_of_one_endless_line_stays_bounded(tmp_path: Path) -> None:
    """Ours. 3 MB without a newline."""
    found = await slice_log(host(b"y" * 3_000_000), "j", "build", grep="y")

    assert len(found.text) < 400


async def test_a_hole_is_stepped_over_and_said() -> None:
    """Ours. Its NULs reach neither a search nor a person, and offsets stay true."""
    data = b"one\ntw" + bytes(1_000_000) + b"o\nlast\n"
    capped = host(data, (6, 1_000_006))
    before = await slice_log(capped, "j", "build", offset=0)
    after = await slice_log(capped, "j", "build", offset=6)
    found = await slice_log(capped, "j", "build", grep="last|not kept")

    assert (before.text, before.next_offset) == ("one\ntw", 6)
    assert (after.text, after.next_offset) == ("o\nlast\n", None)
    assert after.note == "bytes 6 to 1000006 were not kept: the log passed its cap"
    assert found.text == "3: [1000000 bytes were not kept here: the log passed its cap]\n5: last"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("error:", ["error:"]),
        ("error: .*foo", ["error: "]),
        ("^FAILED|fatal$", ["FAILED", "fatal"]),
        (r"main\.c:\d+", None),
        (r"main\.c", ["main.c"]),
        ("(?i)error", None),
        ("(?ai)Error:", ["Error:"]),
        ("a|error", None),
        ("errors?", None),
        ("[Ee]rror", None),
        ("a.b.c", None),
        ("", None),
    ],
)
def test_words_that_each_match_must_have(pattern: str, words: list[str] | None) -> None:
    """Ours. In doubt none: then the whole log is searched."""
    assert literals(pattern) == words
