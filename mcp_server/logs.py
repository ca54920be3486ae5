"""Slices of a job's log: by offset, from the end, around or from a line, or the lines that match; bounded in size."""

import asyncio
import contextlib
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TypedDict

from mcp_server import log_search
from mcp_server.errors import BadInput
from mcp_server.hosts import search
from mcp_server.hosts.base import Host, JobId
from mcp_server.hosts.far import FarHost

PIECE_BYTES = 262_144
LINE_BYTES = 32_768  # what is looked at of a longer line; a compiler's command line is about 4 kB
SEARCH_S = 10  # 256 MB, the largest log, take about half of it
MOST_BYTES = 200_000
MOST_LINES = 5_000
AROUND_LINES = 12

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # and what turns the writing around


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Text of a stage's log. `next_offset` goes on where the slice ended, None at the log's end (as it is now).

    `end_offset`: where a slice by offset ended, at the log's end, too: what is written later begins there.
    `start_offset`: where a slice by line, before or offset begins. `matches` of `lines` lines have what was searched.
    """

    stage: str
    text: str
    next_offset: int | None = None
    note: str = ""
    end_offset: int | None = None
    start_offset: int | None = None
    matches: int | None = None
    lines: int | None = None


class Wish(TypedDict, total=False):
    """What of a log is wanted: the arguments of `slice_log`."""

    grep: str | None
    around: int | None
    tail: int | None
    offset: int | None
    line: int | None
    before: int | None
    whole: bool
    max_bytes: int


async def slice_log(
    host: Host,
    job_id: JobId,
    stage: str,
    *,
    grep: str | None = None,
    around: int | None = None,
    tail: int | None = None,
    offset: int | None = None,
    line: int | None = None,
    before: int | None = None,
    whole: bool = False,
    max_bytes: int = 4000,
) -> LogSlice:
    """One slice. Of grep, around, tail, offset, line and before at most one; none: the end.

    `around` and `line` are a line's number, `tail` lines, `offset` and `before` bytes. From `line` and up to `before`
    lines are whole, from `offset` on they are with `whole`: `end_offset` is behind a line, also where an unfinished one
    of the log's end is shown. `before` past the log's end means that.
    BadInput: two ways at once, a number out of range, a pattern that is no regular expression.
    """
    given = [
        name
        for name, value in (
            ("grep", grep),
            ("around", around),
            ("tail", tail),
            ("offset", offset),
            ("line", line),
            ("before", before),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise BadInput(given[1], f"cannot be combined with {given[0]}: give one of grep, around, tail, offset")
    max_bytes = _in_range("max_bytes", max_bytes, 1, MOST_BYTES)
    if line is not None:
        offset = await _offset_of(host, job_id, _in_range("line", line, 1, 10**9))
        return await _from(host, job_id, stage, offset, max_bytes, whole=True)
    if before is not None:
        return await _before(host, job_id, stage, _in_range("before", before, 0, 2**62), max_bytes)
    if grep is not None:
        return await _search(host, job_id, stage, _checked(grep), max_bytes)
    if around is not None:
        return await _around(host, job_id, stage, _in_range("around", around, 1, 10**9), max_bytes)
    if offset is not None:
        return await _from(host, job_id, stage, _in_range("offset", offset, 0, 2**62), max_bytes, whole=whole)
    count = _in_range("tail", tail if tail is not None else MOST_LINES, 1, MOST_LINES)
    piece = await host.read_log(job_id, -max_bytes, max_bytes)
    lines = piece.removesuffix(b"\n").split(b"\n")
    if len(piece) == max_bytes and len(lines) > 1:
        lines = lines[1:]  # cut somewhere in its middle
    cut = tail is not None and len(piece) == max_bytes and len(lines) < count
    note = f"the last {len(lines)} lines: max_bytes={max_bytes} holds no more" if cut else ""
    return LogSlice(stage, clean(b"\n".join(lines[-count:])), note=note)


def clean(data: bytes) -> str:
    """Readable text of raw log bytes: no colours, no control characters, of a rewritten line its last state."""
    text = _ANSI.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n")
    # The whole line is shown where its last state would look like a monitor's own remark: a board said it.
    text = text.replace("\r--- [", "\N{SYMBOL FOR CARRIAGE RETURN}--- [")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROL.sub("", "\n".join(lines))


async def _from(host: Host, job_id: JobId, stage: str, start: int, max_bytes: int, *, whole: bool) -> LogSlice:
    first, last = await host.log_hole(job_id) or (0, 0)
    note = ""
    if first <= start < last:
        note = f"bytes {start} to {last} were not kept: the log passed its cap"
        start = last
    wanted = min(max_bytes, first - start) if start < first else max_bytes
    piece = await host.read_log(job_id, start, wanted)
    more = len(piece) == wanted
    end = start + len(piece)
    if whole and start + wanted != first:
        end = start + piece.rfind(b"\n") + 1
        if more:
            piece, end = (piece[: end - start], end) if end > start else (piece, start + len(piece))
    return LogSlice(stage, clean(piece), end if more else None, note, end, start)


async def _before(host: Host, job_id: JobId, stage: str, end: int, max_bytes: int) -> LogSlice:
    """Whole lines up to `end`, which is where one begins, or the log's end; `next_offset` is None."""
    first, last = await host.log_hole(job_id) or (0, 0)
    past = end > 0 and not await host.read_log(job_id, end - 1, 1)
    if past:
        end = await _size(host, job_id, end)
    note, floor = "", last if end > last else 0
    if first < end <= last:
        note = f"bytes {first} to {end} were not kept: the log passed its cap"
        end = first
    start = max(floor, end - max_bytes)
    piece = await host.read_log(job_id, start, end - start) if end > start else b""
    if start > floor:
        cut = piece.find(b"\n", 0, -1) + 1
        start, piece = start + cut, piece[cut:]
    behind = piece.rfind(b"\n") + 1 if past else len(piece)
    return LogSlice(stage, clean(piece), None, note, start + behind, start)


