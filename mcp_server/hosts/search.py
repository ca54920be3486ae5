"""Looks into a far job's log without bringing it here: candidates for a search, and lines by their numbers."""

import re
from collections.abc import AsyncIterator

from mcp_server.errors import HostUnreachable
from mcp_server.hosts.base import Channel, Host, JobId, check_id
from mcp_server.hosts.script import Script

SEARCH = Script("search")

_PLAIN = re.compile(r"[A-Za-z0-9 _/:;,<>=%#@!~&'\"-]+")
_KNOWN = re.compile(r"(?:[A-Za-z0-9 _/:;,<>=%#@!~&'\"-]|\.\*?|\\[.\[\](){}+*?^$|])+")
_ESCAPED = re.compile(r"\.\*?|(?:\\(.)|([^.\\]))")
MOST = 8_000_000  # bytes, as the script has it
LEAST = 3  # letters; fewer are in nearly every line
UNCLEAN = "[\001-\010\013-\037\177]"
"""What is taken out of a line before it is searched: such a line is a candidate in any case."""


ANY_CASE = "(?ai)"
"""What a pattern begins with where the case of ASCII letters is all the same: grep -i knows no others."""


class TooMany(Exception):
    """Nearly every line may match."""


def literals(pattern: str) -> list[str] | None:
    """Words of which each match of the regular expression `pattern` has one; None where that is not sure.

    Alternatives of plain letters, escaped signs, `.` and `.*`, maybe between ^ and $: what people search logs for.
    """
    found: list[str] = []
    for part in re.split(r"(?<!\\)\|", pattern.removeprefix(ANY_CASE)):
        inner = part.removeprefix("^")
        inner = inner[:-1] if inner.endswith("$") and not inner.endswith("\\$") else inner
        if not _KNOWN.fullmatch(inner):
            return None
        runs = [""]
        for match in _ESCAPED.finditer(inner):
            letter = match[1] or match[2]
            if letter:
                runs[-1] += letter
            else:
                runs.append("")
        longest = max(runs, key=len)
        if len(longest) < LEAST:
            return None
        found.append(longest)
    return found


async def candidates(
    host: Host, job_id: JobId, words: list[str], *, any_case: bool = False
) -> AsyncIterator[tuple[int, bytes]]:
    """Number and bytes of each line that has one of `words` or what `clean` takes out; at last (count of lines, b"").

    `any_case`: of ASCII letters. TooMany: 8 MB of candidates; then the log itself is no worse.
    """
    patterns = [re.sub(r"([.\[\](){}+*?^$|\\])", r"\\\1", word) for word in words]
    async with host.channel(SEARCH, "imatch" if any_case else "match", await _place(host, job_id)) as channel:
        await channel.write("\n".join([*patterns, UNCLEAN]).encode())
        await channel.end_input()
        size = 0
        async for line in _until_end(host, channel):
            size += len(line) + 1
            if size >= MOST:
                raise TooMany
            number, _, text = line.partition(b":")
            if number.isdigit():
                yield int(number), text
            elif line.startswith(b"end "):
                yield int(line[4:]), b""


async def lines(host: Host, job_id: JobId, first: int, last: int) -> tuple[list[bytes], int]:
    """The lines `first` to `last` (1 is the first), as many as there are, and how many there are up to `last`."""
    found: list[bytes] = []
    count = 0
    async with host.channel(SEARCH, "lines", await _place(host, job_id), str(first), str(last)) as channel:
        async for line in _until_end(host, channel):
            if line.startswith(b":"):
                found.append(line[1:])
            elif line.startswith(b"end "):
                count = int(line[4:])
    return found, count


async def measure(host: Host, job_id: JobId, count: int) -> tuple[int, int]:
    """How many of the first `count` lines there are, and how many bytes they take, that of a hole included."""
    async with host.channel(SEARCH, "at", await _place(host, job_id), str(count)) as channel:
        async for line in _until_end(host, channel):
            if line.startswith(b"end "):
                found, size = line[4:].split()
                return int(found), int(size)
    return 0, 0


async def _place(host: Host, job_id: JobId) -> str:
    check_id(job_id)
    await host.log_hole(job_id)  # NotFound where there is no such job
    return f"{(await host.directory()).rpartition('/')[2]}/{job_id}"


async def _until_end(host: Host, channel: Channel) -> AsyncIterator[bytes]:
    line = b""
    while not line.startswith(b"end "):
        line = await channel.readline()
        if not line.endswith(b"\n"):
            raise HostUnreachable(host.name, "its log was cut off while it was searched")
        line = line[:-1]
        yield line
