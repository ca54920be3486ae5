"""Slices of a job's log: by offset, from the end, around a line, or the lines that match; bounded in size."""

import asyncio
import contextlib
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from mcp_server import log_search
from mcp_server.errors import BadInput
from mcp_server.hosts.base import Host, JobId

PIECE_BYTES = 262_144
LINE_BYTES = 32_768  # what is looked at of a longer line; a compiler's command line is about 4 kB
SEARCH_S = 10  # 256 MB, the largest log, take about half of it
MOST_BYTES = 200_000
MOST_LINES = 5_000
AROUND_LINES = 12

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Text of a stage's log. `next_offset` goes on where the slice ended, None at the log's end (as it is now)."""

    stage: str
    text: str
    next_offset: int | None = None
    note: str = ""


async def slice_log(
    host: Host,
    job_id: JobId,
    stage: str,
    *,
    grep: str | None = None,
    around: int | None = None,
    tail: int | None = None,
    offset: int | None = None,
    max_bytes: int = 4000,
) -> LogSlice:
    """One slice. Of grep, around (a line's number), tail (lines) and offset (bytes) at most one; none: the end.

    BadInput: two ways at once, a number out of range, a pattern that is no regular expression.
    """
    given = [
        name
        for name, value in (("grep", grep), ("around", around), ("tail", tail), ("offset", offset))
        if value is not None
    ]
    if len(given) > 1:
        raise BadInput(given[1], f"cannot be combined with {given[0]}: give one of grep, around, tail, offset")
    max_bytes = _in_range("max_bytes", max_bytes, 1, MOST_BYTES)
    if grep is not None:
        return await _matching(_lines(host, job_id), stage, _checked(grep), max_bytes)
    if around is not None:
        return await _around(_lines(host, job_id), stage, _in_range("around", around, 1, 10**9), max_bytes)
    if offset is not None:
        start = _in_range("offset", offset, 0, 2**62)
        piece = await host.read_log(job_id, start, max_bytes)
        return LogSlice(stage, clean(piece), next_offset=start + len(piece) if len(piece) == max_bytes else None)
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
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROL.sub("", "\n".join(lines))


async def _lines(host: Host, job_id: JobId) -> AsyncIterator[str]:
    offset, rest = 0, b""
    while piece := await host.read_log(job_id, offset, PIECE_BYTES):
        offset += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[:PIECE_BYTES]
        for line in whole:
            yield clean(line[:LINE_BYTES])
    if rest:
        yield clean(rest[:LINE_BYTES])


async def _matching(lines: AsyncIterator[str], stage: str, pattern: str, max_bytes: int) -> LogSlice:
    """BadInput: the pattern takes longer than SEARCH_S on this log."""
    search = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", log_search.__file__, pattern, str(max_bytes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SEARCH_S):
            output, _ = await asyncio.gather(_read(search.stdout), _write(search.stdin, lines))
    except TimeoutError:
        sentence = f"{pattern[:60]!r} takes longer than {SEARCH_S} s on this log: write a simpler pattern"
        raise BadInput("grep", sentence) from None
    finally:
        if search.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                search.kill()
            await search.wait()
    head, *kept = output.decode("utf-8", "replace").split("\n")
    hits, number = (int(word) for word in head.split())
    note = f"{hits} of {number} lines match" + (f", the first {len(kept)} shown" if len(kept) < hits else "")
    return LogSlice(stage, "\n".join(kept), note=note)


async def _read(pipe: asyncio.StreamReader | None) -> bytes:
    assert pipe is not None
    return await pipe.read()


async def _write(pipe: asyncio.StreamWriter | None, lines: AsyncIterator[str]) -> None:
    assert pipe is not None
    async for line in lines:
        pipe.write(line.encode("utf-8", "replace") + b"\n")
        await pipe.drain()
    pipe.close()


async def _around(lines: AsyncIterator[str], stage: str, wanted: int, max_bytes: int) -> LogSlice:
    window: deque[tuple[int, str]] = deque(maxlen=2 * AROUND_LINES + 1)
    number = 0
    async for line in lines:
        number += 1
        window.append((number, line))
        if number >= wanted + AROUND_LINES:
            break
    if number < wanted:
        raise BadInput("around", f"{wanted} is past the log's end: it has {number} lines")
    near = [(n, line) for n, line in window if abs(n - wanted) <= AROUND_LINES]
    return LogSlice(stage, "\n".join(_nearest(near, wanted, max_bytes)))


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
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadInput("grep", f"{pattern[:60]!r} is no regular expression: {error}") from error
    return pattern