async def _size(host: Host, job_id: JobId, most: int) -> int:
    """The log's bytes, fewer than `most`, as they are now: no question is for more than one of them."""
    low, high = 0, PIECE_BYTES
    while high < most and await host.read_log(job_id, high - 1, 1):
        low, high = high, high * 4
    high = min(high, most)
    while low < high:
        middle = (low + high) // 2
        if await host.read_log(job_id, middle, 1):
            low = middle + 1
        else:
            high = middle
    return low


async def _offset_of(host: Host, job_id: JobId, wanted: int) -> int:
    """The byte where line `wanted` begins. BadInput: the log has fewer."""
    first, last = await host.log_hole(job_id) or (0, 0)
    hole = b"\n" + _hole(first, last) if last else b""
    if isinstance(host, FarHost):
        number, size = await search.measure(host, job_id, wanted - 1)
        offset = size if size <= first or not last else max(last, size - len(hole) + last - first)
    else:
        number, offset = await _count(host, job_id, wanted - 1, (first, last), hole.count(b"\n"))
    if number < wanted - 1:
        raise BadInput("line", f"{wanted} is past the log's end: it has {number} lines")
    return offset


async def _count(host: Host, job_id: JobId, wanted: int, hole: tuple[int, int], hole_lines: int) -> tuple[int, int]:
    """How many lines there are, at most `wanted`, and the byte behind them. The hole counts as lines, too."""
    number = offset = 0
    rest = b""
    first, last = hole
    while number < wanted:
        most = min(PIECE_BYTES, first - offset) if offset < first else PIECE_BYTES
        piece = await host.read_log(job_id, offset, most)
        if not piece:
            return number + bool(rest), offset
        found = piece.count(b"\n")
        if number + found >= wanted:
            at = -1
            for _ in range(wanted - number):
                at = piece.index(b"\n", at + 1)
            return wanted, offset + at + 1
        number, offset, rest = number + found, offset + len(piece), piece.rpartition(b"\n")[2]
        if offset == first and last:
            number, offset = number + hole_lines, last
    return number, offset


def _hole(first: int, last: int) -> bytes:
    return b"[%d bytes were not kept here: the log passed its cap]\n" % (last - first)


async def _lines(host: Host, job_id: JobId) -> AsyncIterator[str]:
    offset, rest = 0, b""
    first, last = await host.log_hole(job_id) or (0, 0)
    while piece := await host.read_log(
        job_id, offset, min(PIECE_BYTES, first - offset) if offset < first else PIECE_BYTES
    ):
        offset += len(piece)
        if offset == first and last:
            piece += b"\n" + _hole(first, last)
            offset = last
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[:PIECE_BYTES]
        for line in whole:
            yield clean(line[:LINE_BYTES])
    if rest:
        yield clean(rest[:LINE_BYTES])


async def _search(host: Host, job_id: JobId, stage: str, pattern: str, max_bytes: int) -> LogSlice:
    """A far log is looked through where it lies, as long as the pattern has words that each match must have."""
    words = search.literals(pattern) if isinstance(host, FarHost) else None
    if words is not None:
        with contextlib.suppress(search.TooMany):
            lines = _numbered(host, job_id, words, any_case=pattern.startswith(search.ANY_CASE))
            return await _matching(lines, stage, pattern, max_bytes, "numbered")
    return await _matching(_lines(host, job_id), stage, pattern, max_bytes)


async def _numbered(host: Host, job_id: JobId, words: list[str], *, any_case: bool) -> AsyncIterator[str]:
    async for number, line in search.candidates(host, job_id, words, any_case=any_case):
        yield f"{number}:{clean(line[:LINE_BYTES])}" if line else f"={number}"


async def _matching(lines: AsyncIterator[str], stage: str, pattern: str, max_bytes: int, *mode: str) -> LogSlice:
    """BadInput: the pattern takes longer than SEARCH_S on this log."""
    finder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", log_search.__file__, pattern, str(max_bytes), *mode),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SEARCH_S):
            output, _ = await asyncio.gather(_read(finder.stdout), _write(finder.stdin, lines))
    except TimeoutError:
        sentence = f"{pattern[:60]!r} takes longer than {SEARCH_S} s on this log: write a simpler pattern"
        raise BadInput("grep", sentence) from None
    finally:
        if finder.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                finder.kill()
            await finder.wait()
    head, *kept = output.decode("utf-8", "replace").split("\n")
    hits, number = (int(word) for word in head.split())
    note = f"{hits} of {number} lines match" + (f", the first {len(kept)} shown" if len(kept) < hits else "")
    return LogSlice(stage, "\n".join(kept), note=note, matches=hits, lines=number)


async def _read(pipe: asyncio.StreamReader | None) -> bytes:
    assert pipe is not None
    return await pipe.read()


async def _write(pipe: asyncio.StreamWriter | None, lines: AsyncIterator[str]) -> None:
    assert pipe is not None
    async for line in lines:
        pipe.write(line.encode("utf-8", "replace") + b"\n")
        await pipe.drain()
    pipe.close()


async def _around(host: Host, job_id: JobId, stage: str, wanted: int, max_bytes: int) -> LogSlice:
    if isinstance(host, FarHost):
        start = max(1, wanted - AROUND_LINES)
        found, number = await search.lines(host, job_id, start, wanted + AROUND_LINES)
        near = [(start + at, clean(line[:LINE_BYTES])) for at, line in enumerate(found)]
    else:
        near, number = await _near(_lines(host, job_id), wanted)
    if number < wanted:
        raise BadInput("around", f"{wanted} is past the log's end: it has {number} lines")
    return LogSlice(stage, "\n".join(_nearest(near, wanted, max_bytes)))


async def _near(lines: AsyncIterator[str], wanted: int) -> tuple[list[tuple[int, str]], int]:
    """The wanted line's neighbourhood, and how many lines were looked at."""
    window: deque[tuple[int, str]] = deque(maxlen=2 * AROUND_LINES + 1)
    number = 0
    async for line in lines:
        number += 1
        window.append((number, line))
        if number >= wanted + AROUND_LINES:
            break
    return [(n, line) for n, line in window if abs(n - wanted) <= AROUND_LINES], number


def _nearest(lines: Iterable[tuple[int, str]], wanted: int, max_bytes: int) -> list[str]:
    """As many lines as fit, those next to the wanted one first, in their order."""
    chosen: list[tuple[int, str]] = []
    size = 0
    for number, line in sorted(lines, key=lambda item: abs(item[0] - wanted)):
        shown = f"{number}: {line}"
        size += len(shown.encode()) + 1
        if size > max_bytes and chosen:
            break
        chosen.append((number, shown[:max_bytes]))
    return [shown for _, shown in sorted(chosen)]


def _in_range(argument: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise BadInput(argument, f"{value} is out of range: {least} to {most}")
    return value


def _checked(pattern: str) -> str:
    if len(pattern) > 500:
        raise BadInput("grep", "is longer than 500 characters")
    if "\0" in pattern:
        raise BadInput("grep", "holds a NUL, which no line has")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadInput("grep", f"{pattern[:60]!r} is no regular expression: {error}") from error
    return pattern
